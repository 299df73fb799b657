//! Quotas on one shard: what the requests of its connections use, charged where that is counted, and how long their
//! clients wait.
//!
//! A request carries a [`Usage`] only while some quota exists. A charge is one call to the shard that counts for the
//! client, before the answer leaves; the answer says how long to wait, and then the connection is muted for as long.
//! Time is that of the polls of the request's own task on its connection's core; what other cores did for it is not seen.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use watershed_core::io::executor::now;

use crate::quotas::{ANONYMOUS, Charge, Limit, Quantity, Verdict};

use super::calls::{Call, Reply};
use super::node::Node;

/// What one request has used.
pub(crate) struct Usage {
    node: Rc<Node>,
    client_id: Box<str>,
    busy: Cell<Duration>,
    polled_at: Cell<Option<Instant>>,
    throttle_ms: Cell<u32>,
}

impl Usage {
    /// For a request of this client, unless there are no quotas.
    pub(crate) fn begin(node: &Rc<Node>, client_id: Option<&str>) -> Option<Rc<Usage>> {
        if node.quotas.borrow().is_empty() {
            return None;
        }
        Some(Rc::new(Usage {
            node: Rc::clone(node),
            client_id: client_id.unwrap_or_default().into(),
            busy: Cell::default(),
            polled_at: Cell::default(),
            throttle_ms: Cell::default(),
        }))
    }

    /// The quota that holds for the client.
    pub(crate) fn limit(&self, quantity: Quantity) -> Option<Limit> {
        self.node.quotas.borrow().limit(quantity, ANONYMOUS, &self.client_id)
    }

    /// Charges a use, and remembers the longest wait. Returns whether it may be done.
    pub(crate) async fn charge(&self, quantity: Quantity, charge: Charge) -> bool {
        let Some(limit) = self.limit(quantity) else {
            return true;
        };
        let counts = limit.key.shard(self.node.peers.shard_count());
        let verdict = match self.node.call(counts, Call::Charge(limit, charge)).await {
            Reply::Charged(verdict) => verdict,
            _ => Verdict::default(),
        };
        self.throttle_ms.set(self.throttle_ms.get().max(verdict.throttle_ms));
        !verdict.is_refused
    }

    /// Charges the time that was spent. Returns how long the client has to wait, for whatever it was charged.
    pub(crate) async fn settle(&self) -> i32 {
        let polling = self.polled_at.get().map_or(Duration::ZERO, |since| now().duration_since(since));
        let percent_seconds = (self.busy.get() + polling).as_secs_f64() * 100.0;
        self.charge(Quantity::Request, Charge::Done(percent_seconds)).await;
        i32::try_from(self.throttle_ms.get()).unwrap_or(i32::MAX)
    }

    fn measure<T>(&self, poll: impl FnOnce() -> T) -> T {
        let since = now();
        self.polled_at.set(Some(since));
        let polled = poll();
        self.polled_at.set(None);
        self.busy.set(self.busy.get() + now().duration_since(since));
        polled
    }

    /// How long the connection is muted.
    pub(crate) fn throttle_ms(&self) -> u32 {
        self.throttle_ms.get()
    }
}

/// Counts a charge, on the shard that counts for the client.
pub(super) fn charge(node: &Node, limit: &Limit, charge: Charge) -> Verdict {
    node.meters.borrow_mut().charge(node.shard.now(), limit, charge)
}

/// Does work, and measures its polls for a request's usage, if it has one.
pub(super) async fn measured<F: Future>(usage: Option<&Usage>, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| match usage {
        Some(usage) => usage.measure(|| work.as_mut().poll(context)),
        None => work.as_mut().poll(context),
    })
    .await
}
