//! Topics that say in which compression their batches are kept, on three shards: owners here and elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use server_harness::{Broker, Client, now_ms, records};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use watershed_broker::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use watershed_broker::wire::generated::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use watershed_broker::wire::records::{BatchBuilder, Codec};
use watershed_core::batch::BatchHeader;
use watershed_core::checksum::crc32c;

const NONE: i16 = 0;
const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_RECORD: i16 = 87;
const PARTITIONS: i32 = 6;

fn create(client: &mut Client, name: &str, configs: &[(&str, &str)]) {
    let config =
        |(name, value): &(&str, &str)| CreatableTopicConfig { name: name.to_string(), value: Some(value.to_string()) };
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let created: CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &request);
    assert_eq!(created.topics[0].error_code, NONE, "{:?}", created.topics[0].error_message);
}

/// Text that packs to about a fifth.
fn value(seed: usize, bytes: usize) -> String {
    let mut state = seed as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ["a river ", "flows ", "from the source ", "to the sea "][(state >> 60) as usize % 4]
    };
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(next());
    }
    text
}

fn batch(codec: Codec, values: &[String]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(now_ms());
    values.iter().for_each(|value| batch.push(now_ms(), Some(b"key"), Some(value.as_bytes())));
    batch.build_with(codec.into())
}

fn fetched(client: &mut Client, topic: &str, partition: i32, offset: i64) -> Vec<u8> {
    client.fetch(topic, partition, offset, 5_000).records.unwrap()
}

#[test]
fn batches_are_kept_in_their_topics_codec_on_every_owner_and_in_every_size() {
    let broker = Broker::fresh("compression-codecs", 3);
    let mut client = broker.client();
    let names = [
        ("uncompressed", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ];
    for (name, kept) in names {
        create(&mut client, name, &[("compression.type", name), ("max.message.bytes", "4194304")]);
        let mut next = [0; PARTITIONS as usize];
        // 300,000 bytes are received into a block of their own, packed or not, if they are sent plainly.
        for (number, bytes) in [20, 5_000, 70_000, 300_000].into_iter().enumerate() {
            for (sent, partition) in names.iter().map(|(_, codec)| *codec).zip(0..PARTITIONS) {
                let values = [value(number, bytes), value(number + 9, bytes / 2)];
                let sent = batch(sent, &values);
                let written = client.produce(name, partition, sent.clone());
                let place = partition as usize;
                assert_eq!(
                    (written.error_code, written.base_offset),
                    (NONE, next[place]),
                    "{:?}",
                    written.error_message
                );
                let found = fetched(&mut client, name, partition, next[place]);
                let header = BatchHeader::parse(&found).unwrap();
                assert_eq!(i16::from(header.codec()), kept.attributes(), "{name}");
                let expected: Vec<_> = (next[place]..).zip(values).collect();
                assert_eq!(records(&found), expected, "{name}");
                if BatchHeader::parse(&sent).unwrap().codec() == header.codec() {
                    assert_eq!(found[21..], sent[21..], "a batch in the wanted codec stays as it is");
                }
                next[place] += 2;
            }
        }
    }
    let broker = broker.kill_and_restart(2);
    let mut client = broker.client();
    for (name, kept) in names {
        let found = fetched(&mut client, name, 3, 4);
        assert_eq!(i16::from(BatchHeader::parse(&found).unwrap().codec()), kept.attributes(), "{name}");
        assert_eq!(records(&found)[0], (4, value(2, 70_000)));
    }
}

#[test]
fn one_request_for_many_partitions_is_answered_part_by_part() {
    let broker = Broker::with("compression-parts", 3, &["compression.type=zstd", "message.max.bytes=100000"]);
    let mut client = broker.client();
    create(&mut client, "t", &[]);
    create(&mut client, "plain", &[("compression.type", "uncompressed")]);
    let good = |seed| batch(Codec::Gzip, &[value(seed, 20_000)]);
    let mut torn = good(0);
    torn[70..].fill(0xa5);
    let mut jumps = batch(Codec::None, &[value(0, 10)]);
    jumps[64] = 4;
    for bad in [&mut torn, &mut jumps] {
        let crc = crc32c(&bad[21..]);
        bad[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let large = batch(Codec::Gzip, &[value(0, 200_000)]);
    assert!(large.len() < 100_000);
    let sets = |sets: [Vec<u8>; 6]| -> Vec<PartitionProduceData> {
        (0..).zip(sets).map(|(index, set)| PartitionProduceData { index, records: Some(set) }).collect()
    };
    let topic = |name: &str, partition_data| TopicProduceData {
        name: name.to_owned(),
        partition_data,
        ..TopicProduceData::default()
    };
    let zstd = batch(Codec::Zstd, &[value(3, 20_000)]);
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![
            topic("t", sets([good(0), torn.clone(), good(1), jumps, zstd, good(2)])),
            topic("plain", sets([good(3), good(4), large.clone(), torn, large, good(5)])),
        ],
        ..ProduceRequest::default()
    };
    let answer: ProduceResponse = client.ask(Api::Produce, server_harness::PRODUCE, &request);
    let codes: Vec<Vec<i16>> = answer
        .responses
        .iter()
        .map(|topic| topic.partition_responses.iter().map(|part| part.error_code).collect())
        .collect();
    let (torn, jumped, large) = (CORRUPT_MESSAGE, INVALID_RECORD, MESSAGE_TOO_LARGE);
    assert_eq!(codes, [[NONE, torn, NONE, jumped, NONE, NONE], [NONE, NONE, large, torn, large, NONE]]);
    for (name, partition, seed) in
        [("t", 0, 0), ("t", 2, 1), ("t", 4, 3), ("t", 5, 2), ("plain", 0, 3), ("plain", 5, 5)]
    {
        assert_eq!(records(&fetched(&mut client, name, partition, 0)), [(0, value(seed, 20_000))]);
    }
    assert!(broker.log().contains("the compressed records do not unpack"), "an operator is told");
}

#[test]
fn a_batch_that_was_packed_anew_is_still_written_once() {
    let broker = Broker::fresh("compression-idempotent", 3);
    let mut client = broker.client();
    create(&mut client, "t", &[("compression.type", "lz4")]);
    let request = InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..InitProducerIdRequest::default() };
    let granted: InitProducerIdResponse = client.ask(Api::InitProducerId, 4, &request);
    for partition in 0..PARTITIONS {
        let mut batches = BatchBuilder::new(now_ms()).producer(granted.producer_id, granted.producer_epoch, 0);
        batches.push(now_ms(), None, Some(b"once"));
        let sent = batches.build_with(Codec::Gzip.into());
        let offsets = [0; 2].map(|_| client.produce("t", partition, sent.clone()));
        assert_eq!(offsets.map(|part| (part.error_code, part.base_offset)), [(NONE, 0); 2]);
        assert_eq!(records(&fetched(&mut client, "t", partition, 0)), [(0, "once".to_owned())]);
    }
}
