//! Fetches that follow one partition's offsets.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, ensure};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::header;
use watershed_broker::wire::reader::Reader;
use watershed_broker::wire::writer::Writer;

use super::batch::Template;
use super::verify::Verifier;
use super::{CLIENT_ID, check};
use crate::load::{Answer, Request, Traffic};

/// Names topics and has no compact lengths.
const VERSION: i16 = 11;
const WAIT_MS_MAX: i32 = 500;

/// What a consumer does at the end of what it was to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Until {
    /// Waits for more.
    Forever,
    /// Ends there.
    Offset(i64),
    /// Reads the same offsets again.
    Again(i64),
}

pub(crate) struct Consumer {
    topic: String,
    partition: i32,
    first: i64,
    until: Until,
    bytes_max: i32,
    checks_bytes: bool,
    verifier: Verifier,
    /// What the batches look like and where their stamps count from.
    stamps: Option<(Template, Instant)>,
}

impl Consumer {
    pub(crate) fn new(topic: &str, partition: i32, offsets: (i64, Until), bytes_max: i32) -> Consumer {
        let (first, until) = offsets;
        let topic = topic.to_owned();
        let verifier = Verifier::new(first, false);
        Consumer { topic, partition, first, until, bytes_max, checks_bytes: false, verifier, stamps: None }
    }

    /// Checks each batch's checksum.
    pub(crate) fn checking(mut self) -> Consumer {
        self.checks_bytes = true;
        self.verifier = Verifier::new(self.first, true);
        self
    }

    /// Counts latency from the stamp of the first batch of each answer.
    pub(crate) fn stamped(mut self, template: Template, origin: Instant) -> Consumer {
        self.stamps = Some((template, origin));
        self
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        header::write_request(&mut frame, Api::Fetch, VERSION, 0, Some(CLIENT_ID));
        let mut w = Writer::onto(frame, false);
        w.i32(-1);
        w.i32(WAIT_MS_MAX);
        w.i32(1);
        w.i32(self.bytes_max);
        w.i8(0);
        w.i32(0);
        w.i32(-1);
        w.length(Some(1));
        w.str(&self.topic);
        w.length(Some(1));
        w.i32(self.partition);
        w.i32(-1);
        w.i64(self.verifier.next_offset());
        w.i64(-1);
        w.i32(self.bytes_max);
        w.length(Some(0));
        w.str("");
        header::sealed(w.into_bytes())
    }
}

impl Traffic for Consumer {
    fn request(&mut self) -> Option<Request> {
        match self.until {
            Until::Offset(end) if self.verifier.next_offset() >= end => return None,
            Until::Again(end) if self.verifier.next_offset() >= end => {
                self.verifier = Verifier::new(self.first, self.checks_bytes);
            }
            _ => {}
        }
        Some(Request { head: self.frame(), body: None })
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Answer> {
        let records = frame.get(records_of(frame)?).unwrap_or_default();
        let taken = self.verifier.take(records)?;
        ensure!(taken > 0 || records.is_empty(), "an answer holds no whole batch");
        let began = self.stamps.as_ref().and_then(|(template, origin)| template.stamp_of(records, *origin));
        Ok(Answer { bytes: taken as u64, is_empty: taken == 0, began })
    }
}

/// Where the record set of the only partition lies in an answer.
fn records_of(frame: &[u8]) -> Result<Range<usize>> {
    let mut r = Reader::new(frame, false);
    r.i32("correlation_id")?;
    r.i32("throttle_time_ms")?;
    check(r.i16("error_code")?, "fetch")?;
    r.i32("session_id")?;
    ensure!(r.count("responses", 0)? == 1, "one topic was asked for");
    r.str("topic")?;
    ensure!(r.count("partitions", 0)? == 1, "one partition was asked for");
    r.i32("partition_index")?;
    check(r.i16("error_code")?, "fetch")?;
    r.skip(8 + 8 + 8, "offsets")?;
    let aborted = r.nullable_count("aborted_transactions", 16)?.unwrap_or(0);
    r.skip(aborted * 16, "aborted_transactions")?;
    r.i32("preferred_read_replica")?;
    Ok(r.nullable_range("records")?.unwrap_or_default())
}
