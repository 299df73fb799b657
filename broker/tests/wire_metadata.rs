//! Metadata and control records against what Apache Kafka itself wrote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use watershed_broker::catalog::MetadataRecord;
use watershed_broker::wire::generated::leader_change::LeaderChange;
use watershed_broker::wire::generated::snapshot_footer::SnapshotFooter;
use watershed_broker::wire::generated::snapshot_header::SnapshotHeader;
use watershed_broker::wire::message::Message;
use watershed_core::units::TopicId;

const GOLDEN: &str = include_str!("golden/metadata/kafka-4.2.1.txt");

fn hex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

/// The lines of one kind: their second and third words.
fn golden(kind: &str) -> Vec<(&'static str, Vec<u8>)> {
    let words = GOLDEN.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.filter(|words| words[0] == kind).map(|words| (words[1], hex(words[2]))).collect()
}

#[test]
fn kafkas_own_records_are_read_and_written_back_unchanged() {
    let mut kinds = BTreeMap::new();
    for (kind, value) in golden("record") {
        let record = MetadataRecord::decode(&value).unwrap();
        let mut written = record.encode();
        // Kafka chooses the version by its features, we write one; tagged fields make them the same otherwise.
        if matches!(record, MetadataRecord::BrokerRegistrationChange(_) | MetadataRecord::Partition(_)) {
            written[2] = value[2];
        }
        assert_eq!(written, value, "{record:?}");
        kinds.entry(kind).or_insert(record);
    }
    assert_eq!(kinds.len(), 9);
    let MetadataRecord::RegisterBroker(broker) = &kinds["0"] else { panic!("{kinds:?}") };
    assert_eq!((broker.end_points[0].host.as_str(), broker.log_dirs.len(), broker.fenced), ("127.0.0.1", 1, true));
    let MetadataRecord::Topic(topic) = &kinds["2"] else { panic!("{kinds:?}") };
    assert!(!topic.name.is_empty() && topic.topic_id != TopicId::ZERO);
    let MetadataRecord::Partition(partition) = &kinds["3"] else { panic!("{kinds:?}") };
    assert_eq!((&partition.replicas, &partition.isr, partition.leader), (&vec![1], &vec![1], 1));
    let MetadataRecord::ProducerIds(ids) = &kinds["15"] else { panic!("{kinds:?}") };
    assert_eq!((ids.broker_id, ids.next_producer_id), (1, 1000));
}

#[test]
fn kafkas_own_control_records_are_read() {
    let control: BTreeMap<_, _> = golden("control").into_iter().collect();
    let change = LeaderChange::from_bytes(&control["00000002"], 0).unwrap();
    assert_eq!((change.leader_id, change.voters[0].voter_id), (1, 1));
    assert_eq!(change.to_bytes(0), control["00000002"]);
    let header = SnapshotHeader::from_bytes(&control["00000003"], 0).unwrap();
    assert!(header.last_contained_log_timestamp > 1_700_000_000_000);
    assert_eq!(SnapshotFooter::from_bytes(&control["00000004"], 0).unwrap().version, 0);
}
