//! Consuming: records of some partitions from given offsets on, by fetches to their leaders.
//!
//! Control records are passed over, their offsets are not: a consumer's position moves behind them. Batches are checked by
//! their length and layout; records before the wanted offset, which a batch may hold, are left out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use watershed_core::batch::BatchHeader;

use crate::wire::apis::Api;
use crate::wire::generated::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use crate::wire::records::Payload;

use super::error::check;
use super::{ClientError, Cluster, Place, Result};

/// Versions that name topics by name, without sessions to keep.
const FETCH: (i16, i16) = (4, 12);
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 4 << 20;
/// What one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// Names and values of a record's headers.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// One record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// Reads partitions.
pub struct Consumer<'c> {
    cluster: &'c mut Cluster,
    positions: BTreeMap<Place, i64>,
    /// High watermarks, where a fetch has told one.
    ends: BTreeMap<Place, i64>,
    leaders: BTreeMap<i32, Vec<Place>>,
    ready: VecDeque<Consumed>,
}

impl<'c> Consumer<'c> {
    /// Begins at these offsets.
    pub fn new(cluster: &'c mut Cluster, positions: BTreeMap<Place, i64>) -> Consumer<'c> {
        Consumer { cluster, positions, ends: BTreeMap::new(), leaders: BTreeMap::new(), ready: VecDeque::new() }
    }

    /// The next record; waits up to `wait` for one.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Consumed>> {
        if self.ready.is_empty() {
            self.fetch(wait)?;
        }
        Ok(self.ready.pop_front())
    }

    /// Whether everything up to the high watermarks was given out.
    pub fn is_at_end(&self) -> bool {
        let at_end = |(place, position): (&Place, &i64)| self.ends.get(place).is_some_and(|end| position >= end);
        self.ready.is_empty() && self.positions.iter().all(at_end)
    }

    /// Goes on with these partitions at these offsets; what was fetched and not given out is dropped.
    pub fn assign(&mut self, positions: BTreeMap<Place, i64>) {
        self.positions = positions;
        self.ends.clear();
        self.leaders.clear();
        self.ready.clear();
    }

    /// The cluster that it reads from.
    pub fn cluster(&mut self) -> &mut Cluster {
        self.cluster
    }

    /// One fetch to each leader; the wait is shared out among them.
    fn fetch(&mut self, wait: Duration) -> Result<()> {
        if self.positions.is_empty() {
            std::thread::sleep(wait);
            return Ok(());
        }
        if self.leaders.is_empty() {
            let places: Vec<Place> = self.positions.keys().cloned().collect();
            self.leaders = self.cluster.by_leader(&places)?;
        }
        let leaders: Vec<(i32, Vec<Place>)> = self.leaders.iter().map(|(id, places)| (*id, places.clone())).collect();
        let share = wait / u32::try_from(leaders.len().max(1)).unwrap_or(1);
        for (leader, places) in leaders {
            let request = self.request(&places, share);
            let answer = self.cluster.retrying(|cluster| {
                let answer: FetchResponse = cluster.broker(leader)?.ask(Api::Fetch, FETCH, &request)?;
                check(answer.error_code, None, || "fetching".to_owned()).map(|()| answer)
            })?;
            self.take(answer)?;
        }
        Ok(())
    }

    fn request(&self, places: &[Place], wait: Duration) -> FetchRequest {
        let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
        for place in places {
            topics.entry(&place.0).or_default().push(FetchPartition {
                partition: place.1,
                fetch_offset: self.positions.get(place).copied().unwrap_or_default(),
                partition_max_bytes: PARTITION_BYTES,
                ..FetchPartition::default()
            });
        }
        let topic = |(topic, partitions): (&str, _)| FetchTopic {
            topic: topic.to_owned(),
            partitions,
            ..FetchTopic::default()
        };
        FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            topics: topics.into_iter().map(topic).collect(),
            ..FetchRequest::default()
        }
    }

    fn take(&mut self, answer: FetchResponse) -> Result<()> {
        for topic in answer.responses {
            for part in topic.partitions {
                let place = (topic.topic.clone(), part.partition_index);
                let told = check(part.error_code, None, || format!("fetching from {}-{}", place.0, place.1));
                match told {
                    Ok(()) => {}
                    // The leader has moved, or the topic is being made: asked again.
                    Err(error) if error.is_retriable() => {
                        self.leaders.clear();
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                self.ends.insert(place.clone(), part.high_watermark);
                self.open(&place, part.records.as_deref().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Opens the whole batches of a partition; the last may be cut.
    fn open(&mut self, place: &Place, mut bytes: &[u8]) -> Result<()> {
        while let Some(header) = BatchHeader::parse(bytes) {
            let Some((batch, rest)) = bytes.split_at_checked(header.bytes as usize) else { break };
            let damaged = |cause: &dyn std::fmt::Display| {
                ClientError::Damaged(format!(
                    "the batch at {}-{} offset {}: {cause}",
                    place.0, place.1, header.base_offset
                ))
            };
            let payload = Payload::open(batch, UNPACKED_BYTES_MAX).map_err(|error| damaged(&error))?;
            let position = self.positions.get(place).copied().unwrap_or_default();
            if header.attributes & 0x20 == 0 {
                for record in payload.records() {
                    let record = record.map_err(|error| damaged(&error))?;
                    let (offset, timestamp_ms) = payload.place(&record);
                    if offset < position {
                        continue;
                    }
                    let headers = record.headers().map_err(|error| damaged(&error))?;
                    let header = |header: crate::wire::records::RecordHeader<'_>| {
                        (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                    };
                    self.ready.push_back(Consumed {
                        topic: place.0.clone(),
                        partition: place.1,
                        offset,
                        timestamp_ms,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: headers.into_iter().map(header).collect(),
                    });
                }
            }
            self.positions.insert(place.clone(), position.max(header.end_offset()));
            bytes = rest;
        }
        Ok(())
    }
}
