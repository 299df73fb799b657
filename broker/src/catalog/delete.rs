//! DeleteTopics, by name or by id.

use std::collections::BTreeSet;

use watershed_core::units::TopicId;

use super::controller::Controller;
use super::create::duplicates;
use super::record::{MetadataRecord, RemoveTopicRecord};
use super::rejection::{Outcome, refuse};
use crate::wire::error_code::ErrorCode;

/// A topic as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// As far as it is known.
    pub name: Option<String>,
    /// [`TopicId::ZERO`] if it is not known.
    pub id: TopicId,
    pub result: Outcome<()>,
}

pub(super) fn delete_topics(
    controller: &mut Controller,
    topics: Vec<TopicRef>,
    records: &mut Vec<MetadataRecord>,
) -> Vec<DeletedTopic> {
    let twice = named_twice(controller, &topics);
    let mut deleted = Vec::with_capacity(topics.len());
    for topic in topics {
        let result = find(controller, &topic, &twice);
        if let Ok((_, topic_id)) = result {
            controller.emit(RemoveTopicRecord { topic_id }, records);
        }
        deleted.push(answer(topic, result));
    }
    deleted
}

/// The ids that a request means more than once, by name, by id or by both; and unknown names.
fn named_twice(controller: &Controller, topics: &[TopicRef]) -> (BTreeSet<TopicId>, BTreeSet<String>) {
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    let mut names = Vec::new();
    for topic in topics {
        let id = match topic {
            TopicRef::Id(id) => *id,
            TopicRef::Name(name) => {
                names.push(name.as_str());
                let topic = controller.image().topic_named(name);
                topic.map_or(TopicId::ZERO, |topic| topic.id)
            }
        };
        if id != TopicId::ZERO && !once.insert(id) {
            twice.insert(id);
        }
    }
    (twice, duplicates(names.into_iter()))
}

fn find(
    controller: &Controller,
    topic: &TopicRef,
    (twice, names): &(BTreeSet<TopicId>, BTreeSet<String>),
) -> Outcome<(String, TopicId)> {
    if !controller.properties().is_on("delete.topic.enable") {
        return refuse(ErrorCode::TopicDeletionDisabled, "Topic deletion is disabled.");
    }
    let duplicate = |what| refuse(ErrorCode::InvalidRequest, format!("Duplicate topic {what}."));
    let image = controller.image();
    let found = match topic {
        TopicRef::Name(name) if names.contains(name) => return duplicate("name"),
        TopicRef::Id(id) if twice.contains(id) => return duplicate("id"),
        TopicRef::Name(name) => image.topic_named(name),
        TopicRef::Id(id) => image.topic(*id),
    };
    match (found, topic) {
        (Some(found), _) if twice.contains(&found.id) => duplicate("name"),
        (Some(found), _) => Ok((found.name.clone(), found.id)),
        (None, TopicRef::Name(_)) => {
            refuse(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
        }
        (None, TopicRef::Id(_)) => refuse(ErrorCode::UnknownTopicId, "This server does not host this topic ID."),
    }
}

fn answer(topic: TopicRef, result: Outcome<(String, TopicId)>) -> DeletedTopic {
    match (topic, result) {
        (_, Ok((name, id))) => DeletedTopic { name: Some(name), id, result: Ok(()) },
        (TopicRef::Name(name), Err(rejection)) => {
            DeletedTopic { name: Some(name), id: TopicId::ZERO, result: Err(rejection) }
        }
        (TopicRef::Id(id), Err(rejection)) => DeletedTopic { name: None, id, result: Err(rejection) },
    }
}
