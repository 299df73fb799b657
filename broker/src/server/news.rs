//! News: what an operator is told of a change of the metadata that was committed.
//!
//! Made before the change is applied, since what is removed has its name only until then; logged once every shard has it.

use std::collections::BTreeMap;

use watershed_core::units::TopicId;

use crate::catalog::{Catalog, MetadataRecord, Resource};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    Created {
        topic: String,
        partitions: usize,
    },
    Grown {
        topic: String,
        added: usize,
    },
    Deleted {
        topic: String,
    },
    /// The value only of topics: a broker's may be a secret.
    Configured {
        resource: String,
        name: String,
        value: Option<String>,
    },
}

/// What these records mean for this catalog, which has not taken them in yet.
pub(super) fn of(catalog: &Catalog, records: &[MetadataRecord]) -> Vec<News> {
    let (mut created, mut partitions): (BTreeMap<TopicId, &str>, BTreeMap<TopicId, usize>) = Default::default();
    let mut news = Vec::new();
    let known = |id: TopicId| catalog.topic(id).map_or_else(|| id.to_string(), |topic| topic.name.clone());
    for record in records {
        match record {
            MetadataRecord::Topic(topic) => drop(created.insert(topic.topic_id, &topic.name)),
            MetadataRecord::Partition(partition) => *partitions.entry(partition.topic_id).or_default() += 1,
            MetadataRecord::RemoveTopic(removed) => news.push(News::Deleted { topic: known(removed.topic_id) }),
            MetadataRecord::Config(config) => news.push(News::Configured {
                resource: config.resource_name.clone(),
                name: config.name.clone(),
                value: config.value.clone().filter(|_| config.resource_type == Resource::TOPIC),
            }),
            _ => {}
        }
    }
    news.extend(partitions.into_iter().map(|(id, count)| match created.get(&id) {
        Some(name) => News::Created { topic: (*name).to_owned(), partitions: count },
        None => News::Grown { topic: known(id), added: count },
    }));
    news
}

impl News {
    pub(super) fn log(&self) {
        match self {
            News::Created { topic, partitions } => tracing::info!(topic, partitions, "topic created"),
            News::Grown { topic, added } => tracing::info!(topic, added, "partitions added to a topic"),
            News::Deleted { topic } => tracing::info!(topic, "topic deleted"),
            News::Configured { resource, name, value } => {
                tracing::info!(resource, name, value, "configuration changed");
            }
        }
    }
}
