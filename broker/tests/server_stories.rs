//! Stories of a broker as a client sees it: a process over an empty directory, and raw requests. Three shards, so that
//! owners are mostly elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::time::{Duration, Instant};

use server_harness::{Broker, FETCH, PRODUCE, batch, fetch, now_ms, produce, records};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::api_versions::ApiVersionsResponse;
use watershed_broker::wire::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use watershed_broker::wire::generated::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use watershed_broker::wire::generated::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use watershed_broker::wire::generated::fetch::FetchResponse;
use watershed_broker::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use watershed_broker::wire::generated::produce::ProduceResponse;
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;

#[test]
fn what_is_acknowledged_is_there_after_a_kill_and_with_another_number_of_shards() {
    let broker = Broker::fresh("server_kill", 3);
    let mut client = broker.client();
    assert_eq!(client.topic("story").topics[0].partitions.len(), 6);
    for partition in 0..6 {
        let values = [format!("a{partition}"), format!("b{partition}")];
        let values = values.each_ref().map(String::as_str);
        let written = client.produce("story", partition, batch(now_ms(), &values));
        assert_eq!((written.error_code, written.base_offset), (0, 0));
    }
    let broker = broker.kill_and_restart(3).kill_and_restart(2);
    let mut client = broker.client();
    for partition in 0..6 {
        let found = client.fetch("story", partition, 0, 0);
        let expected = vec![(0, format!("a{partition}")), (1, format!("b{partition}"))];
        assert_eq!((found.high_watermark, records(&found.records.unwrap())), (2, expected));
        let next = client.produce("story", partition, batch(now_ms(), &["c"]));
        assert_eq!((next.error_code, next.base_offset), (0, 2));
    }
}

#[test]
fn t10_an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = Broker::fresh("server_versions", 1);
    let mut client = broker.client();
    client.raw(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff]);
    let frame = client.frame().unwrap();
    let (correlation_id, body_at) = header::parse_response(&frame, Api::ApiVersions, 0).unwrap();
    let answer = ApiVersionsResponse::from_bytes(&frame[body_at..], 0).unwrap();
    assert_eq!((correlation_id, answer.error_code), (7, 35));
    assert!(answer.api_keys.iter().any(|row| row.api_key == 18 && row.max_version == 4));
}

#[test]
fn c10_pipelined_produces_are_placed_and_answered_in_order() {
    let broker = Broker::fresh("server_order", 3);
    let mut client = broker.client();
    client.topic("order");
    let sent: Vec<i32> = (0..100)
        .map(|n| client.send(Api::Produce, PRODUCE, &produce("order", 4, -1, batch(now_ms(), &[&n.to_string()]))))
        .collect();
    for (n, sent) in sent.into_iter().enumerate() {
        let (correlation_id, answer) = client.receive::<ProduceResponse>(Api::Produce, PRODUCE);
        let written = &answer.responses[0].partition_responses[0];
        assert_eq!((correlation_id, written.error_code, written.base_offset), (sent, 0, n as i64));
    }
    let found = records(&client.fetch("order", 4, 0, 0).records.unwrap());
    assert!(found.iter().enumerate().all(|(n, (offset, value))| *offset == n as i64 && *value == n.to_string()));
    assert_eq!(found.len(), 100);
}

#[test]
fn c6_a_waiting_fetch_wakes_when_a_record_comes_on_any_shard() {
    let broker = Broker::fresh("server_wait", 3);
    let mut writer = broker.client();
    writer.topic("wait");
    let mut reader = broker.client();
    for partition in 0..6 {
        reader.send(Api::Fetch, FETCH, &fetch("wait", partition, 0, 20_000));
        std::thread::sleep(Duration::from_millis(50));
        let written = Instant::now();
        assert_eq!(writer.produce("wait", partition, batch(now_ms(), &["x"])).error_code, 0);
        let (_, answer) = reader.receive::<FetchResponse>(Api::Fetch, FETCH);
        assert_eq!(records(answer.responses[0].partitions[0].records.as_ref().unwrap()), [(0, "x".to_owned())]);
        assert!(written.elapsed() < Duration::from_secs(5), "it waited for its deadline");
    }
}

#[test]
fn c11_offsets_in_the_middle_of_a_batch_and_beyond_the_log() {
    let broker = Broker::fresh("server_middle", 3);
    let mut client = broker.client();
    client.topic("middle");
    client.produce("middle", 1, batch(now_ms(), &["a", "b", "c"]));
    let found = client.fetch("middle", 1, 2, 0);
    assert_eq!(records(&found.records.unwrap()).len(), 3, "the batch that holds the offset is returned");
    assert_eq!(client.fetch("middle", 1, 3, 0).error_code, 0, "the end is empty, not an error");
    assert_eq!(client.fetch("middle", 1, 4, 0).error_code, 1);
    assert_eq!(client.fetch("middle", 9, 0, 0).error_code, 3);
}

#[test]
fn c22_offsets_are_found_by_time() {
    let broker = Broker::fresh("server_times", 3);
    let mut client = broker.client();
    client.topic("times");
    let first_ms = now_ms() - 10_000;
    client.produce("times", 2, batch(first_ms, &["a", "b"]));
    client.produce("times", 2, batch(first_ms + 1000, &["c"]));
    assert_eq!(client.offset("times", 2, first_ms), (0, first_ms));
    assert_eq!(client.offset("times", 2, first_ms + 1), (1, first_ms + 1));
    assert_eq!(client.offset("times", 2, first_ms + 2), (2, first_ms + 1000));
    assert_eq!(client.offset("times", 2, first_ms + 1001), (-1, -1));
    assert_eq!((client.offset("times", 2, -2).0, client.offset("times", 2, -1).0), (0, 3));
    assert_eq!(client.offset("times", 2, -3), (2, first_ms + 1000));
}

#[test]
fn c22_a_topic_grows_and_goes() {
    let broker = Broker::fresh("server_life", 3);
    let mut client = broker.client();
    let before = client.topic("life").topics[0].topic_id;
    client.produce("life", 0, batch(now_ms(), &["old"]));
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: "life".to_owned(), count: 8, assignments: None }],
        ..CreatePartitionsRequest::default()
    };
    let grown: CreatePartitionsResponse = client.ask(Api::CreatePartitions, 3, &grow);
    assert_eq!((grown.results.len(), grown.results[0].error_code), (1, 0));
    assert_eq!(client.produce("life", 7, batch(now_ms(), &["new"])).error_code, 0);
    let delete = DeleteTopicsRequest { topic_names: vec!["life".to_owned()], ..DeleteTopicsRequest::default() };
    let deleted: DeleteTopicsResponse = client.ask(Api::DeleteTopics, 5, &delete);
    assert_eq!(deleted.responses[0].error_code, 0);
    assert_eq!(client.fetch("life", 0, 0, 0).error_code, 3);
    let after = client.topic("life").topics[0].topic_id;
    assert_ne!(before, after);
    assert_eq!(client.produce("life", 0, batch(now_ms(), &["again"])).base_offset, 0, "a new topic is empty");
}

#[test]
fn producer_ids_are_never_given_twice() {
    let broker = Broker::fresh("server_ids", 3);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut client = broker.client();
        for _ in 0..1500 {
            let answer: InitProducerIdResponse = client.ask(Api::InitProducerId, 4, &InitProducerIdRequest::default());
            assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
            assert!(ids.insert(answer.producer_id), "{} came twice", answer.producer_id);
        }
    }
}

#[test]
fn acks_0_is_silent_and_its_failure_closes() {
    let broker = Broker::fresh("server_acks", 3);
    let mut client = broker.client();
    client.topic("silent");
    client.send(Api::Produce, PRODUCE, &produce("silent", 0, 0, batch(now_ms(), &["x"])));
    assert_eq!(client.offset("silent", 0, -1), (1, -1), "the next answer is that of the next request");
    client.send(Api::Produce, PRODUCE, &produce("silent", 99, 0, batch(now_ms(), &["x"])));
    assert_eq!(client.frame(), None);
}

#[test]
fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let broker = Broker::fresh("server_garbage", 1);
    let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];
    for garbage in [&tls[..], &[0xff, 0xff, 0xff, 0xff], &[0x7f, 0xff, 0xff, 0xff], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = broker.client();
        client.raw(garbage);
        assert_eq!(client.frame(), None, "{garbage:?}");
    }
    assert_eq!(broker.client().topic("fine").topics[0].error_code, 0);
}

#[test]
fn a_catalog_that_changes_much_keeps_a_short_log() {
    let broker = Broker::fresh("server_catalog", 1);
    let mut client = broker.client();
    client.topic("stays");
    for round in 0..60 {
        let name = format!("round-{round}");
        let topic = CreatableTopic {
            name: name.clone(),
            num_partitions: 1000,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let create = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let created: CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &create);
        assert_eq!(created.topics[0].error_code, 0, "round {round}");
        let delete = DeleteTopicsRequest { topic_names: vec![name], ..DeleteTopicsRequest::default() };
        let deleted: DeleteTopicsResponse = client.ask(Api::DeleteTopics, 5, &delete);
        assert_eq!(deleted.responses[0].error_code, 0, "round {round}");
    }
    let broker = broker.kill_and_restart(1);
    let mut client = broker.client();
    let topics = client.all_topics();
    assert_eq!(topics, ["stays"], "what the snapshot and the records behind it say");
    let held = broker.inspected();
    let journal = &held["journals"][0]["partitions"];
    let log = journal.as_array().unwrap().iter().find(|log| log["topic_id"] == "AAAAAAAAAAAAAAAAAAAAAQ").unwrap();
    assert!(log["log_start"].as_i64().unwrap() > 0, "the log's start has moved: {log}");
}
