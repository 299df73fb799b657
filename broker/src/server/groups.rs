//! Groups at their owner: the coordinators of those partitions of `__consumer_offsets` that this shard owns.
//!
//! A coordinator serves once its log was read. What it decides is appended in the same call, and whatever is answered, now
//! or later, leaves when everything that it was computed from is durable. No borrow is held over an await.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use watershed_core::io::executor::{instant_of, sleep, sleep_until, spawn};
use watershed_core::units::{Now, TopicId, TopicPartition};

use crate::groups::{
    Answer, Commit, Coordinator, Described, Effects, Event, GroupSettings, Join, Listed, OffsetCommitValue, Speaker,
    Sync, Waiter,
};
use crate::wire::error_code::ErrorCode;

use super::calls::{Answering, Reply};
use super::node::Node;
use super::offsets_log;
use watershed_core::io::bell::{Bell, first};

/// How often the lengths of the logs are looked at while something is appended to them.
const SHORTEN_EVERY: Duration = Duration::from_secs(1);

/// What is asked of the coordinator of a group.
pub(crate) enum GroupAsk {
    /// Answered with [`GroupTold::Later`]; the waiter is told.
    Join(Box<Join>, Waiter),
    /// Answered with [`GroupTold::Later`]; the waiter is told.
    Sync(Sync, Waiter),
    Heartbeat(Speaker),
    /// Each member by its id, its instance id or both.
    Leave(Vec<(String, Option<String>)>),
    Commit(Commit),
    /// `None`: everything that is committed.
    Committed(Option<Vec<(String, i32)>>),
    DeleteOffsets(Vec<(String, i32)>),
    Delete,
    Describe,
}

/// What the coordinator says.
pub(crate) enum GroupTold {
    Later,
    Done,
    Each(Vec<Result<(), ErrorCode>>),
    /// What is committed, of what was asked for.
    Committed(Vec<(String, i32, OffsetCommitValue)>),
    Described(Option<Described>),
}

/// This shard's coordinators.
#[derive(Default)]
pub(crate) struct Groups {
    by_partition: RefCell<BTreeMap<TopicPartition, Place>>,
    /// Something was appended since the lengths of the logs were last looked at.
    is_longer: Cell<bool>,
    /// What the clock's task sleeps until.
    sleeps_until_ms: Cell<Option<u64>>,
    /// Rings when it must not sleep that long.
    changed: Bell,
}

struct Place {
    coordinator: Coordinator,
    state: PlaceState,
    /// What was live when the log was last written anew.
    live_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceState {
    Loading,
    Serving,
    /// Serving, while its log is written anew.
    Rewriting,
    /// Its log cannot be read; the reason is in the log of the process.
    Failed,
}

impl PlaceState {
    fn check(self) -> Result<(), ErrorCode> {
        match self {
            PlaceState::Serving | PlaceState::Rewriting => Ok(()),
            PlaceState::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            PlaceState::Failed => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }
}

/// The limits that hold now.
fn settings(node: &Node) -> GroupSettings {
    let (cluster, catalog) = (node.cluster(), node.catalog.borrow());
    let configs = catalog.broker_configs(&cluster.properties, cluster.node_id);
    let number = |name| configs.number(name);
    let small = |name| i32::try_from(number(name)).unwrap_or(i32::MAX);
    GroupSettings {
        session_timeout_min_ms: small("group.min.session.timeout.ms"),
        session_timeout_max_ms: small("group.max.session.timeout.ms"),
        members_max: usize::try_from(number("group.max.size")).unwrap_or(usize::MAX),
        initial_delay_ms: u64::try_from(number("group.initial.rebalance.delay.ms")).unwrap_or_default(),
        metadata_bytes_max: usize::try_from(number("offset.metadata.max.bytes")).unwrap_or_default(),
        retention_ms: number("offsets.retention.minutes").saturating_mul(60_000),
    }
}

/// A partition of the offsets topic is owned here: reads it and serves its groups from then on.
pub(super) fn open(node: &Rc<Node>, at: TopicPartition) {
    let coordinator = Coordinator::new(settings(node));
    let place = Place { coordinator, state: PlaceState::Loading, live_bytes: 0 };
    node.groups.by_partition.borrow_mut().insert(at, place);
    let node = Rc::clone(node);
    spawn(async move {
        let mut coordinator = Coordinator::new(settings(&node));
        let loaded = offsets_log::load(&node, at, &mut coordinator).await;
        coordinator.configure(settings(&node));
        coordinator.loaded(node.shard.now());
        if let Some(place) = node.groups.by_partition.borrow_mut().get_mut(&at) {
            place.state = match loaded {
                Ok(()) => PlaceState::Serving,
                Err(fault) => {
                    tracing::error!(%fault, "the groups of this partition cannot be served");
                    PlaceState::Failed
                }
            };
            place.coordinator = coordinator;
        }
        node.groups.changed.ring();
    });
}

/// The broker's configurations have changed.
pub(super) fn configure(node: &Node) {
    let settings = settings(node);
    for place in node.groups.by_partition.borrow_mut().values_mut() {
        place.coordinator.configure(settings.clone());
    }
}

/// A topic is gone: so are the coordinators of its partitions, or what groups have committed for it.
pub(super) fn topic_removed(node: &Rc<Node>, id: TopicId, name: &str) {
    let places = node.groups.places();
    if name == offsets_log::TOPIC {
        node.groups.by_partition.borrow_mut().retain(|at, _| at.topic != id);
        return;
    }
    let gone = BTreeSet::from([name.to_owned()]);
    for at in places {
        each_group(node, at, |coordinator, _| coordinator.forget_topics(&gone));
    }
}

/// Asks the coordinator of `group`. What is decided has its place in the log when this returns.
pub(super) fn ask(node: &Rc<Node>, at: TopicPartition, group: &str, ask: GroupAsk) -> Answering {
    let told = told(node, at, group, ask);
    let stamp = node.shard.last_stamp(at);
    let node = Rc::clone(node);
    Answering::Later(Box::pin(async move {
        node.shard.durable(stamp).await;
        Reply::Group(told)
    }))
}

fn told(node: &Rc<Node>, at: TopicPartition, group: &str, ask: GroupAsk) -> Result<GroupTold, ErrorCode> {
    let now = node.shard.now();
    let mut places = node.groups.by_partition.borrow_mut();
    let place = places.get_mut(&at).ok_or(ErrorCode::NotCoordinator)?;
    place.state.check()?;
    let coordinator = &mut place.coordinator;
    match ask {
        GroupAsk::Join(join, waiter) => {
            let effects = coordinator.join(group, *join, waiter, now);
            // Those who wait are told, also that nothing was written.
            let _ = perform(node, at, coordinator, group, effects);
            Ok(GroupTold::Later)
        }
        GroupAsk::Sync(sync, waiter) => {
            let effects = coordinator.sync(group, sync, waiter, now);
            // Those who wait are told, also that nothing was written.
            let _ = perform(node, at, coordinator, group, effects);
            Ok(GroupTold::Later)
        }
        GroupAsk::Heartbeat(speaker) => coordinator.heartbeat(group, &speaker, now).map(|()| GroupTold::Done),
        GroupAsk::Leave(members) => {
            let (results, effects) = coordinator.leave(group, &members, now);
            // A member that left is gone, whether or not that is written: its session would end anyway.
            let _ = perform(node, at, coordinator, group, effects);
            Ok(GroupTold::Each(results))
        }
        GroupAsk::Commit(commit) => {
            let (results, effects) = coordinator.commit(group, commit, now);
            let written = perform(node, at, coordinator, group, effects);
            Ok(GroupTold::Each(results.into_iter().map(|result| result.and(written)).collect()))
        }
        GroupAsk::Committed(asked) => Ok(GroupTold::Committed(committed(coordinator, group, asked))),
        GroupAsk::DeleteOffsets(parts) => {
            let (results, effects) = coordinator.delete_offsets(group, &parts)?;
            let written = perform(node, at, coordinator, group, effects);
            Ok(GroupTold::Each(results.into_iter().map(|result| result.and(written)).collect()))
        }
        GroupAsk::Delete => {
            let effects = coordinator.delete(group)?;
            perform(node, at, coordinator, group, effects).map(|()| GroupTold::Done)
        }
        GroupAsk::Describe => Ok(GroupTold::Described(coordinator.describe(group))),
    }
}

fn committed(
    coordinator: &Coordinator,
    group: &str,
    asked: Option<Vec<(String, i32)>>,
) -> Vec<(String, i32, OffsetCommitValue)> {
    match asked {
        None => {
            let all = coordinator.all_committed(group);
            all.map(|(topic, partition, value)| (topic.to_owned(), partition, value.clone())).collect()
        }
        Some(asked) => {
            let found = |(topic, partition): (String, i32)| {
                let value = coordinator.committed(group, &topic, partition)?.clone();
                Some((topic, partition, value))
            };
            asked.into_iter().filter_map(found).collect()
        }
    }
}

/// The groups of this shard.
pub(super) fn list(node: &Node) -> Result<Vec<Listed>, ErrorCode> {
    let places = node.groups.by_partition.borrow();
    let mut listed = Vec::new();
    for place in places.values() {
        place.state.check()?;
        listed.extend(place.coordinator.list());
    }
    Ok(listed)
}

/// A group at a glance.
pub(super) struct Glance {
    pub(super) group: String,
    pub(super) state: &'static str,
    /// Topic, partition and committed offset.
    pub(super) committed: Vec<(String, i32, i64)>,
}

/// The first group of a coordinator after this one.
pub(super) fn next_group(node: &Node, at: TopicPartition, after: Option<&str>) -> Option<Glance> {
    let places = node.groups.by_partition.borrow();
    let place = places.get(&at).filter(|place| place.state.check().is_ok())?;
    let (group, state, committed) = place.coordinator.next_group(after)?;
    let committed = committed.map(|(topic, partition, value)| (topic.to_owned(), partition, value.offset)).collect();
    Some(Glance { group: group.to_owned(), state, committed })
}

/// Appends what was decided and sends the answers on their way, behind it. An error: nothing was written, and those who
/// wait are told so.
fn perform(
    node: &Rc<Node>,
    at: TopicPartition,
    coordinator: &mut Coordinator,
    group: &str,
    mut effects: Effects,
) -> Result<(), ErrorCode> {
    let written = match effects.records.is_empty() {
        true => Ok(()),
        false => offsets_log::append(node, at, &effects.records).map(|_| node.groups.is_longer.set(true)),
    };
    let done = match written {
        Ok(()) => {
            let records = std::mem::take(&mut effects.records);
            records.into_iter().for_each(|record| coordinator.replay(record));
            effects
        }
        Err(error) => {
            tracing::warn!(group, error = error.name(), "a change of a group was not written");
            coordinator.append_failed(group, effects, error, node.shard.now())
        }
    };
    node.groups.wake_for(coordinator.next_deadline_ms());
    log(group, &done.events);
    tell(node, at, done.answers);
    written
}

/// Tells the operator.
fn log(group: &str, events: &[Event]) {
    for event in events {
        match event {
            Event::Rebalancing { generation, members, cause, member } => {
                tracing::info!(group, generation, members, member, why = cause.words(), "a group rebalances");
            }
            Event::Stable { generation, members } => {
                tracing::info!(group, generation, members, "a group is stable");
            }
            Event::Empty { generation } => tracing::info!(group, generation, "a group has no members left"),
        }
    }
}

/// Tells those who wait, once what they are told is durable.
fn tell(node: &Rc<Node>, at: TopicPartition, answers: Vec<(Waiter, Answer)>) {
    if answers.is_empty() {
        return;
    }
    let stamp = node.shard.last_stamp(at);
    let node = Rc::clone(node);
    spawn(async move {
        node.shard.durable(stamp).await;
        for (waiter, answer) in answers {
            match waiter.shard == node.id() {
                true => node.answered(waiter.token, answer),
                false => node.peers.tell(waiter.shard, waiter.token, answer),
            }
        }
    });
}

/// What the coordinator of a partition does by itself, group by group.
fn each_group(
    node: &Rc<Node>,
    at: TopicPartition,
    decide: impl FnOnce(&mut Coordinator, Now) -> Vec<(String, Effects)>,
) {
    let mut places = node.groups.by_partition.borrow_mut();
    let Some(place) = places.get_mut(&at).filter(|place| place.state.check().is_ok()) else {
        return;
    };
    for (group, effects) in decide(&mut place.coordinator, node.shard.now()) {
        // Not written: the same is decided again.
        let _ = perform(node, at, &mut place.coordinator, &group, effects);
    }
}

/// Ends sessions and rebalances when they are due and lets offsets expire, for as long as the shard runs.
pub(super) async fn run(node: Rc<Node>) {
    let check_ms = node.cluster().properties.number("offsets.retention.check.interval.ms");
    let check_every = Duration::from_millis(u64::try_from(check_ms).unwrap_or(1));
    let mut check_at = instant_of(node.now_us()) + check_every;
    loop {
        let count = node.groups.changed.count();
        let deadline_ms = node.groups.next_deadline_ms();
        node.groups.sleeps_until_ms.set(deadline_ms);
        let due = deadline_ms.map_or(check_at, |at_ms| instant_of(at_ms * 1000).min(check_at));
        first(sleep_until(due), node.groups.changed.after(count)).await;
        let is_check = instant_of(node.now_us()) >= check_at;
        for at in node.groups.places() {
            each_group(&node, at, Coordinator::tick);
            if is_check {
                each_group(&node, at, Coordinator::expire);
            }
        }
        if is_check {
            check_at += check_every;
        }
    }
}

/// Looks whether a log is to be written anew, for as long as the shard runs; not while nothing is appended.
pub(super) async fn keep_short(node: Rc<Node>) {
    loop {
        sleep(SHORTEN_EVERY).await;
        if node.groups.is_longer.replace(false) {
            node.groups.places().into_iter().for_each(|at| shorten(&node, at));
        }
    }
}

impl Groups {
    pub(super) fn places(&self) -> Vec<TopicPartition> {
        self.by_partition.borrow().keys().copied().collect()
    }

    /// Wakes the clock's task if it would sleep beyond this.
    fn wake_for(&self, deadline_ms: Option<u64>) {
        let Some(deadline_ms) = deadline_ms else {
            return;
        };
        if self.sleeps_until_ms.get().is_none_or(|until_ms| deadline_ms < until_ms) {
            self.changed.ring();
        }
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        let places = self.by_partition.borrow();
        places.values().filter_map(|place| place.coordinator.next_deadline_ms()).min()
    }
}

/// Begins to write a log anew if most of it is dead.
fn shorten(node: &Rc<Node>, at: TopicPartition) {
    {
        let mut places = node.groups.by_partition.borrow_mut();
        let Some(place) = places.get_mut(&at).filter(|place| place.state == PlaceState::Serving) else {
            return;
        };
        if !offsets_log::is_worth_rewriting(node, at, place.live_bytes) {
            return;
        }
        place.state = PlaceState::Rewriting;
    }
    let node = Rc::clone(node);
    spawn(async move {
        let live_after = |after: Option<&str>| {
            let places = node.groups.by_partition.borrow();
            places.get(&at)?.coordinator.live_records(after)
        };
        let rewritten = offsets_log::rewrite(&node, at, live_after).await;
        if let Some(place) = node.groups.by_partition.borrow_mut().get_mut(&at) {
            place.state = PlaceState::Serving;
            match rewritten {
                Ok(live_bytes) => place.live_bytes = live_bytes,
                Err(error) => tracing::warn!(error = error.name(), "an offsets log was not written anew"),
            }
        }
    });
}
