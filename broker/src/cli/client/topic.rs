//! `topic`: topics and their records.

use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::{Cluster, NewTopic, Place, Resource, TopicInfo};

use super::super::{Exit, Failure};
use super::table::Table;
use super::{Common, pair, print, print_json};

#[derive(Subcommand)]
pub(in crate::cli) enum TopicCommand {
    /// Topics with their partitions
    List {
        /// With those that Kafka keeps for itself
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Create topics
    Create {
        #[arg(required = true)]
        topics: Vec<String>,
        /// How many partitions [default: the broker's num.partitions]
        #[arg(short, long, default_value_t = -1, hide_default_value = true)]
        partitions: i32,
        /// How many replicas [default: the broker's]
        #[arg(short, long, default_value_t = -1, hide_default_value = true)]
        replication_factor: i16,
        /// A configuration, like retention.ms=3600000; may be repeated
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        /// Only check whether it could be created
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Partitions, their logs' ends, and the configurations that differ from the defaults
    Describe {
        #[arg(required = true)]
        topics: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Give a topic more partitions
    Alter {
        topic: String,
        /// How many it is to have in all
        #[arg(short, long)]
        partitions: i32,
        #[command(flatten)]
        common: Common,
    },
    /// Delete topics with all their records
    Delete {
        #[arg(required = true)]
        topics: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the records of a topic before an offset
    DeleteRecords {
        topic: String,
        /// The first offset that stays; -1: none that is there now
        #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
        before: i64,
        /// Of these partitions [default: all]
        #[arg(short, long, value_delimiter = ',')]
        partitions: Vec<i32>,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs `topic`.
pub(super) fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::List { internal, common } => list(internal, &common),
        TopicCommand::Create { topics, partitions, replication_factor, configs, dry_run, common } => {
            let new = NewTopic { name: String::new(), partitions, replication_factor, configs };
            create(&topics, &new, dry_run, &common)
        }
        TopicCommand::Describe { topics, common } => describe(&topics, &common),
        TopicCommand::Alter { topic, partitions, common } => {
            common.target.connect()?.grow_topic(&topic, partitions)?;
            said(&common, "altered", &[topic])
        }
        TopicCommand::Delete { topics, common } => {
            let mut cluster = common.target.connect()?;
            topics.iter().try_for_each(|topic| cluster.delete_topic(topic))?;
            said(&common, "deleted", &topics)
        }
        TopicCommand::DeleteRecords { topic, before, partitions, common } => {
            delete_records(&topic, before, &partitions, &common)
        }
    }
}

/// Tells what was done to these topics.
fn said(common: &Common, what: &str, topics: &[String]) -> Result<(), Failure> {
    match common.json {
        true => print_json(&json!({ what: topics })),
        false => print(&topics.iter().map(|topic| format!("{what} topic {topic}\n")).collect::<String>()),
    }
}

fn list(internal: bool, common: &Common) -> Result<(), Failure> {
    let mut topics = common.target.connect()?.topics(None)?;
    topics.retain(|topic| internal || !topic.is_internal);
    if common.json {
        let row = |topic: &TopicInfo| {
            let (name, partitions, replicas) = (&topic.name, topic.partitions.len(), replicas(topic));
            json!({ "topic": name, "id": topic.id, "partitions": partitions, "replication_factor": replicas,
                "internal": topic.is_internal })
        };
        return print_json(&topics.iter().map(row).collect());
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in &topics {
        table.row([topic.name.clone(), topic.partitions.len().to_string(), replicas(topic).to_string()]);
    }
    print(&table.text())
}

fn replicas(topic: &TopicInfo) -> usize {
    topic.partitions.first().map_or(0, |part| part.replicas.len())
}

fn create(topics: &[String], like: &NewTopic, dry_run: bool, common: &Common) -> Result<(), Failure> {
    let mut cluster = common.target.connect()?;
    for name in topics {
        cluster.create_topic(&NewTopic { name: name.clone(), ..like.clone() }, dry_run)?;
    }
    said(common, if dry_run { "could create" } else { "created" }, topics)
}

fn describe(names: &[String], common: &Common) -> Result<(), Failure> {
    let mut cluster = common.target.connect()?;
    let topics = cluster.topics(Some(names))?;
    let described: Vec<Described> =
        topics.into_iter().map(|topic| Described::of(&mut cluster, topic)).collect::<Result<_, Failure>>()?;
    match common.json {
        true => print_json(&described.iter().map(Described::json).collect()),
        false => print(&described.iter().map(Described::text).collect::<Vec<_>>().join("\n")),
    }
}

struct Described {
    topic: TopicInfo,
    starts: BTreeMap<Place, i64>,
    ends: BTreeMap<Place, i64>,
    configs: Vec<(String, String)>,
}

impl Described {
    fn of(cluster: &mut Cluster, topic: TopicInfo) -> Result<Described, Failure> {
        let places: Vec<Place> = topic.partitions.iter().map(|part| (topic.name.clone(), part.partition)).collect();
        let (starts, ends) = (cluster.offsets(&places, -2)?, cluster.offsets(&places, -1)?);
        let configs = cluster.configs(&Resource::Topic(topic.name.clone()))?;
        let set = configs.into_iter().filter(|config| config.source == "topic");
        let configs = set.map(|config| (config.name, config.value.unwrap_or_default())).collect();
        Ok(Described { topic, starts, ends, configs })
    }

    fn bounds(&self, partition: i32) -> (i64, i64) {
        let place = (self.topic.name.clone(), partition);
        let of = |offsets: &BTreeMap<Place, i64>| offsets.get(&place).copied().unwrap_or(-1);
        (of(&self.starts), of(&self.ends))
    }

    fn json(&self) -> Value {
        let partition = |part: &crate::client::PartitionInfo| {
            let (start, end) = self.bounds(part.partition);
            json!({ "partition": part.partition, "leader": part.leader, "replicas": part.replicas,
                "in_sync": part.in_sync, "log_start": start, "high_watermark": end })
        };
        let partitions: Vec<Value> = self.topic.partitions.iter().map(partition).collect();
        let configs: BTreeMap<&String, &String> = self.configs.iter().map(|(name, value)| (name, value)).collect();
        json!({ "topic": self.topic.name, "id": self.topic.id, "internal": self.topic.is_internal,
            "partitions": partitions, "configs": configs })
    }

    fn text(&self) -> String {
        let mut text = format!("topic {}  id {}\n", self.topic.name, self.topic.id);
        for (name, value) in &self.configs {
            text.push_str(&format!("config {name}={value}\n"));
        }
        let mut table = Table::new(["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "START", "END", "RECORDS"]);
        for part in &self.topic.partitions {
            let (start, end) = self.bounds(part.partition);
            let ids = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let numbers = [start, end, end - start].map(|number| number.to_string());
            let [start, end, count] = numbers;
            let leader = part.leader.to_string();
            table.row([part.partition.to_string(), leader, ids(&part.replicas), ids(&part.in_sync), start, end, count]);
        }
        text + &table.text()
    }
}

fn delete_records(topic: &str, before: i64, partitions: &[i32], common: &Common) -> Result<(), Failure> {
    if before < -1 {
        return Err(Failure::new(Exit::Usage, format!("--before {before}: an offset, or -1 for all")));
    }
    let mut cluster = common.target.connect()?;
    let mut places = cluster.places(topic)?;
    places.retain(|(_, partition)| partitions.is_empty() || partitions.contains(partition));
    let starts = cluster.delete_records(&places.into_iter().map(|place| (place, before)).collect())?;
    if common.json {
        let row = |((topic, partition), start): (&Place, &i64)| json!({ "topic": topic, "partition": partition, "log_start": start });
        return print_json(&starts.iter().map(row).collect());
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "START"]);
    for ((topic, partition), start) in &starts {
        table.row([topic.clone(), partition.to_string(), start.to_string()]);
    }
    print(&table.text())
}
