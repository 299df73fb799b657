//! Auto-creation: topics that Metadata asks for and that do not exist, with the broker's defaults.

use std::rc::Rc;

use crate::catalog::{NewTopic, Request, TopicCreation, is_internal};
use crate::server::node::Node;

use super::controller;

/// Creates those of the names that are missing and possible, if the broker is set to. What cannot be created is still
/// missing afterwards, which the answer says by itself.
pub(crate) async fn missing(node: &Rc<Node>, names: impl Iterator<Item = &str>) {
    if !node.cluster().properties.is_on("auto.create.topics.enable") {
        return;
    }
    let topics: Vec<NewTopic> = {
        let catalog = node.catalog.borrow();
        let absent = |name: &&str| catalog.topic_named(name).is_none();
        let mut names: Vec<&str> = names.filter(absent).filter(|name| is_possible_name(name)).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|name| !is_internal(name)).map(NewTopic::with_defaults).collect()
    };
    if topics.is_empty() {
        return;
    }
    let creation = TopicCreation { topics, validate_only: false };
    if let Err(error) = controller::submit(node, Request::CreateTopics(creation)).await {
        tracing::warn!(error = error.name(), "topics were not created");
    }
}

/// Whether a topic could have this name.
pub(crate) fn is_possible_name(name: &str) -> bool {
    const NAME_BYTES_MAX: usize = 249;
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_legal)
}
