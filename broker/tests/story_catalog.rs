//! Stories of the catalog: topics live and die by records alone, and every refusal has Kafka's code.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use watershed_broker::catalog::*;
use watershed_broker::configs::*;
use watershed_broker::wire::error_code::ErrorCode;
use watershed_core::units::{TopicId, TopicPartition};

/// A controller beside a follower that sees nothing but its encoded records.
struct Cluster {
    controller: Controller,
    follower: Catalog,
    next_id: u8,
}

impl Cluster {
    fn with(properties: &[(&str, &str)]) -> Cluster {
        let given = properties.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let properties = BrokerProperties::new(given.collect()).unwrap();
        let mut cluster = Cluster {
            controller: Controller::new(Catalog::default(), 1, properties),
            follower: Catalog::default(),
            next_id: 0,
        };
        assert_eq!(cluster.submit(Request::Format(Format::default())), Reply::Formatted(true));
        let register = RegisterBroker { broker_id: 1, broker_epoch: 5, log_dirs: vec![[8; 16]], ..Default::default() };
        assert_eq!(cluster.submit(Request::RegisterBroker(register)), Reply::Registered(Ok(())));
        cluster
    }

    fn new() -> Cluster {
        Cluster::with(&[])
    }

    /// Submits, lets the follower replay, and compares: images equal, and equal to what a snapshot rebuilds.
    fn submit(&mut self, request: Request) -> Reply {
        self.submit_counted(request).1
    }

    fn submit_counted(&mut self, request: Request) -> (usize, Reply) {
        let ids: Vec<TopicId> = (0..8).map(|n| TopicId([self.next_id + n + 1; 16])).collect();
        self.next_id += 8;
        let (records, reply) = self.controller.submit(request, &ids);
        for record in &records {
            let read = MetadataRecord::decode(&record.encode()).unwrap();
            assert_eq!(&read, record);
            self.follower.replay(&read).unwrap();
        }
        assert_eq!(&self.follower, self.controller.image());
        assert_eq!(rebuilt(&self.follower), self.follower);
        (records.len(), reply)
    }

    fn create(&mut self, topic: NewTopic) -> Result<Created, Rejection> {
        self.create_all(vec![topic], false).remove(0).result
    }

    fn create_all(&mut self, topics: Vec<NewTopic>, validate_only: bool) -> Vec<CreatedTopic> {
        match self.submit(Request::CreateTopics(TopicCreation { topics, validate_only })) {
            Reply::CreatedTopics(created) => created,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, topics: Vec<TopicRef>) -> Vec<DeletedTopic> {
        match self.submit(Request::DeleteTopics(topics)) {
            Reply::DeletedTopics(deleted) => deleted,
            other => panic!("{other:?}"),
        }
    }

    fn grow(&mut self, topics: Vec<NewPartitions>, validate_only: bool) -> Vec<GrownTopic> {
        match self.submit(Request::CreatePartitions { topics, validate_only }) {
            Reply::CreatedPartitions(grown) => grown,
            other => panic!("{other:?}"),
        }
    }

    fn alter(&mut self, kind: i8, name: &str, changes: Vec<(&str, AlterOp)>) -> (usize, Result<(), Rejection>) {
        let changes = changes.into_iter().map(|(config, op)| (config.to_owned(), op)).collect();
        let resources = vec![AlterResource { kind, name: name.into(), changes }];
        match self.submit_counted(Request::AlterConfigs { resources, replaces: false, validate_only: false }) {
            (records, Reply::AlteredConfigs(mut altered)) => (records, altered.remove(0).result),
            other => panic!("{other:?}"),
        }
    }

    fn allocate(&mut self, broker_epoch: i64) -> Result<i64, ErrorCode> {
        match self.submit(Request::AllocateProducerIds { broker_id: 1, broker_epoch }) {
            Reply::ProducerIds(block) => block.map(|block| block.start).map_err(|refused| refused.code),
            other => panic!("{other:?}"),
        }
    }
}

fn rebuilt(catalog: &Catalog) -> Catalog {
    let mut again = Catalog::default();
    for record in catalog.snapshot() {
        again.replay(&MetadataRecord::decode(&record.encode()).unwrap()).unwrap();
    }
    again
}

fn topic(name: &str) -> NewTopic {
    NewTopic::with_defaults(name)
}

fn sized(name: &str, partition_count: i32, replication_factor: i16) -> NewTopic {
    NewTopic { partition_count, replication_factor, ..topic(name) }
}

fn configured(name: &str, config: &str, value: &str) -> NewTopic {
    NewTopic { configs: vec![(config.into(), Some(value.into()))], ..topic(name) }
}

fn set(value: &str) -> AlterOp {
    AlterOp::Set(Some(value.into()))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Rejection>, code: ErrorCode, part: &str) {
    let rejection = result.unwrap_err();
    assert_eq!(rejection.code, code, "{}", rejection.message);
    assert!(rejection.message.contains(part), "{}", rejection.message);
}

#[test]
fn a_topic_is_created_grown_configured_deleted_and_born_again_with_another_id() {
    let mut cluster = Cluster::new();
    let first =
        cluster.create(NewTopic { configs: vec![("retention.ms".into(), Some("5".into()))], ..sized("t", 2, 1) });
    let first = first.unwrap();
    assert_eq!((first.partition_count, first.replication_factor), (2, 1));
    let retention = first.configs.iter().find(|entry| entry.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.source), (Some("5"), ConfigSource::DynamicTopic));
    let place = TopicPartition { topic: first.id, partition: 1 };
    let partition = cluster.follower.partition(place).unwrap().clone();
    assert_eq!((partition.leader, partition.leader_epoch, partition.partition_epoch), (1, 0, 0));
    assert_eq!((partition.isr, partition.directories), (vec![1], vec![[8; 16]]));

    let grown = cluster.grow(vec![NewPartitions { name: "t".into(), count: 5, assignments: None }], false);
    assert_eq!(grown[0].result, Ok(()));
    assert!(cluster.follower.topic(first.id).unwrap().places().map(|place| place.partition).eq(0..5));

    let deleted = cluster.delete(vec![TopicRef::Name("t".into())]);
    assert_eq!((deleted[0].id, &deleted[0].result), (first.id, &Ok(())));
    assert_eq!(cluster.follower.topic_count(), 0);
    assert!(cluster.follower.topic_overrides("t").is_empty(), "a new topic must not inherit");
    let second = cluster.create(topic("t")).unwrap();
    assert_ne!(second.id, first.id);
    let deleted = cluster.delete(vec![TopicRef::Id(second.id)]);
    assert_eq!((deleted[0].name.as_deref(), &deleted[0].result), (Some("t"), &Ok(())));
}

#[test]
fn creation_refuses_with_kafkas_codes() {
    let mut cluster = Cluster::new();
    cluster.create(topic("a.b")).unwrap();
    refused(cluster.create(topic("a.b")), ErrorCode::TopicAlreadyExists, "already exists");
    refused(cluster.create(topic("a_b")), ErrorCode::InvalidTopic, "collides with existing topic: a.b");
    refused(cluster.create(topic("a/b")), ErrorCode::InvalidTopic, "Topic name is invalid");
    refused(cluster.create(topic("__cluster_metadata")), ErrorCode::TopicAuthorizationFailed, "prohibited");
    for factor in [0, -2, 2, 3] {
        refused(cluster.create(sized("x", 1, factor)), ErrorCode::InvalidReplicationFactor, "eplicat");
    }
    for count in [0, -2, i32::MIN] {
        refused(cluster.create(sized("x", count, 1)), ErrorCode::InvalidPartitions, "non-positive");
    }
    for count in [10_001, i32::MAX] {
        refused(cluster.create(sized("x", count, 1)), ErrorCode::PolicyViolation, "10000");
    }
    let null = NewTopic { configs: vec![("retention.ms".into(), None)], ..topic("x") };
    refused(cluster.create(null), ErrorCode::InvalidConfig, "Null value");
    for (config, value, part) in [
        ("retension.ms", "1", "did you mean retention.ms"),
        ("retention.ms", "soon", "Not a number of type LONG"),
        ("retention.ms", "-2", "at least -1"),
        ("segment.bytes", "1", "at least 1048576"),
        ("cleanup.policy", "compact", "compaction is not served yet"),
        ("cleanup.policy", "delete,compact", "compaction is not served yet"),
        ("cleanup.policy", "archive", "must be one of"),
        ("remote.storage.enable", "true", "tiered storage is not served"),
        ("compression.lz4.level", "3", "one level"),
    ] {
        refused(cluster.create(configured("x", config, value)), ErrorCode::InvalidConfig, part);
    }
    assert_eq!(cluster.follower.topic_count(), 1, "a refusal leaves nothing behind");
    cluster.create(configured("x", "remote.storage.enable", "FALSE")).unwrap();
}

#[test]
fn manual_assignments_are_checked() {
    let mut cluster = Cluster::new();
    let assigned = |places: &[(i32, &[i32])]| NewTopic {
        assignments: places
            .iter()
            .map(|(partition, brokers)| Assignment { partition: *partition, brokers: brokers.to_vec() })
            .collect(),
        ..topic("m")
    };
    let bad = ErrorCode::InvalidReplicaAssignment;
    refused(cluster.create(assigned(&[(0, &[7])])), bad, "broker 7");
    refused(cluster.create(assigned(&[(0, &[])])), bad, "empty replica list");
    refused(cluster.create(assigned(&[(0, &[1, 1])])), bad, "more than once");
    refused(cluster.create(assigned(&[(1, &[1])])), bad, "consecutive");
    refused(cluster.create(assigned(&[(0, &[1]), (0, &[1])])), bad, "multiple");
    let both = NewTopic { partition_count: 1, ..assigned(&[(0, &[1])]) };
    refused(cluster.create(both), ErrorCode::InvalidRequest, "numPartitions");
    let created = cluster.create(assigned(&[(1, &[1]), (0, &[1])])).unwrap();
    assert_eq!(created.partition_count, 2);
}

#[test]
fn one_bad_topic_does_not_harm_the_others_and_validation_writes_nothing() {
    let mut cluster = Cluster::with(&[("num.partitions", "4")]);
    let topics = vec![topic("good"), topic("twice"), topic("twice"), sized("bad", 0, 1)];
    let codes = |created: &[CreatedTopic]| -> Vec<_> {
        created.iter().map(|topic| topic.result.as_ref().err().map(|refused| refused.code)).collect()
    };
    let expected =
        [None, Some(ErrorCode::InvalidRequest), Some(ErrorCode::InvalidRequest), Some(ErrorCode::InvalidPartitions)];
    let dry = cluster.create_all(topics.clone(), true);
    assert_eq!((codes(&dry), cluster.follower.topic_count()), (expected.to_vec(), 0));
    assert_eq!(dry[0].result.as_ref().unwrap().id, TopicId::ZERO);
    let created = cluster.create_all(topics, false);
    assert_eq!((codes(&created), cluster.follower.topic_count()), (expected.to_vec(), 1));
    assert_eq!(created[0].result.as_ref().unwrap().partition_count, 4, "num.partitions");
}

#[test]
fn c22_create_partitions_answers_each_topic() {
    let mut cluster = Cluster::new();
    cluster.create(sized("p", 3, 1)).unwrap();
    cluster.create(sized("q", 1, 1)).unwrap();
    let more = |name: &str, count, assignments| NewPartitions { name: name.into(), count, assignments };
    let grown = cluster.grow(vec![more("p", 4, None), more("gone", 2, None), more("q", 1, None)], false);
    assert!(grown.iter().map(|topic| topic.name.as_str()).eq(["p", "gone", "q"]));
    assert_eq!(grown[0].result, Ok(()));
    refused(grown[1].result.clone(), ErrorCode::UnknownTopicOrPartition, "host");
    refused(grown[2].result.clone(), ErrorCode::InvalidPartitions, "already has 1");
    for (count, assignments, code, part) in [
        (2, None, ErrorCode::InvalidPartitions, "would not be an increase"),
        (-1, None, ErrorCode::InvalidPartitions, "would not be an increase"),
        (i32::MIN, None, ErrorCode::InvalidPartitions, "would not be an increase"),
        (i32::MAX, None, ErrorCode::PolicyViolation, "10000"),
        (6, Some(vec![vec![1]]), ErrorCode::InvalidReplicaAssignment, "1 assignment(s)"),
        (5, Some(vec![vec![9]]), ErrorCode::InvalidReplicaAssignment, "broker 9"),
    ] {
        refused(cluster.grow(vec![more("p", count, assignments)], false).remove(0).result, code, part);
    }
    assert_eq!(cluster.grow(vec![more("p", 9, None)], true)[0].result, Ok(()));
    assert_eq!(cluster.follower.topic_named("p").unwrap().partitions.len(), 4, "only validated");
}

#[test]
fn c23_append_and_subtract_are_for_lists() {
    let mut cluster = Cluster::new();
    cluster.create(topic("c")).unwrap();
    let list = "leader.replication.throttled.replicas";
    let append = |value: &str| AlterOp::Append(Some(value.into()));
    let subtract = |value: &str| AlterOp::Subtract(Some(value.into()));
    assert_eq!(cluster.alter(2, "c", vec![(list, append("0:1,1:1"))]), (1, Ok(())));
    assert_eq!(cluster.alter(2, "c", vec![(list, append("1:1"))]), (0, Ok(())), "nothing changes");
    assert_eq!(cluster.alter(2, "c", vec![(list, subtract("0:1"))]), (1, Ok(())));
    assert_eq!(cluster.follower.topic_overrides("c")[list], "1:1");
    assert_eq!(cluster.alter(2, "c", vec![("cleanup.policy", append("delete"))]).1, Ok(()), "from the default");
    for op in [append("1"), subtract("1")] {
        refused(cluster.alter(2, "c", vec![("retention.ms", op)]).1, ErrorCode::InvalidConfig, "not LIST");
    }
    refused(
        cluster.alter(2, "c", vec![("cleanup.policy", append("compact"))]).1,
        ErrorCode::InvalidConfig,
        "compaction",
    );
    refused(cluster.alter(2, "c", vec![(list, AlterOp::new(3, None))]).1, ErrorCode::InvalidRequest, "Null");
    refused(
        cluster.alter(2, "c", vec![(list, AlterOp::new(9, None))]).1,
        ErrorCode::InvalidRequest,
        "operation type 9",
    );
}

#[test]
fn changes_of_a_resource_hold_together_or_not_at_all() {
    let mut cluster = Cluster::new();
    cluster.create(topic("c")).unwrap();
    let half = vec![("retention.ms", set("7")), ("segment.ms", set("0"))];
    refused(cluster.alter(2, "c", half).1, ErrorCode::InvalidConfig, "at least 1");
    assert!(cluster.follower.topic_overrides("c").is_empty());
    assert_eq!(cluster.alter(2, "c", vec![("retention.ms", set("7"))]), (1, Ok(())));
    assert_eq!(cluster.alter(2, "c", vec![("retention.ms", AlterOp::Delete)]), (1, Ok(())));
    assert_eq!(cluster.alter(2, "c", vec![("retention.ms", AlterOp::Delete)]), (0, Ok(())));
    let twice = vec![("retention.ms", set("7")), ("retention.ms", AlterOp::Delete)];
    refused(cluster.alter(2, "c", twice).1, ErrorCode::InvalidRequest, "duplicate config keys");
    refused(cluster.alter(2, "none", vec![]).1, ErrorCode::UnknownTopicOrPartition, "does not exist");
    refused(cluster.alter(4, "7", vec![]).1, ErrorCode::InvalidRequest, "expected 1");
    refused(cluster.alter(4, "x", vec![]).1, ErrorCode::InvalidRequest, "not served");
    refused(cluster.alter(4, "", vec![("num.partitions", set("3"))]).1, ErrorCode::InvalidRequest, "dynamically");
}

#[test]
fn what_replaces_leaves_only_what_it_names() {
    let mut cluster = Cluster::new();
    cluster.create(topic("c")).unwrap();
    cluster.alter(2, "c", vec![("retention.ms", set("7")), ("segment.ms", set("8"))]).1.unwrap();
    let mut replace = |value: &str| {
        let changes = vec![("segment.ms".to_owned(), set(value))];
        let resources = vec![AlterResource { kind: 2, name: "c".to_owned(), changes }];
        let request = Request::AlterConfigs { resources, replaces: true, validate_only: false };
        match cluster.submit_counted(request) {
            (count, Reply::AlteredConfigs(altered)) => (count, altered[0].result.is_ok()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(replace("many"), (0, false));
    assert_eq!(replace("9"), (2, true));
    assert_eq!(cluster.follower.topic_overrides("c"), &BTreeMap::from([("segment.ms".to_owned(), "9".to_owned())]));
}

fn entity(parts: &[(&str, Option<&str>)]) -> QuotaEntity {
    parts.iter().map(|(kind, name)| (kind.to_string(), name.map(str::to_owned))).collect()
}

impl Cluster {
    fn quota(&mut self, parts: &[(&str, Option<&str>)], changes: &[(&str, Option<f64>)]) -> Result<(), Rejection> {
        let changes = changes.iter().map(|(key, value)| (key.to_string(), *value)).collect();
        let entries = vec![AlterQuota { entity: entity(parts), changes }];
        match self.submit(Request::AlterQuotas { entries, validate_only: false }) {
            Reply::AlteredQuotas(mut altered) => altered.remove(0).result,
            other => panic!("{other:?}"),
        }
    }

    fn quotas_of(&self, wanted: &[(&str, QuotaMatch)], is_strict: bool) -> Vec<(QuotaEntity, String, f64)> {
        let mut filter = QuotaFilter::new(is_strict);
        wanted.iter().for_each(|(kind, wanted)| filter.add(kind.to_string(), wanted.clone()).unwrap());
        let passing = self.follower.quotas().filter(|quota| filter.passes(&quota.entity));
        passing.map(|quota| (quota.entity, quota.key, quota.value)).collect()
    }
}

#[test]
fn quotas_are_records_and_are_found_by_their_parts() {
    let mut cluster = Cluster::new();
    let (user, client) = (("user", Some("u")), ("client-id", Some("c")));
    let rate = |key, value| [(key, Some(value))];
    cluster.quota(&[user, client], &rate(PRODUCER_BYTE_RATE, 1000.0)).unwrap();
    cluster.quota(&[client, user], &rate(CONSUMER_BYTE_RATE, 2000.0)).unwrap();
    cluster.quota(&[("user", None)], &rate(REQUEST_PERCENTAGE, 12.5)).unwrap();
    cluster.quota(&[client], &rate(CONTROLLER_MUTATION_RATE, 0.5)).unwrap();
    let pair = entity(&[client, user]);
    let of_u = cluster.quotas_of(&[("user", QuotaMatch::Exact("u".to_owned()))], false);
    let expected = [(pair.clone(), CONSUMER_BYTE_RATE, 2000.0), (pair, PRODUCER_BYTE_RATE, 1000.0)];
    assert_eq!(of_u, expected.map(|(entity, key, value)| (entity, key.to_owned(), value)), "one entity in any order");
    assert_eq!(cluster.quotas_of(&[("user", QuotaMatch::Exact("u".to_owned()))], true), []);
    assert_eq!(cluster.quotas_of(&[("user", QuotaMatch::Default)], true).len(), 1);
    assert_eq!(cluster.quotas_of(&[("client-id", QuotaMatch::Any)], true).len(), 1);
    assert_eq!(cluster.quotas_of(&[("client-id", QuotaMatch::Any)], false).len(), 3);
    cluster.quota(&[user, client], &[(PRODUCER_BYTE_RATE, None), (CONSUMER_BYTE_RATE, None)]).unwrap();
    assert_eq!(cluster.quotas_of(&[], false).len(), 2);
}

#[test]
fn a_quota_that_could_not_be_kept_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::new();
    let client = ("client-id", Some("c"));
    let mut refuse = |parts: &[(&str, Option<&str>)], changes: &[(&str, Option<f64>)], part: &str| {
        refused(cluster.quota(parts, changes), ErrorCode::InvalidRequest, part);
    };
    let good = (PRODUCER_BYTE_RATE, Some(5.0));
    refuse(&[], &[good], "empty client quota entity");
    refuse(&[("colour", Some("red"))], &[good], "Unhandled");
    refuse(&[("ip", Some("10.0.0.1"))], &[("connection_creation_rate", Some(1.0))], "not served");
    refuse(&[("user", Some(""))], &[good], "Empty user");
    refuse(&[client, client], &[good], "duplicate");
    refuse(&[client], &[good, good], "Duplicate");
    refuse(&[client], &[good, ("no_such_rate", Some(1.0))], "Invalid configuration key");
    refuse(&[client], &[(CONSUMER_BYTE_RATE, Some(1.5))], "fractional");
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refuse(&[client], &[(REQUEST_PERCENTAGE, Some(value))], "greater than 0");
    }
    assert_eq!(cluster.follower.quotas().count(), 0);
    let mut filter = QuotaFilter::new(false);
    assert!(filter.add("colour".to_owned(), QuotaMatch::Any).is_err());
    assert!(filter.add("ip".to_owned(), QuotaMatch::Any).is_ok());
    assert!(filter.add("ip".to_owned(), QuotaMatch::Any).is_err());
    assert!(filter.add("user".to_owned(), QuotaMatch::Any).is_err(), "addresses have no users");
}

/// Another value than the default for each configuration of topics that has an effect.
const OTHER_VALUES: [(&str, &str); 15] = [
    ("flush.messages", "7"),
    ("flush.ms", "7"),
    ("index.interval.bytes", "7"),
    ("max.message.bytes", "7"),
    ("message.timestamp.after.max.ms", "7"),
    ("message.timestamp.before.max.ms", "7"),
    ("message.timestamp.type", "LogAppendTime"),
    ("retention.bytes", "7"),
    ("retention.ms", "7"),
    ("segment.bytes", "1048577"),
    ("segment.ms", "7"),
    ("cleanup.policy", ""),
    ("compression.gzip.level", "7"),
    ("compression.type", "lz4"),
    ("compression.zstd.level", "7"),
];

#[test]
fn every_effective_configuration_reaches_the_logs_from_its_topic_and_from_the_broker() {
    let properties = BrokerProperties::default();
    let effective = TOPIC_ROWS.iter().filter(|row| matches!(row.served, Served::Effective));
    let named: Vec<&str> = OTHER_VALUES.iter().map(|(name, _)| *name).collect();
    assert!(effective.clone().all(|row| named.contains(&row.name)), "a row has no value above");
    let settings = |cluster: &Cluster| {
        let broker = cluster.follower.broker_configs(&properties, 1);
        effective_topic_settings(cluster.follower.topic_overrides("t"), &broker)
    };
    for row in effective {
        let (name, value) = OTHER_VALUES.iter().find(|(name, _)| *name == row.name).unwrap();
        let mut cluster = Cluster::new();
        cluster.create(topic("t")).unwrap();
        let before = settings(&cluster);
        cluster.alter(2, "t", vec![(name, set(value))]).1.unwrap();
        let by_topic = settings(&cluster);
        assert_ne!(by_topic, before, "{name} of the topic");
        cluster.alter(2, "t", vec![(name, AlterOp::Delete)]).1.unwrap();
        let (synonym, _) = row.synonyms.first().unwrap();
        if *synonym == "log.cleanup.policy" {
            continue; // compaction for all topics is not served, so nothing but the default is taken
        }
        cluster.alter(4, "1", vec![(synonym, set(value))]).1.unwrap();
        assert_eq!(settings(&cluster), by_topic, "{synonym} of the broker");
    }
    let mut cluster = Cluster::new();
    cluster.create(topic("t")).unwrap();
    cluster.alter(4, "", vec![("producer.id.expiration.ms", set("7"))]).1.unwrap();
    assert_eq!(settings(&cluster).log.producer_expiration_ms, 7);
}

#[test]
fn a_topics_value_comes_from_the_strongest_layer() {
    let mut cluster = Cluster::with(&[("log.retention.hours", "2"), ("log.flush.interval.messages", "100")]);
    cluster.create(topic("e")).unwrap();
    let properties = BrokerProperties::new(BTreeMap::from([
        ("log.retention.hours".to_owned(), "2".to_owned()),
        ("log.flush.interval.messages".to_owned(), "100".to_owned()),
    ]))
    .unwrap();
    let retention = |cluster: &Cluster| {
        let broker = cluster.follower.broker_configs(&properties, 1);
        let overrides = cluster.follower.topic_overrides("e");
        let described = describe_topic(overrides, &broker);
        let entry = described.into_iter().find(|entry| entry.name == "retention.ms").unwrap();
        let settings = effective_topic_settings(overrides, &broker);
        assert_eq!(entry.value.unwrap(), settings.log.retention_ms.unwrap_or(-1).to_string());
        let settings = settings.log;
        assert_eq!((settings.flush_messages, settings.is_flush_mode()), (Some(100), false));
        (settings.retention_ms, entry.source, entry.synonyms.len())
    };
    assert_eq!(retention(&cluster), (Some(7_200_000), ConfigSource::StaticBroker, 2));
    cluster.alter(4, "", vec![("log.retention.ms", set("60"))]).1.unwrap();
    assert_eq!(retention(&cluster), (Some(60), ConfigSource::DynamicDefaultBroker, 3));
    cluster.alter(4, "1", vec![("log.retention.ms", set("50"))]).1.unwrap();
    assert_eq!(retention(&cluster), (Some(50), ConfigSource::DynamicBroker, 4));
    cluster.alter(2, "e", vec![("retention.ms", set("-1"))]).1.unwrap();
    assert_eq!(retention(&cluster), (None, ConfigSource::DynamicTopic, 5));
}

#[test]
fn a_brokers_value_is_told_with_what_says_the_same_in_another_unit_behind_it() {
    let mut cluster = Cluster::new();
    let properties = BrokerProperties::default();
    let told = |cluster: &Cluster, name: &str| {
        let entries = describe_broker(&cluster.follower.broker_configs(&properties, 1));
        let entry = entries.into_iter().find(|entry| entry.name == name).unwrap();
        (entry.value, entry.synonyms.iter().map(|synonym| synonym.name).collect::<Vec<_>>())
    };
    assert_eq!(told(&cluster, "log.retention.ms"), (None, vec![]));
    assert_eq!(told(&cluster, "log.retention.hours"), (Some("168".to_owned()), vec!["log.retention.hours"]));
    cluster.alter(4, "1", vec![("log.retention.ms", set("5"))]).1.unwrap();
    let behind = vec!["log.retention.ms", "log.retention.hours"];
    assert_eq!(told(&cluster, "log.retention.ms"), (Some("5".to_owned()), behind));
    assert_eq!(describe_broker_defaults(&cluster.follower.broker_configs(&properties, 1)).len(), 0);
}

#[test]
fn without_settings_a_topic_has_the_engines_defaults() {
    let (catalog, properties) = (Catalog::default(), BrokerProperties::default());
    let broker = catalog.broker_configs(&properties, 1);
    let settings = effective_topic_settings(&BTreeMap::new(), &broker);
    assert_eq!(settings.log, watershed_core::partition::LogSettings::default());
    assert_eq!(settings.compression.codec, None, "what the producer sent is kept");
    let described = describe_topic(&BTreeMap::new(), &broker);
    assert!(described.iter().all(|entry| entry.source == ConfigSource::Default && entry.value.is_some()));
}

#[test]
fn every_row_accepts_its_default_and_is_sorted() {
    assert!(TOPIC_ROWS.is_sorted_by(|one, two| one.name < two.name));
    assert!(BROKER_ROWS.is_sorted_by(|one, two| one.name < two.name));
    for row in TOPIC_ROWS {
        assert_eq!(row.check(row.default), Ok(()), "{}", row.name);
        assert!(row.synonyms.iter().all(|(name, _)| property(name).is_some()), "{}", row.name);
        let direct = row.synonyms.iter().find(|(_, scale)| *scale == 1).and_then(|(name, _)| property(name)?.default);
        assert!(direct.is_none_or(|default| default == row.default), "{}", row.name);
    }
    for row in BROKER_ROWS {
        let default = row.default.map_or(Ok(()), |default| row.check(default));
        assert_eq!(default, Ok(()), "{}", row.name);
    }
}

#[test]
fn properties_are_checked_all_at_once() {
    let given = |pairs: &[(&str, &str)]| {
        BrokerProperties::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    };
    let mistakes =
        given(&[("num.partition", "1"), ("num.io.threads", "0"), ("default.replication.factor", "3")]).unwrap_err();
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains("did you mean num.partitions")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("at least 1")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("one broker")), "{texts:?}");
    let good = given(&[("num.partitions", " 6 "), ("auto.create.topics.enable", "FALSE")]).unwrap();
    assert_eq!((good.number("num.partitions"), good.is_on("auto.create.topics.enable")), (6, false));
    assert_eq!(good.text("log.retention.ms"), None);
}

#[test]
fn secrets_are_never_told() {
    let secret = BTreeMap::from([("ssl.keystore.password".to_owned(), "hunter2".to_owned())]);
    let (none, properties) = (BTreeMap::new(), BrokerProperties::default());
    let broker = BrokerConfigs { dynamic: &secret, dynamic_default: &none, properties: &properties };
    let described = describe_broker(&broker);
    let entry = described.iter().find(|entry| entry.name == "ssl.keystore.password").unwrap();
    assert!(entry.sensitive && entry.value.is_none() && !format!("{described:?}").contains("hunter2"));
}

#[test]
fn deletion_refuses_what_is_unknown_named_twice_or_disabled() {
    let mut cluster = Cluster::new();
    let id = cluster.create(topic("d")).unwrap().id;
    let name = |name: &str| TopicRef::Name(name.into());
    let deleted = cluster.delete(vec![name("no"), TopicRef::Id(TopicId([99; 16])), name("d"), TopicRef::Id(id)]);
    let codes: Vec<_> = deleted.into_iter().map(|topic| topic.result.unwrap_err().code).collect();
    let twice = ErrorCode::InvalidRequest;
    assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId, twice, twice]);
    assert_eq!(cluster.follower.topic_count(), 1);
    let mut locked = Cluster::with(&[("delete.topic.enable", "false")]);
    locked.create(topic("d")).unwrap();
    refused(locked.delete(vec![name("d")]).remove(0).result, ErrorCode::TopicDeletionDisabled, "disabled");
}

#[test]
fn blocks_of_producer_ids_never_overlap() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.allocate(5), Ok(0));
    assert_eq!(cluster.allocate(5), Ok(1000));
    assert_eq!(cluster.allocate(4), Err(ErrorCode::StaleBrokerEpoch));
    let restarted = Controller::new(rebuilt(&cluster.follower), 1, BrokerProperties::default());
    assert_eq!(restarted.image().next_producer_id(), 2000);
}

#[test]
fn registration_rises_and_formatting_happens_once() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.submit_counted(Request::Format(Format::default())), (0, Reply::Formatted(false)));
    assert_eq!(cluster.follower.features()[METADATA_VERSION_FEATURE], METADATA_VERSION);
    assert!(!cluster.follower.broker(1).unwrap().fenced);
    for (broker_epoch, accepted) in [(5, false), (4, false), (6, true)] {
        let again = RegisterBroker { broker_id: 1, broker_epoch, ..Default::default() };
        let Reply::Registered(result) = cluster.submit(Request::RegisterBroker(again)) else { panic!() };
        assert_eq!(result.is_ok(), accepted, "{broker_epoch}");
    }
    assert_eq!(cluster.allocate(5), Err(ErrorCode::StaleBrokerEpoch), "the old incarnation");
}

#[test]
fn a_raised_leader_epoch_keeps_the_leader() {
    let mut cluster = Cluster::new();
    let topic = cluster.create(topic("r")).unwrap().id;
    let (here, gone) = (TopicPartition { topic, partition: 0 }, TopicPartition { topic, partition: 9 });
    assert_eq!(cluster.submit(Request::RaiseLeaderEpochs(vec![here, gone])), Reply::RaisedLeaderEpochs(1));
    let partition = cluster.follower.partition(here).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch, partition.partition_epoch), (1, 1, 1));
}

#[test]
fn a_topic_id_never_prints_with_a_leading_dash_and_is_never_reused() {
    let properties = BrokerProperties::default();
    let mut controller = Controller::new(Catalog::default(), 1, properties);
    let mut create = |name: &str, id: TopicId| {
        let topics = vec![topic(name)];
        let request = Request::CreateTopics(TopicCreation { topics, validate_only: false });
        match controller.submit(request, &[id]).1 {
            Reply::CreatedTopics(mut created) => created.remove(0).result,
            other => panic!("{other:?}"),
        }
    };
    let dashed = TopicId([0xfb; 16]);
    assert!(dashed.to_string().starts_with('-'));
    assert!(!create("one", dashed).unwrap().id.to_string().starts_with('-'));
    for taken in [dashed, TopicId::ZERO, TopicId::CLUSTER_METADATA] {
        refused(create("two", taken), ErrorCode::UnknownServerError, "topic id");
    }
}

#[test]
fn records_that_do_not_fit_are_errors() {
    let mut cluster = Cluster::new();
    let id = cluster.create(topic("f")).unwrap().id;
    let stranger = TopicId([77; 16]);
    let misfits: Vec<MetadataRecord> = vec![
        TopicRecord { name: "f".into(), topic_id: stranger }.into(),
        TopicRecord { name: "g".into(), topic_id: id }.into(),
        PartitionRecord { partition_id: 0, topic_id: stranger, ..Default::default() }.into(),
        PartitionChangeRecord { partition_id: 9, topic_id: id, ..Default::default() }.into(),
        RemoveTopicRecord { topic_id: stranger }.into(),
        BrokerRegistrationChangeRecord { broker_id: 3, ..Default::default() }.into(),
        BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: 4, ..Default::default() }.into(),
        ProducerIdsRecord { broker_id: 1, broker_epoch: 5, next_producer_id: -1 }.into(),
    ];
    for record in misfits {
        let mut image = cluster.follower.clone();
        assert!(image.replay(&record).is_err(), "{record:?}");
        assert_eq!(image, cluster.follower, "an error changes nothing");
    }
}
