//! Lag: how far groups are behind, from the coordinators of this shard and the high watermarks of all owners.
//!
//! Computed when a scrape asks and kept nowhere. Bounded: a scrape walks from group to group and gives way in between, asks
//! each owner in parts, waits for none longer than [`WAIT`], and leaves out, and counts, what is beyond its share of
//! [`LAGS_MAX`]. Internal topics and topics that are gone have no lag.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use watershed_core::io::executor::{self, yield_if_needed};
use watershed_core::units::{ShardId, TopicPartition};

use crate::metrics::GroupLag;
use crate::wire::topic_ref::TopicRef;

use super::calls::{Call, Reply};
use super::groups;
use super::node::Node;
use super::offsets::{LATEST, OffsetAsk, OffsetFound};
use super::reads::Reader;

/// Series of one scrape, of all shards together.
const LAGS_MAX: usize = 10_000;
/// Partitions that an owner is asked about at once.
const ASKS_MAX: usize = 1_000;
/// Less than what the admin thread waits for this shard.
const WAIT: Duration = Duration::from_millis(500);

/// What a scrape shows of the groups whose coordinator is here.
#[derive(Debug, Default)]
pub(super) struct GroupsSeen {
    /// Groups by state.
    pub(super) states: BTreeMap<&'static str, u64>,
    pub(super) lags: Vec<GroupLag>,
    pub(super) left_out: u64,
}

/// What a group has committed for a partition that exists.
struct Committed {
    group: Arc<str>,
    topic: Arc<str>,
    at: TopicPartition,
    owner: ShardId,
    offset: i64,
}

/// Looks at every group of this shard.
pub(super) async fn look(node: &Rc<Node>) -> GroupsSeen {
    let deadline = executor::now() + WAIT;
    let mut seen = GroupsSeen::default();
    let committed = committed(node, &mut seen).await;
    let wanted = committed.len() as u64;
    if node.closing.get() {
        return seen;
    }
    let ends = ends(node, &committed, deadline).await;
    let lag = |part: Committed| {
        let end = ends.get(&part.at)?;
        let records = u64::try_from(end.saturating_sub(part.offset)).unwrap_or(0);
        Some(GroupLag { group: part.group, topic: part.topic, partition: part.at.partition, records })
    };
    seen.lags = committed.into_iter().filter_map(lag).collect();
    seen.left_out += wanted - seen.lags.len() as u64;
    seen
}

/// What is committed here, up to this shard's share, counted by the states of its groups.
async fn committed(node: &Rc<Node>, seen: &mut GroupsSeen) -> Vec<Committed> {
    let share = LAGS_MAX / usize::from(node.peers.shard_count().max(1));
    let mut topics = BTreeMap::new();
    let mut committed = Vec::new();
    for at in node.groups.places() {
        let mut after = None;
        while let Some(glance) = groups::next_group(node, at, after.as_deref()) {
            *seen.states.entry(glance.state).or_default() += 1;
            let group: Arc<str> = Arc::from(glance.group.as_str());
            for (topic, partition, offset) in glance.committed {
                let Some((topic, at, owner)) = place(node, &mut topics, topic, partition) else { continue };
                match committed.len() < share {
                    true => committed.push(Committed { group: Arc::clone(&group), topic, at, owner, offset }),
                    false => seen.left_out += 1,
                }
            }
            after = Some(glance.group);
            yield_if_needed().await;
        }
    }
    committed
}

/// The partition of this name and its owner; none if there is none.
fn place(
    node: &Node,
    topics: &mut BTreeMap<String, Arc<str>>,
    topic: String,
    partition: i32,
) -> Option<(Arc<str>, TopicPartition, ShardId)> {
    let at = TopicPartition { topic: node.topic_id(TopicRef::Name(&topic)).ok()?, partition };
    let owner = node.owner(at).ok()?;
    let name = topics.entry(topic).or_insert_with_key(|name| Arc::from(name.as_str()));
    Some((Arc::clone(name), at, owner))
}

/// The high watermarks, of the owners that answer in time.
async fn ends(node: &Rc<Node>, committed: &[Committed], deadline: Instant) -> BTreeMap<TopicPartition, i64> {
    let mut by_owner: BTreeMap<ShardId, BTreeSet<TopicPartition>> = BTreeMap::new();
    for part in committed {
        by_owner.entry(part.owner).or_default().insert(part.at);
    }
    let mut ends = BTreeMap::new();
    for (owner, wanted) in by_owner {
        let wanted: Vec<TopicPartition> = wanted.into_iter().collect();
        for some in wanted.chunks(ASKS_MAX) {
            let found = executor::until(deadline, ends_at(node, owner, some)).await;
            ends.extend(found.into_iter().flatten());
        }
    }
    ends
}

async fn ends_at(node: &Rc<Node>, owner: ShardId, wanted: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
    let asks = wanted.iter().map(|at| OffsetAsk { at: *at, timestamp: LATEST, leader_epoch: -1 }).collect();
    match node.call(owner, Call::Offsets(Reader::ReadUncommitted, asks)).await {
        Reply::Offsets(found) => {
            let known = |(at, found): (&TopicPartition, Result<OffsetFound, _>)| Some((*at, found.ok()?.offset));
            wanted.iter().zip(found).filter_map(known).collect()
        }
        _ => Vec::new(),
    }
}
