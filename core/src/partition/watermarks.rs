//! The ends of a log and what readers may see of it.
//!
//! Invariants (kept by assertion in release builds too): `durable_end <= written_end <= log_end`, `high_watermark <=
//! log_end`, and in flush mode `high_watermark <= durable_end`. The high watermark never falls but by truncation.

/// Another replica's fetched end; none exist while every partition has one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    pub broker: i32,
    pub end_offset: i64,
}

/// Ends and watermarks of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermarks {
    log_end: i64,
    written_end: i64,
    durable_end: i64,
    high: i64,
    /// In-sync replicas but this one.
    followers: Vec<Follower>,
}

impl Watermarks {
    /// A log that ends at `log_end`, all of it durable and visible.
    pub fn recovered(log_end: i64) -> Watermarks {
        Watermarks { log_end, written_end: log_end, durable_end: log_end, high: log_end, followers: Vec::new() }
    }

    pub fn log_end(&self) -> i64 {
        self.log_end
    }

    pub fn written_end(&self) -> i64 {
        self.written_end
    }

    pub fn durable_end(&self) -> i64 {
        self.durable_end
    }

    pub fn high_watermark(&self) -> i64 {
        self.high
    }

    /// Equals the high watermark while there are no transactions.
    pub fn last_stable(&self) -> i64 {
        self.high
    }

    pub fn appended(&mut self, log_end: i64) {
        assert!(log_end >= self.log_end, "an append never shortens a log");
        self.log_end = log_end;
    }

    /// Moves the written end; returns whether the high watermark moved.
    pub fn written(&mut self, end: i64, flush_mode: bool) -> bool {
        self.written_end = self.written_end.max(end);
        self.advance(flush_mode)
    }

    /// Moves the durable end; returns whether the high watermark moved.
    pub fn durable(&mut self, end: i64, flush_mode: bool) -> bool {
        self.durable_end = self.durable_end.max(end);
        self.written_end = self.written_end.max(end);
        self.advance(flush_mode)
    }

    /// Replaces the in-sync replicas but this one.
    pub fn set_followers(&mut self, followers: Vec<Follower>) {
        self.followers = followers;
    }

    /// Notes what a follower has fetched; returns whether the high watermark moved.
    pub fn fetched(&mut self, broker: i32, end_offset: i64, flush_mode: bool) -> bool {
        for follower in &mut self.followers {
            if follower.broker == broker {
                follower.end_offset = end_offset;
            }
        }
        self.advance(flush_mode)
    }

    /// Cuts every end to `end`.
    pub fn truncate(&mut self, end: i64) {
        self.log_end = self.log_end.min(end);
        self.written_end = self.written_end.min(end);
        self.durable_end = self.durable_end.min(end);
        self.high = self.high.min(end);
    }

    fn advance(&mut self, flush_mode: bool) -> bool {
        assert!(
            self.durable_end <= self.written_end && self.written_end <= self.log_end,
            "durable_end <= written_end <= log_end"
        );
        let own = if flush_mode { self.durable_end } else { self.written_end };
        let common = self.followers.iter().map(|follower| follower.end_offset).fold(own, i64::min);
        let moved = common > self.high;
        self.high = self.high.max(common);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flush_mode_shows_only_what_is_durable() {
        let mut marks = Watermarks::recovered(0);
        marks.appended(10);
        assert!(!marks.written(10, true));
        assert_eq!(marks.high_watermark(), 0);
        assert!(marks.durable(6, true));
        assert_eq!((marks.high_watermark(), marks.last_stable()), (6, 6));
        assert!(!marks.durable(6, true));
    }

    #[test]
    fn relaxed_mode_shows_what_is_written() {
        let mut marks = Watermarks::recovered(0);
        marks.appended(10);
        assert!(marks.written(10, false));
        assert_eq!((marks.high_watermark(), marks.durable_end()), (10, 0));
    }

    #[test]
    fn the_slowest_replica_holds_the_watermark() {
        let mut marks = Watermarks::recovered(0);
        marks.set_followers(vec![Follower { broker: 2, end_offset: 0 }]);
        marks.appended(10);
        assert!(!marks.durable(10, true));
        assert!(!marks.fetched(3, 10, true), "not a replica");
        assert!(marks.fetched(2, 4, true));
        assert_eq!(marks.high_watermark(), 4);
    }

    #[test]
    #[should_panic(expected = "written_end <= log_end")]
    fn nothing_is_durable_that_was_not_appended() {
        Watermarks::recovered(0).durable(1, true);
    }
}
