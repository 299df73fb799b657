//! Fetch sessions (KIP-227): a client names its partitions once, then only what changes, and is told only what is new.
//!
//! A session belongs to one shard, and its id says to which (`id % shards == shard`), so that it can be continued over any
//! connection. Invariants: one request of a session is answered per epoch; a partition that has something to tell is never
//! left out; the number of sessions and of the partitions they remember is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use watershed_core::units::{Now, TopicId};

use crate::wire::error_code::ErrorCode;

/// Partitions that one shard's sessions may remember together.
pub const CACHED_PARTITIONS_MAX: usize = 500_000;
/// A session may be displaced by a larger one once it is this old, and by any once it was idle for as long.
const EVICTION_US: u64 = 120_000_000;
/// The request epoch that opens a session.
const INITIAL_EPOCH: i32 = 0;
/// The request epoch that wants no session, or closes one.
const FINAL_EPOCH: i32 = -1;
/// A high watermark that no log has: it makes a partition tell its own again.
const NEVER_TOLD: i64 = -1;

/// A topic as the request's version names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    Id(TopicId),
    Name(Arc<str>),
}

/// A partition of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    pub topic: TopicKey,
    pub partition: i32,
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub key: PartitionKey,
    pub fetch_offset: i64,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    /// A follower's own log start; -1 from consumers.
    pub log_start_offset: i64,
    pub bytes_max: i32,
}

/// The session part of a fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    /// The request's version names topics by id.
    pub uses_topic_ids: bool,
    /// A follower's session is displaced last.
    pub is_follower: bool,
    pub wanted: Vec<Wanted>,
    pub forgotten: Vec<PartitionKey>,
}

/// What has to be fetched, and for which session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchContext {
    mode: Mode,
    uses_topic_ids: bool,
    is_follower: bool,
    /// Every partition to look at, in the order in which they share the response's bytes.
    pub wanted: Vec<Wanted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Sessionless,
    /// Opens a session when it is answered.
    Opening,
    Incremental {
        id: i32,
        epoch: i32,
    },
}

/// What one partition answers, as far as sessions care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub has_records: bool,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub is_error: bool,
    /// A diverging epoch or a preferred read replica: told each time.
    pub must_tell: bool,
}

/// The session part of a fetch response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReply {
    /// 0: no session.
    pub session_id: i32,
    /// [`ErrorCode::None`], or that of a response without partitions.
    pub error: ErrorCode,
    /// Which of the context's partitions belong into the response.
    pub included: Vec<bool>,
}

/// What a session remembers of a partition.
#[derive(Clone, Debug)]
struct Cached {
    place: u64,
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

#[derive(Clone, Debug)]
struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    is_follower: bool,
    created_us: u64,
    used_us: u64,
    partitions: BTreeMap<PartitionKey, Cached>,
    /// The order in which they are fetched: who had records goes to the end.
    order: BTreeMap<u64, PartitionKey>,
    next_place: u64,
}

/// One shard's sessions.
#[derive(Clone, Debug)]
pub struct FetchSessions {
    shard: u16,
    shard_count: u16,
    slot_count: usize,
    cached_count: usize,
    sessions: BTreeMap<i32, Session>,
}

/// The shard that a session id belongs to.
pub fn shard_of(session_id: i32, shard_count: u16) -> u16 {
    let rest = session_id.unsigned_abs() % u32::from(shard_count.max(1));
    u16::try_from(rest).expect("below a 16-bit count")
}

impl FetchSessions {
    /// The machine of one shard; `slot_count` is its part of the broker's slots.
    pub fn new(shard: u16, shard_count: u16, slot_count: usize) -> FetchSessions {
        assert!(shard < shard_count, "a shard among those that exist");
        FetchSessions { shard, shard_count, slot_count, cached_count: 0, sessions: BTreeMap::new() }
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Partitions that all sessions remember.
    pub fn cached_count(&self) -> usize {
        self.cached_count
    }

    /// Begins a fetch: what to look at, or the error of a response without partitions.
    pub fn begin(&mut self, request: SessionRequest, now: Now) -> Result<FetchContext, ErrorCode> {
        let mode = match request.session_epoch {
            INITIAL_EPOCH => Mode::Opening,
            FINAL_EPOCH => Mode::Sessionless,
            _ => return self.continue_session(request, now),
        };
        self.remove(request.session_id);
        Ok(FetchContext {
            mode,
            uses_topic_ids: request.uses_topic_ids,
            is_follower: request.is_follower,
            wanted: request.wanted,
        })
    }

    fn continue_session(&mut self, request: SessionRequest, now: Now) -> Result<FetchContext, ErrorCode> {
        let id = request.session_id;
        let session = self.checked(&request)?;
        let before = session.partitions.len();
        if self.cached_count + request.wanted.len() > CACHED_PARTITIONS_MAX {
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let session = self.checked(&request)?;
        let (uses_topic_ids, is_follower) = (request.uses_topic_ids, request.is_follower);
        request.forgotten.iter().for_each(|key| session.forget(key));
        request.wanted.into_iter().for_each(|wanted| session.want(wanted));
        session.used_us = now.monotonic_us;
        session.epoch = next_epoch(session.epoch);
        let (epoch, after) = (session.epoch, session.partitions.len());
        let wanted = session.in_order();
        self.cached_count = self.cached_count + after - before;
        let mode = if after == 0 {
            self.remove(id);
            Mode::Sessionless
        } else {
            Mode::Incremental { id, epoch }
        };
        Ok(FetchContext { mode, uses_topic_ids, is_follower, wanted })
    }

    fn checked(&mut self, request: &SessionRequest) -> Result<&mut Session, ErrorCode> {
        let session = self.sessions.get_mut(&request.session_id);
        match session {
            None => Err(ErrorCode::FetchSessionIdNotFound),
            Some(session) if session.epoch != request.session_epoch => Err(ErrorCode::InvalidFetchSessionEpoch),
            Some(session) if session.uses_topic_ids != request.uses_topic_ids => {
                Err(ErrorCode::FetchSessionTopicIdError)
            }
            Some(session) => Ok(session),
        }
    }

    /// Ends a fetch. `told` has one entry for each of the context's partitions; `random` is where the search for a new
    /// session's id begins.
    pub fn finish(&mut self, context: &FetchContext, told: &[Told], now: Now, random: u32) -> SessionReply {
        assert_eq!(told.len(), context.wanted.len(), "every partition answers");
        match context.mode {
            Mode::Sessionless => whole(0, told),
            Mode::Opening => whole(self.open(context, told, now, random), told),
            Mode::Incremental { id, epoch } => self.filter(id, epoch, context, told),
        }
    }

    /// Opens a session after its first answer; 0 if there is no room.
    fn open(&mut self, context: &FetchContext, told: &[Told], now: Now, random: u32) -> i32 {
        let count = context.wanted.len();
        if count == 0 || !self.make_room(context.is_follower, count, now) {
            return 0;
        }
        let Some(id) = self.free_id(random) else {
            return 0;
        };
        let mut session = Session::new(context, now);
        for (wanted, told) in context.wanted.iter().zip(told) {
            session.want(wanted.clone());
            session.tell(&wanted.key, told);
        }
        self.cached_count += session.partitions.len();
        self.sessions.insert(id, session);
        id
    }

    fn filter(&mut self, id: i32, epoch: i32, context: &FetchContext, told: &[Told]) -> SessionReply {
        let Some(session) = self.sessions.get_mut(&id) else {
            // Displaced while its fetch waited: the answer is right, the next request opens a new one.
            return whole(id, told);
        };
        if session.epoch != epoch {
            return SessionReply {
                session_id: id,
                error: ErrorCode::InvalidFetchSessionEpoch,
                included: vec![false; told.len()],
            };
        }
        let each = context.wanted.iter().zip(told);
        let included = each.map(|(wanted, told)| session.tell(&wanted.key, told)).collect();
        SessionReply { session_id: id, error: ErrorCode::None, included }
    }

    /// Displaces a session if there is no slot: one that was idle long enough, else the smallest old one, if the new one
    /// is a follower's and it is not, or is larger.
    fn make_room(&mut self, is_follower: bool, count: usize, now: Now) -> bool {
        if self.slot_count == 0 || self.cached_count + count > CACHED_PARTITIONS_MAX {
            return false;
        }
        if self.sessions.len() < self.slot_count {
            return true;
        }
        let displaced = self
            .idle(now)
            .or_else(|| self.smallest_old(now).filter(|(_, worth)| *worth < (is_follower, count)).map(|(id, _)| id));
        displaced.is_some_and(|id| self.remove(id))
    }

    fn idle(&self, now: Now) -> Option<i32> {
        let (id, session) = self.sessions.iter().min_by_key(|(_, session)| session.used_us)?;
        let idle_us = now.monotonic_us.saturating_sub(session.used_us);
        (idle_us > EVICTION_US).then_some(*id)
    }

    fn smallest_old(&self, now: Now) -> Option<(i32, (bool, usize))> {
        self.sessions
            .iter()
            .filter(|(_, session)| now.monotonic_us.saturating_sub(session.created_us) > EVICTION_US)
            .map(|(id, session)| (*id, (session.is_follower, session.partitions.len())))
            .min_by_key(|(_, worth)| *worth)
    }

    /// The first free id of this shard at or after `random`.
    fn free_id(&self, random: u32) -> Option<i32> {
        let step = i32::from(self.shard_count);
        let rounds = i32::MAX / step - 1;
        let start = i32::try_from(random % rounds.unsigned_abs()).ok()?;
        (0..=self.sessions.len())
            .filter_map(|tried| start.checked_add(i32::try_from(tried).ok()?))
            .map(|round| (1 + round % rounds) * step + i32::from(self.shard))
            .find(|id| !self.sessions.contains_key(id))
    }

    fn remove(&mut self, id: i32) -> bool {
        let removed = self.sessions.remove(&id);
        self.cached_count -= removed.as_ref().map_or(0, |session| session.partitions.len());
        removed.is_some()
    }
}

impl Session {
    fn new(context: &FetchContext, now: Now) -> Session {
        Session {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids: context.uses_topic_ids,
            is_follower: context.is_follower,
            created_us: now.monotonic_us,
            used_us: now.monotonic_us,
            partitions: BTreeMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// Adds a partition, or takes the new position of a known one.
    fn want(&mut self, wanted: Wanted) {
        if let Some(cached) = self.partitions.get_mut(&wanted.key) {
            cached.wanted = wanted;
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, wanted.key.clone());
        let cached = Cached { place, high_watermark: NEVER_TOLD, log_start_offset: NEVER_TOLD, wanted: wanted.clone() };
        self.partitions.insert(wanted.key, cached);
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(cached) = self.partitions.remove(key) {
            self.order.remove(&cached.place);
        }
    }

    fn in_order(&self) -> Vec<Wanted> {
        self.order.values().filter_map(|key| self.partitions.get(key)).map(|cached| cached.wanted.clone()).collect()
    }

    /// Whether this answer belongs into the response; remembers what was told.
    fn tell(&mut self, key: &PartitionKey, told: &Told) -> bool {
        let Some(cached) = self.partitions.get_mut(key) else {
            return true;
        };
        let moved = cached.high_watermark != told.high_watermark || cached.log_start_offset != told.log_start_offset;
        cached.log_start_offset = told.log_start_offset;
        // After an error the partition tells everything again.
        cached.high_watermark = match told.is_error {
            true => NEVER_TOLD,
            false => told.high_watermark,
        };
        if told.has_records {
            self.order.remove(&cached.place);
            cached.place = self.next_place;
            self.next_place += 1;
            self.order.insert(cached.place, key.clone());
        }
        moved || told.has_records || told.is_error || told.must_tell
    }
}

fn whole(session_id: i32, told: &[Told]) -> SessionReply {
    SessionReply { session_id, error: ErrorCode::None, included: vec![true; told.len()] }
}

/// Epochs count up from 1 and wrap to 1.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}
