//! The hand-written Produce and Fetch against the generated ones, in every version.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod wire_schema;

use watershed_broker::wire::apis::Api;
use watershed_broker::wire::error_code::ErrorCode;
use watershed_broker::wire::fetch::{
    AbortedTransaction, DivergingEpoch, FetchPartition, FetchRequest, FetchResponse, FetchResult, Part,
};
use watershed_broker::wire::generated as g;
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::produce::{
    ProducePartition, ProduceRequest, ProduceResponse, ProduceResult, first_large_batch,
};
use watershed_broker::wire::topic_ref::{CurrentLeader, NodeEndpoint, TopicRef};
use watershed_core::units::TopicId;
use wire_schema::values::{self, Fill};

const FILLS: [Fill; 3] = [Fill::Bare, Fill::Full, Fill::Mixed];

/// Every version of a message in several fillings.
fn samples(name: &str) -> Vec<(i16, Vec<u8>)> {
    let messages = wire_schema::messages();
    let message = messages.iter().find(|message| message.root.name == name).unwrap();
    let versions = message.root.versions;
    (versions.min..=versions.max)
        .flat_map(|version| FILLS.map(|fill| (version, fill)))
        .flat_map(|(version, fill)| (0..8).map(move |seed| (version, fill, seed)))
        .map(|(version, fill, seed)| (version, values::encode(&messages, message, version, fill, seed)))
        .collect()
}

fn topic<'a>(name: &'a str, id: &TopicId, version: i16) -> TopicRef<'a> {
    if version >= 13 { TopicRef::Id(*id) } else { TopicRef::Name(name) }
}

#[test]
fn a_produce_request_is_seen_as_it_is() {
    for (version, body) in samples("ProduceRequest") {
        let mut frame = vec![0xee; 3];
        frame.extend(&body);
        let seen = ProduceRequest::parse(&frame, 0..0, 3, version).unwrap();
        let whole = g::produce::ProduceRequest::from_bytes(&body, version).unwrap();
        assert_eq!(
            (seen.transactional_id, seen.acks, seen.timeout_ms),
            (whole.transactional_id.as_deref(), whole.acks, whole.timeout_ms)
        );
        let expected: Vec<_> = whole
            .topic_data
            .iter()
            .flat_map(|t| t.partition_data.iter().map(move |p| (topic(&t.name, &t.topic_id, version), p)))
            .map(|(topic, p)| (topic, p.index, p.records.as_deref()))
            .collect();
        let bytes = |p: &ProducePartition<'_>| p.records.clone().map(|range| frame[range].to_vec());
        let found: Vec<_> = seen.partitions.iter().map(|p| (p.topic, p.partition, bytes(p))).collect();
        let found: Vec<_> = found.iter().map(|(t, p, bytes)| (*t, *p, bytes.as_deref())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_fetch_request_is_seen_as_it_is() {
    for (version, body) in samples("FetchRequest") {
        let seen = FetchRequest::parse(&body, version).unwrap();
        let whole = g::fetch::FetchRequest::from_bytes(&body, version).unwrap();
        let (replica_id, replica_epoch) = match version {
            15.. => (whole.replica_state.replica_id, whole.replica_state.replica_epoch),
            _ => (whole.replica_id, -1),
        };
        assert_eq!((seen.replica_id, seen.replica_epoch), (replica_id, replica_epoch));
        assert_eq!(seen.cluster_id, whole.cluster_id.as_deref());
        assert_eq!(
            (seen.max_wait_ms, seen.min_bytes, seen.max_bytes, seen.is_read_committed),
            (whole.max_wait_ms, whole.min_bytes, whole.max_bytes, whole.isolation_level == 1)
        );
        assert_eq!((seen.session_id, seen.session_epoch), (whole.session_id, whole.session_epoch));
        assert_eq!(seen.rack_id, whole.rack_id);
        let expected: Vec<_> = whole
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(move |p| fetch_partition(topic(&t.topic, &t.topic_id, version), p)))
            .collect();
        assert_eq!(seen.partitions, expected);
        let expected: Vec<_> = whole
            .forgotten_topics_data
            .iter()
            .flat_map(|t| t.partitions.iter().map(move |p| (topic(&t.topic, &t.topic_id, version), *p)))
            .collect();
        let forgotten: Vec<_> = seen.forgotten.iter().map(|p| (p.topic, p.partition)).collect();
        assert_eq!(forgotten, expected);
    }
}

fn fetch_partition<'a>(topic: TopicRef<'a>, p: &g::fetch::FetchPartition) -> FetchPartition<'a> {
    FetchPartition {
        topic,
        partition: p.partition,
        current_leader_epoch: p.current_leader_epoch,
        fetch_offset: p.fetch_offset,
        last_fetched_epoch: p.last_fetched_epoch,
        log_start_offset: p.log_start_offset,
        partition_max_bytes: p.partition_max_bytes,
        replica_directory_id: p.replica_directory_id,
        high_watermark: p.high_watermark,
    }
}

#[test]
fn damaged_requests_are_errors() {
    for (version, body) in samples("ProduceRequest") {
        for end in 0..body.len() {
            assert!(ProduceRequest::parse(&body[..end], 0..0, 0, version).is_err());
        }
    }
    for (version, body) in samples("FetchRequest") {
        for end in 0..body.len() {
            assert!(FetchRequest::parse(&body[..end], version).is_err());
        }
        for place in 0..body.len() {
            let mut flipped = body.clone();
            flipped[place] ^= 0x81;
            let _ = FetchRequest::parse(&flipped, version);
        }
    }
}

#[test]
fn counts_beyond_the_bytes_are_refused_by_hand_too() {
    let messages = wire_schema::messages();
    for name in ["ProduceRequest", "FetchRequest"] {
        let message = messages.iter().find(|message| message.root.name == name).unwrap();
        for version in message.root.versions.min..=message.root.versions.max {
            for bomb in 0..values::arrays_count(&messages, message, version) {
                let body = values::encode(&messages, message, version, Fill::Bomb(bomb), 1);
                let is_refused = match name {
                    "ProduceRequest" => ProduceRequest::parse(&body, 0..0, 0, version).is_err(),
                    _ => FetchRequest::parse(&body, version).is_err(),
                };
                assert!(is_refused, "{name} {version} array {bomb}");
            }
        }
    }
}

const TOPIC: TopicId = TopicId([7; 16]);
const ENDPOINTS: [NodeEndpoint<'static>; 1] = [NodeEndpoint { node_id: 3, host: "three", port: 9092, rack: Some("r") }];
const LEADER: CurrentLeader = CurrentLeader { leader_id: 3, leader_epoch: 8 };

/// Two topics as a version names them: names or ids.
fn two_topics(version: i16) -> [TopicRef<'static>; 2] {
    [topic("one", &TOPIC, version), topic("two", &TopicId([9; 16]), version)]
}

#[test]
fn a_produce_response_says_what_it_was_given() {
    for version in 3..=13 {
        let [one, two] = two_topics(version);
        let partitions = [
            ProduceResult { log_start_offset: 2, ..ProduceResult::written(one, 0, 40) },
            ProduceResult {
                error_message: Some("moved"),
                current_leader: Some(LEADER),
                ..ProduceResult::refused(one, 1, ErrorCode::NotLeaderOrFollower)
            },
            ProduceResult { log_append_time_ms: 99, ..ProduceResult::written(two, 5, 0) },
        ];
        let response = ProduceResponse { partitions: &partitions, throttle_time_ms: 17, node_endpoints: &ENDPOINTS };
        let frame = response.frame(version, 77);
        assert_eq!(frame[..4], ((frame.len() - 4) as u32).to_be_bytes());
        let (id, body_at) = header::parse_response(&frame[4..], Api::Produce, version).unwrap();
        let read = g::produce::ProduceResponse::from_bytes(&frame[4 + body_at..], version).unwrap();
        assert_eq!((id, read.throttle_time_ms), (77, 17));
        assert_eq!(read.node_endpoints.len(), usize::from(version >= 10));
        let sizes: Vec<_> = read.responses.iter().map(|topic| topic.partition_responses.len()).collect();
        assert_eq!(sizes, [2, 1]);
        assert_eq!(topic(&read.responses[0].name, &read.responses[0].topic_id, version), one);
        let [written, refused] = &read.responses[0].partition_responses[..] else { panic!() };
        assert_eq!((written.base_offset, written.log_append_time_ms), (40, -1));
        assert_eq!(written.log_start_offset, if version >= 5 { 2 } else { -1 });
        assert_eq!((refused.index, refused.error_code, refused.base_offset), (1, 6, -1));
        assert_eq!(refused.error_message.as_deref(), (version >= 8).then_some("moved"));
        assert_eq!(refused.current_leader.leader_id, if version >= 10 { 3 } else { -1 });
        assert_eq!(read.responses[1].partition_responses[0].log_append_time_ms, 99);
    }
}

/// The parts of a response put together with these record sets.
fn gathered(parts: &[Part], records: &[&[u8]]) -> Vec<u8> {
    let piece = |part: &Part| match part {
        Part::Bytes(bytes) => bytes.clone(),
        Part::Records(index) => records[*index].to_vec(),
    };
    parts.iter().flat_map(piece).collect()
}

#[test]
fn a_fetch_response_has_its_records_in_their_places() {
    let records: [&[u8]; 4] = [b"first", b"", b"third, longer than the others", b"x"];
    let aborted = [AbortedTransaction { producer_id: 5, first_offset: 6 }];
    for version in 4..=18 {
        let [one, two] = two_topics(version);
        let result = |topic, partition: i32| FetchResult {
            error: ErrorCode::None,
            high_watermark: 100,
            last_stable_offset: 90,
            log_start_offset: 10,
            records_bytes: records[partition as usize].len(),
            ..FetchResult::refused(topic, partition, ErrorCode::None)
        };
        let partitions = [
            FetchResult { aborted_transactions: Some(&aborted), ..result(one, 0) },
            FetchResult {
                error: ErrorCode::FencedLeaderEpoch,
                current_leader: Some(LEADER),
                diverging_epoch: Some(DivergingEpoch { epoch: 1, end_offset: 2 }),
                ..result(one, 1)
            },
            result(one, 2),
            FetchResult { preferred_read_replica: 4, ..result(two, 3) },
        ];
        let response = FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id: 12,
            partitions: &partitions,
            node_endpoints: &ENDPOINTS,
        };
        let parts = response.parts(version, 78);
        let slots = parts.iter().filter(|part| matches!(part, Part::Records(_))).count();
        assert_eq!(slots, 3, "an empty set has no part");
        let frame = gathered(&parts, &records);
        assert_eq!(frame[..4], ((frame.len() - 4) as u32).to_be_bytes());
        let (id, body_at) = header::parse_response(&frame[4..], Api::Fetch, version).unwrap();
        let read = g::fetch::FetchResponse::from_bytes(&frame[4 + body_at..], version).unwrap();
        assert_eq!((id, read.session_id), (78, if version >= 7 { 12 } else { 0 }));
        let found: Vec<_> = read.responses.iter().flat_map(|topic| &topic.partitions).collect();
        for (partition, sent) in found.iter().zip(records) {
            assert_eq!(partition.records.as_deref(), Some(sent));
            assert_eq!((partition.high_watermark, partition.last_stable_offset), (100, 90));
            assert_eq!(partition.log_start_offset, if version >= 5 { 10 } else { -1 });
        }
        assert_eq!(found[0].aborted_transactions.as_ref().unwrap()[0].first_offset, 6);
        assert_eq!(found[2].aborted_transactions, None);
        assert_eq!(found[1].error_code, 74);
        assert_eq!(found[1].diverging_epoch.end_offset, if version >= 12 { 2 } else { -1 });
        assert_eq!(found[1].current_leader.leader_epoch, if version >= 12 { 8 } else { -1 });
        assert_eq!(found[3].preferred_read_replica, if version >= 11 { 4 } else { -1 });
        assert_eq!(read.node_endpoints.len(), usize::from(version >= 16));
    }
}

fn produce_frame(version: i16, sets: &[usize]) -> Vec<u8> {
    let partition = |bytes: &usize| g::produce::PartitionProduceData { index: 0, records: Some(vec![0xab; *bytes]) };
    let topic = g::produce::TopicProduceData {
        name: "t".to_owned(),
        topic_id: TOPIC,
        partition_data: sets.iter().map(partition).collect(),
    };
    let request = g::produce::ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
    header::request_frame(Api::Produce, version, 1, Some("me"), &request)[4..].to_vec()
}

#[test]
fn a_large_batch_is_found_in_the_beginning_of_its_frame() {
    for version in 3..=13 {
        for sets in [&[100_000][..], &[500, 70_000], &[64 << 10, 90_000]] {
            let frame = produce_frame(version, sets);
            let body_at = header::parse(&frame).unwrap().body_at;
            let whole = ProduceRequest::parse(&frame, 0..0, body_at, version).unwrap();
            let is_large = |range: &std::ops::Range<usize>| range.len() >= 64 << 10;
            let range = whole.partitions.iter().filter_map(|p| p.records.clone()).find(is_large).unwrap();
            let expected = Some(range.clone());
            assert_eq!(first_large_batch(&frame[..4096], frame.len()), expected);
            assert_eq!(first_large_batch(&frame[..range.start], frame.len()), expected);
            assert_eq!(first_large_batch(&frame[..range.start - 1], frame.len()), None);
            let around = [&frame[..range.start], &frame[range.end..]].concat();
            assert_eq!(ProduceRequest::parse(&around, range.clone(), body_at, version).unwrap(), whole);
        }
        let small = produce_frame(version, &[60_000]);
        assert_eq!(first_large_batch(&small[..4096], small.len()), None);
        let large = produce_frame(version, &[100_000]);
        assert_eq!(first_large_batch(&large[..4096], 90_000), None, "the set would not fit its frame");
    }
}
