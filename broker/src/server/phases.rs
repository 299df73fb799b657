//! Phases: where the time of a request went, counted, and the log of requests that took too long.
//!
//! What a client asked to be kept waiting for is no slowness: it is a phase of its own, counted only for those that were
//! kept waiting, and is not held against a request.
//! Only the phase of local work reads the clock, twice; the others are measured from turn to turn. The log has one line a
//! second for each shard at most, and says how many it left out.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Instant;

use watershed_core::io::executor;

use crate::metrics::Phase;
use crate::wire::apis::Api;

use super::connection::Answer;
use super::envelope::Envelope;
use super::node::Node;

/// Between two lines of the slow log of a shard.
const QUIET_US: u64 = 1_000_000;

/// One request's way, as far as it has come.
pub(crate) struct Timeline {
    envelope: Envelope,
    began: Instant,
    queue_us: u64,
    local_us: u64,
    enqueued_us: u64,
    parked_us: u64,
    wait_us: u64,
    answered_us: u64,
}

impl Timeline {
    /// Its turn has come.
    pub(crate) fn begin(envelope: Envelope, now_us: u64) -> Timeline {
        let queue_us = now_us.saturating_sub(envelope.received_us);
        Timeline {
            envelope,
            began: executor::now(),
            queue_us,
            local_us: 0,
            enqueued_us: now_us,
            parked_us: 0,
            wait_us: 0,
            answered_us: now_us,
        }
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Every part of it is where its order is settled.
    pub(crate) fn enqueued(&mut self, now_us: u64) {
        self.enqueued_us = now_us;
        self.local_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
    }

    /// Its answer is there, or is none.
    pub(crate) fn answered(&mut self, node: &Node, answer: Option<&Answer>) {
        let (failed, parked_us) = match answer {
            None => (false, 0),
            Some(Answer::Send(response)) => (response.failed, response.parked_us),
            Some(Answer::Close(_)) => (true, 0),
        };
        self.answered_us = node.now_us();
        let waited_us = self.answered_us.saturating_sub(self.enqueued_us);
        self.parked_us = match self.envelope.api {
            Api::JoinGroup | Api::SyncGroup => waited_us,
            _ => parked_us.min(waited_us),
        };
        self.wait_us = waited_us - self.parked_us;
        let took_us = self.answered_us.saturating_sub(self.envelope.received_us);
        node.count(|metrics| {
            let api = metrics.answered(self.envelope.api.key(), took_us, failed);
            api.observe_us(Phase::Queue, self.queue_us);
            api.observe_us(Phase::Local, self.local_us);
            api.observe_us(Phase::Wait, self.wait_us);
            if self.parked_us > 0 {
                api.observe_us(Phase::Parked, self.parked_us);
            }
        });
    }

    /// Whether its client asked for it to be kept waiting, and it was.
    pub(crate) fn was_parked(&self) -> bool {
        self.parked_us > 0
    }

    /// The socket has taken its answer. Returns what is to be logged, if it was slow and may be.
    pub(crate) fn sent(&self, node: &Node) -> Option<Slow<'_>> {
        let now_us = node.now_us();
        let send_us = now_us.saturating_sub(self.answered_us);
        let own_us = now_us.saturating_sub(self.envelope.received_us).saturating_sub(self.parked_us);
        let is_slow = node.slow_log.is_slow(own_us);
        node.count(|metrics| {
            metrics.apis.entry(self.envelope.api.key()).or_default().observe_us(Phase::Send, send_us);
            metrics.slow_requests += u64::from(is_slow);
        });
        let left_out = is_slow.then(|| node.slow_log.admit(now_us)).flatten()?;
        Some(Slow { timeline: self, own_us, send_us, left_out })
    }
}

/// A slow request whose line may be written.
pub(crate) struct Slow<'a> {
    timeline: &'a Timeline,
    own_us: u64,
    send_us: u64,
    left_out: u64,
}

impl Slow<'_> {
    /// Writes the line.
    pub(crate) fn log(&self, client: &dyn Display, software: Option<&str>) {
        let Timeline { envelope, queue_us, local_us, parked_us, wait_us, .. } = self.timeline;
        tracing::warn!(
            api = ?envelope.api,
            version = envelope.version,
            correlation_id = envelope.correlation_id,
            client_id = envelope.client_id.as_deref().unwrap_or_default(),
            %client,
            software = software.unwrap_or_default(),
            took_us = self.own_us,
            queue_us,
            local_us,
            wait_us,
            send_us = self.send_us,
            parked_us,
            left_out = self.left_out,
            "a request was slow"
        );
    }
}

/// Which slow requests are logged.
#[derive(Debug)]
pub(crate) struct SlowLog {
    threshold_us: Option<u64>,
    quiet_until_us: Cell<u64>,
    left_out: Cell<u64>,
}

impl SlowLog {
    /// Requests of `threshold_us` and more; `None`: none.
    pub(crate) fn new(threshold_us: Option<u64>) -> SlowLog {
        SlowLog { threshold_us, quiet_until_us: Cell::new(0), left_out: Cell::new(0) }
    }

    fn is_slow(&self, took_us: u64) -> bool {
        self.threshold_us.is_some_and(|threshold_us| took_us >= threshold_us)
    }

    /// How many were left out since the last line, if now one may be written.
    fn admit(&self, now_us: u64) -> Option<u64> {
        if now_us < self.quiet_until_us.get() {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.quiet_until_us.set(now_us + QUIET_US);
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_log_has_a_line_a_second_and_counts_the_others() {
        let log = SlowLog::new(Some(1_000));
        assert!(!log.is_slow(999) && log.is_slow(1_000));
        assert_eq!(log.admit(5), Some(0));
        assert_eq!(log.admit(6), None);
        assert_eq!(log.admit(QUIET_US), None);
        assert_eq!(log.admit(QUIET_US + 5), Some(2));
        assert_eq!(log.admit(2 * QUIET_US + 5), Some(0));
        assert!(!SlowLog::new(None).is_slow(u64::MAX));
    }
}
