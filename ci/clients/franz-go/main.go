// Command franz-go writes with the default (idempotent) producer and reads by partition and offset, without a group, and compares every byte.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const partitions = 3

type testCase struct {
	name string
	run  func(ctx context.Context, target string) error
}

var cases = []testCase{
	{"every_codec", everyCodec},
	{"large_records", largeRecords},
	{"many_partitions_in_order", manyPartitions},
	{"from_the_middle", fromTheMiddle},
	{"after_a_time", afterATime},
	{"without_idempotence", withoutIdempotence},
}

func main() {
	failed := false
	for _, c := range cases {
		started := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		err := c.run(ctx, os.Args[1])
		cancel()
		if err != nil {
			failed = true
			fmt.Printf("  FAIL franz-go/%s after %.1f s: %v\n", c.name, time.Since(started).Seconds(), err)
			continue
		}
		fmt.Printf("  ok   franz-go/%s %.1f s\n", c.name, time.Since(started).Seconds())
	}
	if failed {
		os.Exit(1)
	}
}

// createTopic makes a topic that no run before this one has used.
func createTopic(ctx context.Context, target, name string) (string, error) {
	topic := fmt.Sprintf("franz-%s-%d", name, time.Now().UnixNano())
	client, err := kgo.NewClient(kgo.SeedBrokers(target))
	if err != nil {
		return "", err
	}
	defer client.Close()
	request := kmsg.NewPtrCreateTopicsRequest()
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, partitions, 1
	request.Topics = append(request.Topics, wanted)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return "", err
	}
	return topic, kerr.ErrorForCode(response.Topics[0].ErrorCode)
}

// noise is incompressible and the same for the same seed.
func noise(seed string, count int) []byte {
	out := make([]byte, 0, count+sha256.Size)
	for block := sha256.Sum256([]byte(seed)); len(out) < count; block = sha256.Sum256(block[:]) {
		out = append(out, block[:]...)
	}
	return out[:count]
}

func assorted(topic string, partition int32, seed string) []*kgo.Record {
	records := []*kgo.Record{
		{Value: []byte("only a value")},
		{Key: []byte("only a key")},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{
			{Key: "one", Value: []byte("1")}, {Key: "null"}, {Key: "one", Value: []byte{0, 255}},
		}},
		{Key: []byte("long"), Value: bytes.Repeat([]byte("abc"), 5000)},
	}
	for number := range 200 {
		records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "%s-%d", seed, number), Value: noise(seed, number)})
	}
	for _, record := range records {
		record.Topic, record.Partition = topic, partition
	}
	return records
}

// write produces in order and returns an error unless the acknowledged offsets follow one another in each partition.
func write(ctx context.Context, target string, records []*kgo.Record, options ...kgo.Opt) error {
	options = append([]kgo.Opt{
		kgo.SeedBrokers(target), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5 * time.Millisecond),
	}, options...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	last := map[int32]int64{}
	for _, record := range records {
		if before, seen := last[record.Partition]; seen && record.Offset != before+1 {
			return fmt.Errorf("partition %d: offset %d acknowledged after %d", record.Partition, record.Offset, before)
		}
		last[record.Partition] = record.Offset
	}
	return nil
}

// compare reads each partition from the place given and expects exactly the records.
func compare(ctx context.Context, target string, records []*kgo.Record, from map[int32]kgo.Offset) error {
	wanted := map[int32][]*kgo.Record{}
	for _, record := range records {
		wanted[record.Partition] = append(wanted[record.Partition], record)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(target),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{records[0].Topic: from}))
	if err != nil {
		return err
	}
	defer client.Close()
	for left := len(records); left > 0; {
		fetches := client.PollFetches(ctx)
		if errors := fetches.Errors(); len(errors) > 0 {
			return fmt.Errorf("%d records short: %w", left, errors[0].Err)
		}
		for _, found := range fetches.Records() {
			if len(wanted[found.Partition]) == 0 {
				return fmt.Errorf("an unexpected record at %d/%d", found.Partition, found.Offset)
			}
			if err := same(wanted[found.Partition][0], found); err != nil {
				return err
			}
			wanted[found.Partition] = wanted[found.Partition][1:]
			left--
		}
	}
	return nil
}

func same(wrote, read *kgo.Record) error {
	equal := wrote.Offset == read.Offset && sameBytes(wrote.Key, read.Key) && sameBytes(wrote.Value, read.Value) &&
		len(wrote.Headers) == len(read.Headers)
	for number := 0; equal && number < len(wrote.Headers); number++ {
		equal = wrote.Headers[number].Key == read.Headers[number].Key &&
			sameBytes(wrote.Headers[number].Value, read.Headers[number].Value)
	}
	if !equal {
		return fmt.Errorf("partition %d: wrote %d (%d byte value), read %d (%d byte value), not the same",
			read.Partition, wrote.Offset, len(wrote.Value), read.Offset, len(read.Value))
	}
	return nil
}

func sameBytes(left, right []byte) bool {
	return (left == nil) == (right == nil) && bytes.Equal(left, right)
}

func start(partition int32, offset int64) map[int32]kgo.Offset {
	return map[int32]kgo.Offset{partition: kgo.NewOffset().At(offset)}
}

func everyCodec(ctx context.Context, target string) error {
	topic, err := createTopic(ctx, target, "codec")
	if err != nil {
		return err
	}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for number, codec := range codecs {
		records := assorted(topic, int32(number%partitions), fmt.Sprint(number))
		if err := write(ctx, target, records, kgo.ProducerBatchCompression(codec)); err != nil {
			return fmt.Errorf("codec %d: %w", number, err)
		}
		if err := compare(ctx, target, records, start(records[0].Partition, records[0].Offset)); err != nil {
			return fmt.Errorf("codec %d: %w", number, err)
		}
	}
	return nil
}

func largeRecords(ctx context.Context, target string) error {
	topic, err := createTopic(ctx, target, "large")
	if err != nil {
		return err
	}
	var records []*kgo.Record
	for number := range 3 {
		records = append(records, &kgo.Record{Topic: topic, Value: noise(fmt.Sprint(number), 900_000-number)})
	}
	if err := write(ctx, target, records); err != nil {
		return err
	}
	return compare(ctx, target, records, start(0, 0))
}

func manyPartitions(ctx context.Context, target string) error {
	topic, err := createTopic(ctx, target, "many")
	if err != nil {
		return err
	}
	var records []*kgo.Record
	for number := range 3000 {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(number % partitions), Value: noise(fmt.Sprint(number), 300)})
	}
	if err := write(ctx, target, records, kgo.ProducerBatchMaxBytes(20_000)); err != nil {
		return err
	}
	from := map[int32]kgo.Offset{}
	for partition := range int32(partitions) {
		from[partition] = kgo.NewOffset().AtStart()
	}
	return compare(ctx, target, records, from)
}

func fromTheMiddle(ctx context.Context, target string) error {
	topic, err := createTopic(ctx, target, "middle")
	if err != nil {
		return err
	}
	records := assorted(topic, 1, "middle")
	if err := write(ctx, target, records, kgo.ProducerBatchCompression(kgo.ZstdCompression())); err != nil {
		return err
	}
	return compare(ctx, target, records[37:], start(1, 37))
}

func afterATime(ctx context.Context, target string) error {
	topic, err := createTopic(ctx, target, "time")
	if err != nil {
		return err
	}
	base := time.Now().Add(-time.Hour).Truncate(time.Second)
	records := assorted(topic, 2, "time")
	for number, record := range records {
		record.Timestamp = base.Add(time.Duration(number) * time.Second)
	}
	if err := write(ctx, target, records); err != nil {
		return err
	}
	after := kgo.NewOffset().AfterMilli(base.Add(49_500 * time.Millisecond).UnixMilli())
	return compare(ctx, target, records[50:], map[int32]kgo.Offset{2: after})
}

func withoutIdempotence(ctx context.Context, target string) error {
	topic, err := createTopic(ctx, target, "plain")
	if err != nil {
		return err
	}
	records := assorted(topic, 0, "plain")
	options := []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()), kgo.MaxProduceRequestsInflightPerBroker(1)}
	if err := write(ctx, target, records, options...); err != nil {
		return err
	}
	return compare(ctx, target, records, start(0, 0))
}
