//! Consumer groups of the classic protocol: members, generations, assignments and committed offsets.
//!
//! Owns everything that Kafka's group coordinator decides, as machines: [`Coordinator`] is one partition of
//! `__consumer_offsets`. A call changes state and returns [`Effects`]: records that the driver must append before it lets any
//! answer go, and answers to those who wait. Committed offsets change only when the driver hands their records back to
//! [`Coordinator::replay`]. Metadata and assignments are opaque bytes; of a consumer's only the topics are read.
//!
//! Invariants: a member is answered once for each JoinGroup and SyncGroup; a generation is answered to none of its members
//! before all that are waited for have joined or been removed; no assignment is answered before the record that holds it.

mod coordinator;
mod expiry;
mod group;
mod member;
mod offsets;
mod rebalance;
mod record;
mod subscription;

pub use coordinator::{Commit, CommitPart, Coordinator, Described, DescribedMember, Listed};
pub use record::{GroupMetadataValue, GroupRecord, GroupRecordError, OffsetCommitValue};

use watershed_core::units::{Now, ShardId};

use crate::wire::error_code::ErrorCode;

/// Limits, under Kafka's names.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_max_ms: i32,
    /// `group.max.size`
    pub members_max: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_delay_ms: u64,
    /// `offset.metadata.max.bytes`
    pub metadata_bytes_max: usize,
    /// `offsets.retention.minutes`
    pub retention_ms: i64,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            members_max: usize::MAX,
            initial_delay_ms: 3_000,
            metadata_bytes_max: 4096,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

/// Who waits for an answer: a token of the shard that serves the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    pub shard: ShardId,
    pub token: u64,
}

/// What a JoinGroup asks.
#[derive(Clone, Debug, Default)]
pub struct Join {
    /// Empty: a new member.
    pub member_id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Vec<u8>)>,
    /// What makes a new member's id unlike any other.
    pub unique: String,
    /// A new member is told its id first and joins with it (version 4 on, KIP-394).
    pub needs_known_id: bool,
    /// A leader may be told that its assignment stands (version 9 on, KIP-814).
    pub may_skip_assignment: bool,
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub error: ErrorCode,
    pub member_id: String,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    /// To the leader: id, instance and metadata of every member.
    pub members: Vec<(String, Option<String>, Vec<u8>)>,
}

impl Joined {
    pub fn refused(error: ErrorCode, member_id: impl Into<String>) -> Joined {
        Joined {
            error,
            member_id: member_id.into(),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// Who speaks, of which generation.
#[derive(Clone, Debug, Default)]
pub struct Speaker {
    pub member_id: String,
    pub instance: Option<String>,
    pub generation: i32,
}

/// What a SyncGroup asks.
#[derive(Clone, Debug, Default)]
pub struct Sync {
    pub speaker: Speaker,
    /// Not said before version 5.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader: each member's assignment.
    pub assignments: Vec<(String, Vec<u8>)>,
}

/// The answer to a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Vec<u8>,
}

impl Synced {
    pub fn refused(error: ErrorCode) -> Synced {
        Synced { error, protocol_type: None, protocol: None, assignment: Vec::new() }
    }
}

/// What one waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Joined(Joined),
    Synced(Synced),
}

/// What makes a group rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A member joined, or a static one started again.
    Joined,
    /// A member joined again with other wishes, or its leader asked for it.
    JoinedAgain,
    Left,
    SessionEnded,
    /// A member of the new generation never asked for its assignment.
    NotSynced,
    /// The group's record could not be written.
    NotWritten,
}

impl Cause {
    /// In words, for the log.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Joined => "a member joined",
            Cause::JoinedAgain => "a member joined again with other subscriptions, or to have partitions assigned anew",
            Cause::Left => "a member left",
            Cause::SessionEnded => "a member was not heard of within its session timeout",
            Cause::NotSynced => "a member did not ask for its assignment in time",
            Cause::NotWritten => "the group's state could not be written",
        }
    }
}

/// What an operator is told of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The members of this generation are asked to join again.
    Rebalancing { generation: i32, members: usize, cause: Cause, member: String },
    /// The leader has assigned this generation's partitions.
    Stable { generation: i32, members: usize },
    /// The last member is gone.
    Empty { generation: i32 },
}

/// What a call leads to. The records belong to one group and are one batch; answers wait until they are durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    pub records: Vec<GroupRecord>,
    pub answers: Vec<(Waiter, Answer)>,
    /// For the log of the process.
    pub events: Vec<Event>,
}

impl Effects {
    fn joined(&mut self, waiter: Waiter, joined: Joined) {
        self.answers.push((waiter, Answer::Joined(joined)));
    }

    fn synced(&mut self, waiter: Waiter, synced: Synced) {
        self.answers.push((waiter, Answer::Synced(synced)));
    }
}

/// One call's surroundings.
struct Turn<'a> {
    now: Now,
    settings: &'a GroupSettings,
    effects: &'a mut Effects,
}

impl Turn<'_> {
    fn now_ms(&self) -> u64 {
        monotonic_ms(self.now)
    }
}

fn monotonic_ms(now: Now) -> u64 {
    now.monotonic_us / 1000
}
