//! Produce requests of one batch each, spread over a topic's partitions at random.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::header;
use watershed_broker::wire::reader::Reader;
use watershed_broker::wire::writer::Writer;

use super::batch::Template;
use super::{CLIENT_ID, check};
use crate::load::{Answer, Request, Traffic};
use crate::payload::Random;

/// Names topics, has no compact lengths, and every broker of today speaks it.
const VERSION: i16 = 8;
const TIMEOUT_MS: i32 = 30_000;

/// An idempotent producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

pub(crate) struct Producer {
    template: Template,
    topic: String,
    acks: i16,
    identity: Option<Identity>,
    /// Where batches stamp the time from.
    origin: Option<Instant>,
    /// The next sequence of each partition.
    sequences: Vec<i32>,
    random: Random,
    /// Batches still to be sent, if they are counted.
    remaining: Option<u64>,
}

impl Producer {
    pub(crate) fn new(topic: &str, partitions: u32, template: Template, seed: u64) -> Producer {
        Producer {
            template,
            topic: topic.to_owned(),
            acks: -1,
            identity: None,
            origin: None,
            sequences: vec![0; partitions.max(1) as usize],
            random: Random::new(seed),
            remaining: None,
        }
    }

    pub(crate) fn acks(mut self, acks: i16) -> Producer {
        self.acks = acks;
        self
    }

    pub(crate) fn idempotent(mut self, identity: Option<Identity>) -> Producer {
        self.identity = identity;
        self
    }

    /// Stamps each batch with the time since `origin`.
    pub(crate) fn stamped(mut self, origin: Option<Instant>) -> Producer {
        self.origin = origin;
        self
    }

    /// Ends after so many batches.
    pub(crate) fn batches(mut self, count: u64) -> Producer {
        self.remaining = Some(count);
        self
    }

    fn head(&self, partition: u32) -> Vec<u8> {
        let mut head = vec![0; 4];
        header::write_request(&mut head, Api::Produce, VERSION, 0, Some(CLIENT_ID));
        let mut writer = Writer::onto(head, false);
        writer.nullable_str(None);
        writer.i16(self.acks);
        writer.i32(TIMEOUT_MS);
        writer.length(Some(1));
        writer.str(&self.topic);
        writer.length(Some(1));
        writer.u32(partition);
        writer.length(Some(self.template.bytes()));
        writer.raw(self.template.lead());
        let mut head = writer.into_bytes();
        let bytes = head.len() - 4 + self.template.rest().len();
        let prefix = u32::try_from(bytes).expect("a batch is far below 2 GiB").to_be_bytes();
        head.get_mut(..4).expect("room was left").copy_from_slice(&prefix);
        head
    }
}

impl Traffic for Producer {
    fn request(&mut self) -> Option<Request> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(1)?;
        }
        let partition = self.random.below(self.sequences.len() as u32);
        let sequence = self.sequences.get_mut(partition as usize).expect("the number is below the count");
        let producer = self.identity.map(|identity| (identity.id, identity.epoch, *sequence));
        *sequence = (*sequence).checked_add(self.template.records).unwrap_or(0);
        if producer.is_some() || self.origin.is_some() {
            self.template.mark(producer, self.origin.map(|origin| origin.elapsed()));
        }
        Some(Request { head: self.head(partition), body: Some(self.template.rest()) })
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Answer> {
        let mut r = Reader::new(frame, false);
        r.i32("correlation_id")?;
        ensure!(r.count("responses", 0)? == 1, "one topic was asked for");
        r.str("name")?;
        ensure!(r.count("partition_responses", 0)? == 1, "one partition was asked for");
        let partition = r.i32("index")?;
        check(r.i16("error_code")?, "produce").with_context(|| format!("partition {partition}"))?;
        Ok(Answer { bytes: self.template.bytes() as u64, ..Answer::default() })
    }
}
