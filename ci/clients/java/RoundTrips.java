import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client itself: default producer, consumer by assignment, every byte compared. */
final class RoundTrips {
    private static final int RECORDS = 200;
    private final String target;

    RoundTrips(String target) {
        this.target = target;
    }

    private String create(String name, int partitions) throws Exception {
        String topic = Driver.fresh(name);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", target))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
        return topic;
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(more);
        config.put("bootstrap.servers", target);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Map<String, Object> config = Map.of("bootstrap.servers", target, "auto.offset.reset", "none", "enable.auto.commit", false);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<ProducerRecord<byte[], byte[]>> assorted(String topic, int partition, long seed) {
        Random random = new Random(seed);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        records.add(new ProducerRecord<>(topic, partition, null, "only a value".getBytes()));
        records.add(new ProducerRecord<>(topic, partition, "only a key".getBytes(), null));
        records.add(new ProducerRecord<>(topic, partition, new byte[0], new byte[0]));
        records.add(new ProducerRecord<>(topic, partition, null, "k".getBytes(), "v".getBytes(),
                List.of(new RecordHeader("one", new byte[] {1}), new RecordHeader("null", null), new RecordHeader("one", new byte[0]))));
        for (int number = 0; number < RECORDS; number++) {
            byte[] value = new byte[number * 5];
            random.nextBytes(value);
            records.add(new ProducerRecord<>(topic, partition, ("key " + number).getBytes(), value));
        }
        return records;
    }

    /** Writes the records and returns the first offset; the others must follow it one by one. */
    private long write(List<ProducerRecord<byte[], byte[]>> records, Map<String, Object> config) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(config)) {
            records.forEach(record -> sent.add(producer.send(record)));
        }
        long first = sent.get(0).get().offset();
        for (int number = 0; number < sent.size(); number++) {
            Driver.expect(sent.get(number).get().offset() == first + number, "record " + number + " is at " + sent.get(number).get().offset());
        }
        return first;
    }

    private void compare(List<ProducerRecord<byte[], byte[]>> wrote, long first) {
        TopicPartition place = new TopicPartition(wrote.get(0).topic(), wrote.get(0).partition());
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(place));
            consumer.seek(place, first);
            List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
            for (long deadline = System.nanoTime() + 30_000_000_000L; read.size() < wrote.size();) {
                Driver.expect(System.nanoTime() < deadline, "only " + read.size() + " of " + wrote.size() + " records came");
                consumer.poll(Duration.ofMillis(500)).forEach(read::add);
            }
            for (int number = 0; number < wrote.size(); number++) {
                Driver.expect(same(wrote.get(number), read.get(number), first + number), "record " + number + " differs: " + read.get(number));
            }
        }
    }

    private static boolean same(ProducerRecord<byte[], byte[]> wrote, ConsumerRecord<byte[], byte[]> read, long offset) {
        return read.offset() == offset && Arrays.equals(wrote.key(), read.key()) && Arrays.equals(wrote.value(), read.value())
                && Arrays.equals(wrote.headers().toArray(), read.headers().toArray());
    }

    void everyCodec() throws Exception {
        String topic = create("java-codec", 3);
        int number = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<ProducerRecord<byte[], byte[]>> records = assorted(topic, number % 3, number++);
            compare(records, write(records, Map.of("compression.type", codec, "linger.ms", 5)));
        }
    }

    void largeRecords() throws Exception {
        String topic = create("java-large", 1);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int number = 0; number < 3; number++) {
            byte[] value = new byte[900_000 - number];
            new Random(number).nextBytes(value);
            records.add(new ProducerRecord<>(topic, 0, null, value));
        }
        compare(records, write(records, Map.of()));
    }

    void offsetsForTimes() throws Exception {
        String topic = create("java-times", 1);
        TopicPartition place = new TopicPartition(topic, 0);
        long base = System.currentTimeMillis() - 100_000;
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            records.add(new ProducerRecord<>(topic, 0, base + number * 1000L, null, new byte[10]));
        }
        write(records, Map.of());
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            Driver.expect(consumer.beginningOffsets(List.of(place)).get(place) == 0, "a beginning that is not 0");
            Driver.expect(consumer.endOffsets(List.of(place)).get(place) == 20, "an end that is not 20");
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(place, base + 6500)).get(place);
            Driver.expect(found.offset() == 7 && found.timestamp() == base + 7000, "found " + found);
            Driver.expect(consumer.offsetsForTimes(Map.of(place, base + 20_000)).get(place) == null, "an offset after the end");
        }
    }

    /** Leaving and returning to partitions makes the consumer change its fetch session. */
    void manyPartitions() throws Exception {
        String topic = create("java-many", 6);
        Map<TopicPartition, Integer> seen = new HashMap<>();
        List<TopicPartition> places = new ArrayList<>();
        for (int partition = 0; partition < 6; partition++) {
            write(assorted(topic, partition, partition), Map.of());
            places.add(new TopicPartition(topic, partition));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            for (List<TopicPartition> some : List.of(places, places.subList(0, 2), places.subList(1, 6))) {
                consumer.assign(some);
                consumer.seekToBeginning(some);
                seen.clear();
                for (long deadline = System.nanoTime() + 30_000_000_000L; seen.values().stream().mapToInt(n -> n).sum() < some.size() * (RECORDS + 4);) {
                    Driver.expect(System.nanoTime() < deadline, "records are missing: " + seen);
                    consumer.poll(Duration.ofMillis(500)).forEach(record -> seen.merge(new TopicPartition(topic, record.partition()), 1, Integer::sum));
                }
                Driver.expect(seen.keySet().equals(new java.util.HashSet<>(some)), "partitions " + seen.keySet() + " instead of " + some);
            }
        }
    }
}
