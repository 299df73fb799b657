//! Drain and sweep: how connections end by our own will, all of them or those that do nothing.

use std::rc::Rc;
use std::time::Duration;

use watershed_core::io::executor::sleep;

use super::connection::Connection;
use super::node::Node;

/// How often connections are looked at; their deadlines are as exact as this.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long a drain waits for replies that are owed.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Takes no request more and waits until every connection has what it is owed.
pub(crate) async fn drain(node: &Rc<Node>) {
    node.closing.set(true);
    let connections: Vec<Rc<Connection>> = node.connections.borrow().values().cloned().collect();
    connections.iter().for_each(|connection| connection.drain());
    node.waiting.borrow().values().for_each(|bell| bell.ring());
    let ended = node.changed.until(|| node.connections.borrow().is_empty());
    if watershed_core::io::executor::until(watershed_core::io::executor::now() + DRAIN_MAX, ended).await.is_none() {
        let left = node.connections.borrow().len();
        tracing::warn!(left, "connections did not take what they were owed in time");
        connections.iter().for_each(|connection| connection.abandon());
    }
}

/// Ends idle and stuck connections, for as long as the shard runs.
pub(crate) async fn sweep(node: Rc<Node>) {
    loop {
        sleep(SWEEP_EVERY).await;
        let now_us = node.now_us();
        let connections: Vec<Rc<Connection>> = node.connections.borrow().values().cloned().collect();
        for connection in connections {
            if connection.is_late(now_us) {
                connection.turn_away("a request did not arrive whole in time");
            } else if connection.is_idle(now_us) {
                connection.abandon();
            }
        }
    }
}
