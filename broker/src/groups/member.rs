//! Members: one client's place in a group.

use super::record::MemberMetadata;
use super::{Join, Waiter};

/// How long a member that has just been added may wait for the first generation that it is part of. Its client may have
/// gone without a word: it sends no heartbeat while it waits. From Kafka's `NEW_MEMBER_JOIN_TIMEOUT_MS`.
const FIRST_JOIN_MS: u64 = 5 * 60 * 1000;

/// A member of a classic group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// Name and metadata, what the member prefers first. Never opened but for the topics of a consumer.
    pub(super) protocols: Vec<(String, Vec<u8>)>,
    pub(super) assignment: Vec<u8>,
    /// Who waits for the answer to this member's JoinGroup.
    pub(super) joining: Option<Waiter>,
    /// Who waits for the answer to its SyncGroup.
    pub(super) syncing: Option<Waiter>,
    /// No generation has included it yet.
    pub(super) is_new: bool,
    /// When its session ends, unless it is heard of before.
    session_end_ms: u64,
}

impl Member {
    pub(super) fn new(id: String, join: Join, now_ms: u64) -> Member {
        Member {
            id,
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Vec::new(),
            joining: None,
            syncing: None,
            is_new: true,
            session_end_ms: now_ms + FIRST_JOIN_MS,
        }
    }

    /// A member as the log knows it: with the protocol that its group had chosen.
    pub(super) fn restored(stored: &MemberMetadata, protocol: &str, now_ms: u64) -> Member {
        let mut member = Member {
            id: stored.member_id.clone(),
            instance: stored.group_instance_id.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            session_timeout_ms: stored.session_timeout,
            rebalance_timeout_ms: match stored.rebalance_timeout {
                -1 => stored.session_timeout,
                timeout_ms => timeout_ms,
            },
            protocols: vec![(protocol.to_owned(), stored.subscription.clone())],
            assignment: stored.assignment.clone(),
            joining: None,
            syncing: None,
            is_new: false,
            session_end_ms: 0,
        };
        member.heard(now_ms);
        member
    }

    pub(super) fn stored(&self, protocol: &str) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout: self.rebalance_timeout_ms,
            session_timeout: self.session_timeout_ms,
            subscription: self.metadata(protocol).to_vec(),
            assignment: self.assignment.clone(),
        }
    }

    /// The member is alive: its session begins anew.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.session_end_ms = now_ms + u64::try_from(self.session_timeout_ms).unwrap_or_default();
    }

    /// When its session ends; `None` while it waits for the group and so cannot be heard.
    pub(super) fn session_end_ms(&self) -> Option<u64> {
        let waits = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !waits).then_some(self.session_end_ms)
    }

    /// What it says under this protocol; nothing if it does not know it.
    pub(super) fn metadata(&self, protocol: &str) -> &[u8] {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map_or(&[], |(_, metadata)| metadata)
    }

    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Takes over what a later JoinGroup of the same member says.
    pub(super) fn update(&mut self, join: Join) {
        self.protocols = join.protocols;
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
    }
}
