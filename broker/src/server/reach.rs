//! How ordinary threads reach the shards of a broker that runs: orders, pulses, and the logs of its topics.
//!
//! Owns the senders; the shards own everything else. Nothing here is for a client's request.

use std::rc::Rc;
use std::time::{Duration, Instant};

use watershed_core::io::executor::spawn;
use watershed_core::io::log::{Log, LogSender};
use watershed_core::io::notify::{Answer, ThreadSender, answer};
use watershed_core::io::supervisor::Supervisor;
use watershed_core::units::{ShardId, TopicPartition};

use crate::api::auto_create;
use crate::catalog::is_internal;
use crate::wire::error_code::ErrorCode;
use crate::wire::topic_ref::TopicRef;

use super::node::Node;
use super::shard::Order;

/// Longer than any start of a topic takes.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// Why a partition's log is not given out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogRefusal {
    #[error("{topic}-{partition}: {}", .error.name())]
    Refused { topic: String, partition: i32, error: ErrorCode },
    #[error("{topic}-{partition}: the broker has ended")]
    Ended { topic: String, partition: i32 },
}

/// The shards of a broker.
pub struct Running {
    pub supervisor: Supervisor,
    pub(super) orders: Vec<ThreadSender<Order>>,
    pub(super) logs: Vec<LogSender>,
}

/// What an order to open a log is answered.
pub(super) type Opened = Result<(TopicPartition, ShardId), ErrorCode>;

impl Running {
    /// Whether every shard answers within `at_most`.
    pub fn pulse(&self, at_most: Duration) -> bool {
        pulse(&self.orders, at_most)
    }

    /// The same for another thread; false once the shards are gone.
    pub fn pulse_handle(&self) -> impl Fn(Duration) -> bool + Send + 'static {
        let orders = self.orders.clone();
        move |at_most| pulse(&orders, at_most)
    }

    /// The log of a topic's partition.
    pub fn log(&self, topic: &str, partition: i32) -> Result<Log, LogRefusal> {
        let ended = || LogRefusal::Ended { topic: topic.to_owned(), partition };
        let (answer, opened) = answer();
        let order = Order::Open { topic: topic.to_owned(), partition, answer };
        let sent = self.orders.first().map(|leader| leader.send(order));
        sent.and_then(Result::ok).ok_or_else(ended)?;
        let refused = |error| LogRefusal::Refused { topic: topic.to_owned(), partition, error };
        let (at, owner) = opened.wait(OPEN_WAIT).ok_or_else(ended)?.map_err(refused)?;
        let shard = self.logs.get(usize::from(owner.0)).ok_or_else(ended)?;
        Ok(shard.log(at, topic))
    }
}

/// All are asked before the first answer is waited for.
fn pulse(orders: &[ThreadSender<Order>], at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    let asked: Vec<_> = orders
        .iter()
        .map(|shard| {
            let (answer, asked) = answer();
            // A shard that is gone drops the answer, which is told below.
            drop(shard.send(Order::Pulse(answer)));
            asked
        })
        .collect();
    asked.into_iter().all(|asked| asked.wait(deadline.saturating_duration_since(Instant::now())).is_some())
}

/// Finds the owner on the leading shard, without holding other orders up.
pub(super) fn open(node: &Rc<Node>, topic: String, partition: i32, answer: Answer<Opened>) {
    let node = Rc::clone(node);
    drop(spawn(async move {
        auto_create::missing(&node, std::iter::once(topic.as_str())).await;
        answer.send(owner(&node, &topic, partition));
    }));
}

fn owner(node: &Node, topic: &str, partition: i32) -> Opened {
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopic);
    }
    let at = TopicPartition { topic: node.topic_id(TopicRef::Name(topic))?, partition };
    Ok((at, node.owner(at)?))
}
