//! Groups as their members live them, in virtual milliseconds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use watershed_broker::groups::{
    Answer, Cause, Commit, CommitPart, Coordinator, Effects, Event, GroupRecord, GroupSettings, Join, Joined, Speaker,
    Sync, Synced, Waiter,
};
use watershed_broker::wire::error_code::ErrorCode;
use watershed_core::units::{Now, ShardId};

const GROUP: &str = "g";
const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 60_000;
const INITIAL_MS: u64 = 3_000;

/// A coordinator whose log is a list, and the answers that it gave.
struct Rig {
    coordinator: Coordinator,
    log: Vec<GroupRecord>,
    now_ms: u64,
    tokens: u64,
    answers: BTreeMap<u64, Answer>,
    events: Vec<Event>,
    /// The log takes nothing.
    is_full: bool,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(GroupSettings::default())
    }

    fn with(settings: GroupSettings) -> Rig {
        Rig {
            coordinator: Coordinator::new(settings),
            log: Vec::new(),
            now_ms: 1_000_000,
            tokens: 0,
            answers: BTreeMap::new(),
            events: Vec::new(),
            is_full: false,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic_us: self.now_ms * 1000, wall_ms: 1_700_000_000_000 + self.now_ms as i64 }
    }

    fn waiter(&mut self) -> Waiter {
        self.tokens += 1;
        Waiter { shard: ShardId(0), token: self.tokens }
    }

    /// What a driver does with effects.
    fn perform(&mut self, effects: Effects) {
        let effects = match self.is_full && !effects.records.is_empty() {
            true => {
                let now = self.now();
                self.coordinator.append_failed(GROUP, effects, ErrorCode::KafkaStorageError, now)
            }
            false => effects,
        };
        for record in effects.records {
            let value = record.value();
            let read = GroupRecord::decode(&record.key(), value.as_deref()).unwrap();
            assert_eq!(read, record, "what is written is what is read");
            self.coordinator.replay(read);
            self.log.push(record);
        }
        self.events.extend(effects.events);
        for (waiter, answer) in effects.answers {
            assert!(self.answers.insert(waiter.token, answer).is_none(), "answered twice: {waiter:?}");
        }
    }

    /// Lets time pass, in the steps in which something happens by itself.
    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.coordinator.next_deadline_ms().filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            for (_, effects) in self.coordinator.tick(self.now()) {
                self.perform(effects);
            }
        }
        self.now_ms = end_ms;
    }

    fn join(&mut self, join: Join) -> u64 {
        let waiter = self.waiter();
        let effects = self.coordinator.join(GROUP, join, waiter, self.now());
        self.perform(effects);
        waiter.token
    }

    /// Joins as clients do since KIP-394: asks for an id first.
    fn join_as_new(&mut self, name: &str) -> (String, u64) {
        let token = self.join(new_member(name));
        let told = self.joined(token);
        assert_eq!(told.error, ErrorCode::MemberIdRequired);
        let member_id = told.member_id.clone();
        (member_id.clone(), self.join(Join { member_id, ..new_member(name) }))
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&str, &[u8])]) -> u64 {
        let waiter = self.waiter();
        let assignments = assignments.iter().map(|(id, bytes)| ((*id).to_owned(), bytes.to_vec())).collect();
        let sync = Sync { speaker: speaker(joined), assignments, ..Sync::default() };
        let effects = self.coordinator.sync(GROUP, sync, waiter, self.now());
        self.perform(effects);
        waiter.token
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), ErrorCode> {
        let now = self.now();
        self.coordinator.heartbeat(GROUP, &speaker(joined), now)
    }

    fn leave(&mut self, member_id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        let members = [(member_id.to_owned(), instance.map(str::to_owned))];
        let now = self.now();
        let (results, effects) = self.coordinator.leave(GROUP, &members, now);
        self.perform(effects);
        results[0]
    }

    fn commit(&mut self, speaker: Speaker, topic: &str, offset: i64) -> Result<(), ErrorCode> {
        let part = CommitPart { topic: topic.into(), partition: 0, offset, leader_epoch: 3, metadata: "note".into() };
        let commit = Commit { speaker, retention_ms: None, parts: vec![part] };
        let now = self.now();
        let (results, effects) = self.coordinator.commit(GROUP, commit, now);
        self.perform(effects);
        results[0]
    }

    fn committed(&self, topic: &str) -> Option<i64> {
        self.coordinator.committed(GROUP, topic, 0).map(|value| value.offset)
    }

    fn joined(&self, token: u64) -> &Joined {
        match self.answers.get(&token) {
            Some(Answer::Joined(joined)) => joined,
            other => panic!("no answer to the join {token}: {other:?}"),
        }
    }

    fn synced(&self, token: u64) -> &Synced {
        match self.answers.get(&token) {
            Some(Answer::Synced(synced)) => synced,
            other => panic!("no answer to the sync {token}: {other:?}"),
        }
    }

    fn waits(&self, token: u64) -> bool {
        !self.answers.contains_key(&token)
    }

    fn state(&self) -> &'static str {
        self.coordinator.describe(GROUP).map_or("none", |group| group.state)
    }

    fn expire(&mut self) {
        let now = self.now();
        for (_, effects) in self.coordinator.expire(now) {
            self.perform(effects);
        }
    }

    /// Kills the process: all that is left is the log.
    fn restart(&mut self) {
        let mut coordinator = Coordinator::new(GroupSettings::default());
        self.log.iter().for_each(|record| coordinator.replay(record.clone()));
        coordinator.loaded(self.now());
        self.coordinator = coordinator;
    }

    /// Two members, the first of which leads, each with its assignment.
    fn pair(&mut self) -> (Joined, Joined) {
        let (_, first) = self.join_as_new("a");
        let (_, second) = self.join_as_new("b");
        self.pass(2 * INITIAL_MS);
        let (leader, follower) = (self.joined(first).clone(), self.joined(second).clone());
        let told = self.sync(&follower, &[]);
        assert!(self.waits(told), "the leader has not spoken");
        self.sync(&leader, &[(&leader.member_id, b"A"), (&follower.member_id, b"B")]);
        assert_eq!(self.synced(told).assignment, b"B");
        assert_eq!(self.state(), "Stable");
        (leader, follower)
    }
}

fn new_member(name: &str) -> Join {
    Join {
        client_id: name.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS as i32,
        rebalance_timeout_ms: REBALANCE_MS as i32,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["t"]))],
        unique: format!("unique-{name}"),
        needs_known_id: true,
        may_skip_assignment: true,
        ..Join::default()
    }
}

fn static_member(instance: &str, start: u32) -> Join {
    Join { instance: Some(instance.into()), unique: format!("start-{start}"), ..new_member(instance) }
}

/// `ConsumerProtocolSubscription` version 0.
fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as u32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as u16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes
}

fn speaker(joined: &Joined) -> Speaker {
    Speaker { member_id: joined.member_id.clone(), instance: None, generation: joined.generation }
}

fn admin() -> Speaker {
    Speaker { generation: -1, ..Speaker::default() }
}

#[test]
fn the_first_generation_waits_for_those_who_come_soon() {
    let mut rig = Rig::new();
    let (first_id, first) = rig.join_as_new("a");
    rig.pass(INITIAL_MS - 1);
    let (_, second) = rig.join_as_new("b");
    rig.pass(1);
    assert!(rig.waits(first), "another member came: the wait begins anew");
    rig.pass(INITIAL_MS);
    let (leader, follower) = (rig.joined(first), rig.joined(second));
    assert_eq!((leader.error, leader.generation, leader.leader.as_str()), (ErrorCode::None, 1, first_id.as_str()));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0), "the leader alone is told of all");
    assert_eq!(follower.leader, first_id);
    assert_eq!(rig.state(), "CompletingRebalance");
}

#[test]
fn a_member_that_comes_later_makes_the_others_join_again() {
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    let (_, third) = rig.join_as_new("c");
    assert_eq!(rig.heartbeat(&leader), Err(ErrorCode::RebalanceInProgress));
    let again = |joined: &Joined| Join { member_id: joined.member_id.clone(), ..new_member("x") };
    let (first, second) = (rig.join(again(&leader)), rig.join(again(&follower)));
    assert_eq!(rig.joined(third).generation, 2, "no one is waited for any more");
    assert_eq!(rig.joined(first).members.len(), 3);
    assert_eq!(rig.joined(second).generation, 2);
    assert_eq!(rig.heartbeat(&follower), Err(ErrorCode::IllegalGeneration));
}

#[test]
fn a_member_that_does_not_join_again_is_left_behind() {
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    let (_, third) = rig.join_as_new("c");
    let first = rig.join(Join { member_id: leader.member_id.clone(), ..new_member("a") });
    // The follower shows that it lives, and still does not join.
    for _ in 0..REBALANCE_MS / 5_000 {
        let _ = rig.heartbeat(&follower);
        rig.pass(5_000);
    }
    assert_eq!(rig.joined(first).members.len(), 2);
    assert_eq!(rig.joined(third).generation, 2);
    assert_eq!(rig.heartbeat(&follower), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn t9_members_that_live_stay_known_through_concurrent_rebalances() {
    let mut rig = Rig::new();
    let (mut leader, mut follower) = rig.pair();
    for round in 0..20 {
        let (id, third) = rig.join_as_new(&format!("c{round}"));
        let again = |joined: &Joined| Join { member_id: joined.member_id.clone(), ..new_member("x") };
        let (first, second) = (rig.join(again(&leader)), rig.join(again(&follower)));
        (leader, follower) = (rig.joined(first).clone(), rig.joined(second).clone());
        assert_eq!((leader.error, follower.error), (ErrorCode::None, ErrorCode::None), "round {round}");
        let waiting = rig.sync(&follower, &[]);
        // The third leaves before the leader has spoken.
        assert_eq!(rig.joined(third).error, ErrorCode::None);
        assert_eq!(rig.leave(&id, None), Ok(()));
        assert_eq!(rig.synced(waiting).error, ErrorCode::RebalanceInProgress, "not an empty assignment");
        let (first, second) = (rig.join(again(&leader)), rig.join(again(&follower)));
        (leader, follower) = (rig.joined(first).clone(), rig.joined(second).clone());
        let told = rig.sync(&follower, &[]);
        rig.sync(&leader, &[(&leader.member_id, b"A"), (&follower.member_id, b"B")]);
        assert_eq!(rig.synced(told).assignment, b"B");
        assert_eq!(rig.heartbeat(&follower), Ok(()));
        rig.pass(1_000);
    }
}

#[test]
fn a_session_that_ends_makes_the_rest_join_again() {
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    rig.pass(SESSION_MS - 1);
    assert_eq!(rig.heartbeat(&leader), Ok(()));
    rig.pass(1);
    assert_eq!(rig.state(), "PreparingRebalance");
    assert_eq!(rig.heartbeat(&follower), Err(ErrorCode::UnknownMemberId));
    assert_eq!(rig.heartbeat(&leader), Err(ErrorCode::RebalanceInProgress));
    rig.pass(SESSION_MS);
    assert_eq!(rig.state(), "Empty");
}

#[test]
fn an_id_that_is_never_used_holds_no_one_up_for_longer_than_a_session() {
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    assert_eq!(rig.leave(&follower.member_id, None), Ok(()));
    rig.join(new_member("ghost"));
    let again = rig.join(Join { member_id: leader.member_id.clone(), ..new_member("a") });
    assert!(rig.waits(again), "the id may still be used");
    rig.pass(SESSION_MS);
    assert_eq!(rig.joined(again).members.len(), 1);
}

#[test]
fn a_follower_that_lost_its_answer_is_told_again() {
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    let again = rig.join(Join { member_id: follower.member_id.clone(), ..new_member("b") });
    assert_eq!((rig.joined(again).generation, rig.state()), (1, "Stable"));
    let changed = vec![("range".to_owned(), subscription(&["t", "u"]))];
    let again = rig.join(Join { member_id: follower.member_id.clone(), protocols: changed, ..new_member("b") });
    assert!(rig.waits(again), "it wants something else: the group rebalances");
    assert_eq!(rig.heartbeat(&leader), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn the_leader_may_ask_for_a_rebalance_by_joining() {
    let mut rig = Rig::new();
    let (leader, _) = rig.pair();
    rig.join(Join { member_id: leader.member_id.clone(), ..new_member("a") });
    assert_eq!(rig.state(), "PreparingRebalance");
}

#[test]
fn a_static_member_that_restarts_keeps_its_place_and_fences_its_ghost() {
    let mut rig = Rig::new();
    let (first, second) = (rig.join(static_member("i1", 1)), rig.join(static_member("i2", 1)));
    rig.pass(2 * INITIAL_MS);
    let (leader, follower) = (rig.joined(first).clone(), rig.joined(second).clone());
    let told = rig.sync(&follower, &[]);
    rig.sync(&leader, &[(&leader.member_id, b"A"), (&follower.member_id, b"B")]);
    assert_eq!(rig.synced(told).assignment, b"B");

    let again = rig.join(static_member("i2", 2));
    let restarted = rig.joined(again).clone();
    assert_eq!((restarted.generation, rig.state()), (1, "Stable"), "no rebalance");
    assert_ne!(restarted.member_id, follower.member_id);
    let told = rig.sync(&restarted, &[]);
    assert_eq!(rig.synced(told).assignment, b"B", "its assignment waited for it");
    let ghost = Speaker { instance: Some("i2".into()), ..speaker(&follower) };
    let now = rig.now();
    assert_eq!(rig.coordinator.heartbeat(GROUP, &ghost, now), Err(ErrorCode::FencedInstanceId));
    rig.restart();
    assert_eq!(rig.heartbeat(&restarted), Ok(()), "the new id is in the log");
}

#[test]
fn a_static_leader_that_restarts_is_told_that_its_assignment_stands() {
    let mut rig = Rig::new();
    let first = rig.join(static_member("i1", 1));
    rig.pass(2 * INITIAL_MS);
    let leader = rig.joined(first).clone();
    rig.sync(&leader, &[(&leader.member_id, b"A")]);
    let again = rig.join(static_member("i1", 2));
    let told = rig.joined(again);
    assert_eq!((told.skip_assignment, told.members.len()), (true, 1));
    assert_eq!(told.leader, told.member_id);
    let old_client = Join { may_skip_assignment: false, ..static_member("i1", 3) };
    let again = rig.join(old_client);
    let told = rig.joined(again);
    assert!(!told.skip_assignment && told.leader != told.member_id, "it must not assign anew: {told:?}");
}

#[test]
fn a_group_of_absent_static_members_waits_for_them() {
    let mut rig = Rig::new();
    let first = rig.join(static_member("i1", 1));
    rig.pass(2 * INITIAL_MS);
    let leader = rig.joined(first).clone();
    rig.sync(&leader, &[(&leader.member_id, b"A")]);
    assert_eq!(rig.leave("", Some("i1")), Ok(()), "an administrator may remove it by its instance id");
    assert_eq!(rig.state(), "Empty");
    assert_eq!(rig.leave("", Some("i1")), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn members_that_never_ask_for_their_assignment_are_removed() {
    let mut rig = Rig::new();
    let (_, first) = rig.join_as_new("a");
    let (_, second) = rig.join_as_new("b");
    rig.pass(2 * INITIAL_MS);
    let (leader, follower) = (rig.joined(first).clone(), rig.joined(second).clone());
    let told = rig.sync(&leader, &[(&leader.member_id, b"A")]);
    assert_eq!(rig.synced(told).assignment, b"A");
    for _ in 0..REBALANCE_MS / 5_000 {
        let (_, _) = (rig.heartbeat(&leader), rig.heartbeat(&follower));
        rig.pass(5_000);
    }
    assert_eq!(rig.state(), "PreparingRebalance");
    assert_eq!(rig.heartbeat(&follower), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn protocols_are_voted_on_among_those_that_all_know() {
    let mut rig = Rig::new();
    let protocols = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), vec![1])).collect();
    let with =
        |name: &str, names: &[&str]| Join { protocols: protocols(names), needs_known_id: false, ..new_member(name) };
    let first = rig.join(with("a", &["only-a", "range", "sticky"]));
    rig.join(with("b", &["sticky", "range"]));
    rig.join(with("c", &["sticky", "range"]));
    let stranger = rig.join(with("d", &["other"]));
    assert_eq!(rig.joined(stranger).error, ErrorCode::InconsistentGroupProtocol);
    let worker = rig.join(Join { protocol_type: "connect".into(), ..with("e", &["range"]) });
    assert_eq!(rig.joined(worker).error, ErrorCode::InconsistentGroupProtocol);
    rig.pass(3 * INITIAL_MS);
    assert_eq!(rig.joined(first).protocol.as_deref(), Some("sticky"));
    assert_eq!(rig.joined(first).members.len(), 3);
}

#[test]
fn what_is_asked_wrongly_is_refused_by_kafkas_codes() {
    let mut rig = Rig::with(GroupSettings { members_max: 2, ..GroupSettings::default() });
    let short = rig.join(Join { session_timeout_ms: 5_999, ..new_member("a") });
    assert_eq!(rig.joined(short).error, ErrorCode::InvalidSessionTimeout);
    let unknown = rig.join(Join { member_id: "who".into(), ..new_member("a") });
    assert_eq!(rig.joined(unknown).error, ErrorCode::UnknownMemberId);
    let without = rig.join(Join { protocols: Vec::new(), ..new_member("a") });
    assert_eq!(rig.joined(without).error, ErrorCode::InconsistentGroupProtocol);
    let (leader, _) = rig.pair();
    let third = rig.join(new_member("c"));
    assert_eq!(rig.joined(third).error, ErrorCode::GroupMaxSizeReached);
    let token = rig.sync(&Joined { generation: 7, ..leader.clone() }, &[]);
    assert_eq!(rig.synced(token).error, ErrorCode::IllegalGeneration);
    let waiter = rig.waiter();
    let protocol = Some("sticky".to_owned());
    let sync = Sync { speaker: speaker(&leader), protocol, ..Sync::default() };
    let now = rig.now();
    let effects = rig.coordinator.sync(GROUP, sync, waiter, now);
    rig.perform(effects);
    assert_eq!(rig.synced(waiter.token).error, ErrorCode::InconsistentGroupProtocol);
    let waiter = rig.waiter();
    let effects = rig.coordinator.join("", new_member("a"), waiter, now);
    rig.perform(effects);
    assert_eq!(rig.joined(waiter.token).error, ErrorCode::InvalidGroupId);
}

#[test]
fn t8_a_commit_that_was_answered_is_there_after_a_restart() {
    let mut rig = Rig::new();
    let (leader, _) = rig.pair();
    assert_eq!(rig.commit(speaker(&leader), "t", 42), Ok(()));
    rig.restart();
    assert_eq!((rig.committed("t"), rig.state()), (Some(42), "Stable"));
    assert_eq!(rig.heartbeat(&leader), Ok(()), "members go on as if nothing had been");
    assert_eq!(rig.commit(speaker(&leader), "t", 43), Ok(()));
    let value = rig.coordinator.committed(GROUP, "t", 0).unwrap();
    assert_eq!((value.offset, value.leader_epoch, value.metadata.as_str()), (43, 3, "note"));
}

#[test]
fn c15_groups_may_be_listed_and_described_in_any_state() {
    let mut rig = Rig::new();
    let mut seen = BTreeSet::new();
    let mut look = |rig: &Rig| {
        let listed: Vec<_> = rig.coordinator.list().collect();
        for group in listed {
            let described = rig.coordinator.describe(&group.group).unwrap();
            assert_eq!(described.state, group.state);
            seen.insert(group.state);
        }
    };
    look(&rig);
    let (_, first) = rig.join_as_new("a");
    look(&rig);
    rig.pass(INITIAL_MS);
    look(&rig);
    let leader = rig.joined(first).clone();
    rig.sync(&leader, &[]);
    look(&rig);
    rig.leave(&leader.member_id, None).unwrap();
    look(&rig);
    let now = rig.now();
    let effects = { rig.coordinator.delete(GROUP).unwrap() };
    let _ = now;
    rig.perform(effects);
    look(&rig);
    assert_eq!(rig.state(), "none");
    assert_eq!(seen, BTreeSet::from(["CompletingRebalance", "Empty", "PreparingRebalance", "Stable"]));
}

#[test]
fn c22_the_metadata_of_a_commit_comes_back_and_too_much_of_it_is_refused() {
    let mut rig = Rig::new();
    let part = |metadata: String| CommitPart { topic: "t".into(), metadata, ..CommitPart::default() };
    let parts = vec![part("x".repeat(4097)), part("x".repeat(4096))];
    let now = rig.now();
    let commit = Commit { speaker: admin(), parts, ..Commit::default() };
    let (results, effects) = rig.coordinator.commit(GROUP, commit, now);
    rig.perform(effects);
    assert_eq!(results, [Err(ErrorCode::OffsetMetadataTooLarge), Ok(())]);
    assert_eq!(rig.coordinator.committed(GROUP, "t", 0).unwrap().metadata.len(), 4096);
}

#[test]
fn commits_are_taken_from_members_and_from_outside_of_an_empty_group() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit(admin(), "t", 1), Ok(()));
    let stranger = Speaker { member_id: "who".into(), generation: 3, instance: None };
    let (leader, follower) = rig.pair();
    assert_eq!(rig.commit(admin(), "t", 2), Err(ErrorCode::UnknownMemberId), "the group has members");
    assert_eq!(rig.commit(stranger, "t", 2), Err(ErrorCode::UnknownMemberId));
    let late = Speaker { generation: 0, ..speaker(&leader) };
    assert_eq!(rig.commit(late, "t", 2), Err(ErrorCode::IllegalGeneration));
    rig.leave(&follower.member_id, None).unwrap();
    assert_eq!(rig.commit(speaker(&leader), "t", 3), Ok(()), "who is asked to join again may commit first");
    let again = rig.join(Join { member_id: leader.member_id.clone(), ..new_member("a") });
    let joined = rig.joined(again).clone();
    assert_eq!(rig.commit(speaker(&joined), "t", 4), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(rig.committed("t"), Some(3));
}

#[test]
fn a_log_that_takes_nothing_changes_nothing() {
    let mut rig = Rig::new();
    let (_, first) = rig.join_as_new("a");
    rig.pass(INITIAL_MS);
    let leader = rig.joined(first).clone();
    rig.is_full = true;
    let token = rig.sync(&leader, &[(&leader.member_id, b"A")]);
    assert_eq!(rig.synced(token).error, ErrorCode::KafkaStorageError);
    assert_eq!(rig.state(), "PreparingRebalance");
    rig.commit(speaker(&leader), "t", 5).unwrap();
    assert_eq!(rig.committed("t"), None);
    rig.is_full = false;
    let again = rig.join(Join { member_id: leader.member_id.clone(), ..new_member("a") });
    let joined = rig.joined(again).clone();
    let token = rig.sync(&joined, &[(&joined.member_id, b"A")]);
    assert_eq!(rig.synced(token).assignment, b"A");
}

#[test]
fn offsets_expire_once_no_one_uses_them() {
    let week_ms = 7 * 24 * 60 * 60 * 1000;
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    rig.commit(speaker(&leader), "t", 1).unwrap();
    rig.commit(speaker(&leader), "left", 1).unwrap();
    for _ in 0..week_ms / 9_000 + 1 {
        rig.pass(9_000);
        let _ = (rig.heartbeat(&leader), rig.heartbeat(&follower));
    }
    rig.expire();
    assert_eq!((rig.committed("t"), rig.committed("left")), (Some(1), None), "a topic that members read stays");
    rig.leave(&leader.member_id, None).unwrap();
    rig.leave(&follower.member_id, None).unwrap();
    rig.pass(week_ms - 1);
    rig.expire();
    assert_eq!((rig.committed("t"), rig.state()), (Some(1), "Empty"));
    rig.pass(1);
    rig.expire();
    assert_eq!((rig.committed("t"), rig.state()), (None, "none"));
    rig.restart();
    assert_eq!(rig.state(), "none");
}

#[test]
fn live_records_alone_rebuild_the_groups() {
    let mut rig = Rig::new();
    let (leader, follower) = rig.pair();
    for offset in 0..50 {
        rig.commit(speaker(&leader), "t", offset).unwrap();
        rig.commit(speaker(&follower), "u", offset).unwrap();
    }
    // A rebalance is under way: what the log holds is still the last generation.
    rig.join_as_new("c");
    let (id, live) = rig.coordinator.live_records(None).unwrap();
    assert_eq!(rig.coordinator.live_records(Some(&id)), None, "one group");
    assert_eq!(live.len(), 3, "a group and two offsets: {live:?}");
    rig.log = live;
    rig.restart();
    assert_eq!((rig.committed("t"), rig.committed("u"), rig.state()), (Some(49), Some(49), "Stable"));
    assert_eq!(rig.heartbeat(&leader), Ok(()));
}

#[test]
fn offsets_are_deleted_unless_a_member_reads_the_topic() {
    let mut rig = Rig::new();
    let parts = [("t".to_owned(), 0), ("u".to_owned(), 0)];
    assert_eq!(rig.coordinator.delete_offsets(GROUP, &parts).unwrap_err(), ErrorCode::GroupIdNotFound);
    let (leader, _) = rig.pair();
    rig.commit(speaker(&leader), "t", 1).unwrap();
    rig.commit(speaker(&leader), "u", 1).unwrap();
    let (results, effects) = rig.coordinator.delete_offsets(GROUP, &parts).unwrap();
    rig.perform(effects);
    assert_eq!(results, [Err(ErrorCode::GroupSubscribedToTopic), Ok(())]);
    assert_eq!((rig.committed("t"), rig.committed("u")), (Some(1), None));
    assert_eq!(rig.coordinator.delete(GROUP).unwrap_err(), ErrorCode::NonEmptyGroup);
    for (_, effects) in rig.coordinator.forget_topics(&BTreeSet::from(["t".to_owned()])) {
        rig.perform(effects);
    }
    assert_eq!(rig.committed("t"), None, "its topic is gone");
}

#[test]
fn an_operator_is_told_why_a_group_rebalances() {
    let mut rig = Rig::new();
    let (a, first) = rig.join_as_new("a");
    rig.pass(2 * INITIAL_MS);
    let joined = rig.joined(first).clone();
    rig.sync(&joined, &[(&a, b"all")]);
    rig.pass(2 * SESSION_MS);
    let rebalancing = |generation, members, cause| {
        let member = a.clone();
        Event::Rebalancing { generation, members, cause, member }
    };
    let told = [
        rebalancing(0, 1, Cause::Joined),
        Event::Stable { generation: 1, members: 1 },
        rebalancing(1, 0, Cause::SessionEnded),
        Event::Empty { generation: 2 },
    ];
    assert_eq!(rig.events, told);
}
