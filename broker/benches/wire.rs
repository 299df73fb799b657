//! Parsing what producers send, beside the `kafka-protocol` crate.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::Decodable;
use kafka_protocol::records::RecordBatchDecoder;
use watershed_broker::metrics::{Phase, ShardMetrics};
use watershed_broker::wire::generated::produce as generated;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::produce::ProduceRequest;
use watershed_broker::wire::records::BatchBuilder;
use watershed_core::batch::BatchHeader;

const VERSION: i16 = 12;
const RECORDS_COUNT: usize = 10;

fn batch() -> Vec<u8> {
    let mut batch = BatchBuilder::new(1_000);
    for _ in 0..RECORDS_COUNT {
        batch.push(1_000, Some(b"key"), Some(&[7; 100]));
    }
    batch.build()
}

/// A request of 16 partitions with a batch each.
fn request() -> Vec<u8> {
    let partition = |index| generated::PartitionProduceData { index, records: Some(batch()) };
    let topic = generated::TopicProduceData {
        name: "rivers".to_owned(),
        partition_data: (0..16).map(partition).collect(),
        ..generated::TopicProduceData::default()
    };
    let request =
        generated::ProduceRequest { acks: -1, topic_data: vec![topic], ..generated::ProduceRequest::default() };
    request.to_bytes(VERSION)
}

fn requests(criterion: &mut Criterion) {
    let body = request();
    let shared = Bytes::from(body.clone());
    let mut group = criterion.benchmark_group("Produce request of 16 partitions");
    group.bench_function("borrowed", |bencher| {
        bencher.iter(|| ProduceRequest::parse(black_box(&body), 0..0, 0, VERSION).unwrap());
    });
    group.bench_function("generated", |bencher| {
        bencher.iter(|| generated::ProduceRequest::from_bytes(black_box(&body), VERSION).unwrap());
    });
    group.bench_function("kafka-protocol", |bencher| {
        bencher.iter(|| theirs::ProduceRequest::decode(&mut black_box(&shared).clone(), VERSION).unwrap());
    });
    group.finish();
}

/// The crate has no way to read a header alone: it reads the records too.
fn batches(criterion: &mut Criterion) {
    let batch = batch();
    let shared = Bytes::from(batch.clone());
    let mut group = criterion.benchmark_group("batch of 10 records");
    group.bench_function("header", |bencher| bencher.iter(|| BatchHeader::parse(black_box(&batch)).unwrap()));
    group.bench_function("kafka-protocol", |bencher| {
        bencher.iter(|| RecordBatchDecoder::decode(&mut black_box(&shared).clone()).unwrap());
    });
    group.finish();
}

/// Everything that the metrics of one request cost its core: two looks at the clock and five numbers.
fn counting(criterion: &mut Criterion) {
    let mut metrics = ShardMetrics::default();
    for key in 0..20 {
        metrics.answered(key, 1, false);
    }
    criterion.bench_function("the metrics of a request", |bencher| {
        bencher.iter(|| {
            let began = Instant::now();
            let took_us = began.elapsed().as_micros() as u64 + black_box(700);
            let api = metrics.answered(black_box(1), took_us, false);
            for phase in [Phase::Queue, Phase::Local, Phase::Wait] {
                api.observe_us(phase, black_box(took_us));
            }
            metrics.apis.entry(black_box(1)).or_default().observe_us(Phase::Send, took_us);
        });
    });
}

criterion_group!(benches, requests, batches, counting);
criterion_main!(benches);
