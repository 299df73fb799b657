//! Coordinators: where a group lives, and how it is asked.

use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::catalog::{NewTopic, Request, TopicCreation};
use crate::groups::{Answer, Waiter};
use crate::server::calls::{Call, Reply};
use crate::server::connection::Connection;
use crate::server::groups::{GroupAsk, GroupTold};
use crate::server::node::Node;
use crate::server::offsets_log::TOPIC;
use crate::wire::error_code::ErrorCode;
use watershed_core::io::bell::{First, first};

use super::controller;

/// The partition of the offsets topic that a group belongs to, among `count`: Java's hash of the name, as in
/// `GroupCoordinatorService.partitionFor`.
fn partition_of(group: &str, count: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Java has no absolute value of its least number; Kafka takes 0.
    hash.checked_abs().unwrap_or(0) % count.max(1)
}

/// The group's partition of the offsets topic.
fn place(node: &Node, group: &str) -> Result<TopicPartition, ErrorCode> {
    let catalog = node.catalog.borrow();
    let topic = catalog.topic_named(TOPIC).ok_or(ErrorCode::NotCoordinator)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    Ok(TopicPartition { topic: topic.id, partition: partition_of(group, count) })
}

/// Makes sure that there is an offsets topic, and so a coordinator for every group.
pub(crate) async fn ensure(node: &Rc<Node>) -> Result<(), ErrorCode> {
    if node.catalog.borrow().topic_named(TOPIC).is_some() {
        return Ok(());
    }
    let count = node.cluster().properties.number("offsets.topic.num.partitions");
    let topic =
        NewTopic { partition_count: i32::try_from(count).unwrap_or(i32::MAX), ..NewTopic::with_defaults(TOPIC) };
    let creation = TopicCreation { topics: vec![topic], validate_only: false };
    controller::submit(node, Request::CreateTopics(creation)).await?;
    match node.catalog.borrow().topic_named(TOPIC) {
        Some(_) => Ok(()),
        None => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

/// Asks the group's coordinator.
pub(crate) async fn ask(node: &Rc<Node>, group: &str, ask: GroupAsk) -> Result<GroupTold, ErrorCode> {
    let at = place(node, group)?;
    let owner = node.owner(at).map_err(|_| ErrorCode::NotCoordinator)?;
    match node.call(owner, Call::Group(at, group.to_owned(), ask)).await {
        Reply::Group(told) => told,
        Reply::Failed(error) => Err(error),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// Asks what is answered when the group is ready, and waits for it as long as the client does.
pub(crate) async fn wait(
    connection: &Rc<Connection>,
    group: &str,
    asks: impl FnOnce(Waiter) -> GroupAsk,
) -> Result<Answer, ErrorCode> {
    let node = &connection.node;
    let wait = node.wait_for_group();
    ask(node, group, asks(wait.waiter())).await?;
    let leaves = connection.changed.until(|| connection.is_gone() || node.closing.get());
    match first(wait.answer(), leaves).await {
        First::Left(answer) => Ok(answer),
        First::Right(()) => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_placed_where_kafka_places_them() {
        // "hello".hashCode() is 99162322; the last one's is Integer.MIN_VALUE.
        assert_eq!(partition_of("hello", 50), 22);
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("console-consumer", 1), 0);
    }
}
