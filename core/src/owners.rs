//! Which shard owns which partition.
//!
//! Owner placement is the broker's own business: decided here, journaled as Assign entries, rebuilt at start from the union
//! of all journals. A partition lives on exactly one shard. Absence from the catalog never deletes: such partitions are
//! strays, kept and named.

use std::collections::{BTreeMap, BTreeSet};

use crate::units::{ShardId, TopicPartition};

/// The owner table; shard 0 writes it, the others hold copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    table: BTreeMap<TopicPartition, ShardId>,
    /// Partitions of each shard; the index is the shard.
    loads: Vec<u32>,
}

/// Two journals claim the same partition: never resolved by guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{partition} is claimed by shard {} and by shard {}", first.0, second.0)]
pub struct Conflict {
    pub partition: TopicPartition,
    pub first: ShardId,
    pub second: ShardId,
}

impl Owners {
    /// An empty table over `shards_count` shards (at least one).
    pub fn new(shards_count: u16) -> Owners {
        Owners { table: BTreeMap::new(), loads: vec![0; usize::from(shards_count.max(1))] }
    }

    /// Rebuilds the table from what every shard's journals hold.
    pub fn build(
        shards_count: u16,
        held: impl IntoIterator<Item = (ShardId, TopicPartition)>,
    ) -> Result<Owners, Conflict> {
        let mut owners = Owners::new(shards_count);
        for (shard, partition) in held {
            match owners.table.get(&partition) {
                Some(&first) if first != shard => {
                    return Err(Conflict { partition, first, second: shard });
                }
                Some(_) => {}
                None => owners.place(partition, shard),
            }
        }
        Ok(owners)
    }

    pub fn owner(&self, partition: TopicPartition) -> Option<ShardId> {
        self.table.get(&partition).copied()
    }

    pub fn count(&self) -> usize {
        self.table.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, ShardId)> {
        self.table.iter().map(|(&partition, &shard)| (partition, shard))
    }

    /// The partition's owner: the one it has, else the least loaded shard (the lowest of equals), which must journal it.
    pub fn assign(&mut self, partition: TopicPartition) -> ShardId {
        if let Some(owner) = self.owner(partition) {
            return owner;
        }
        let shard = self.least_loaded();
        self.place(partition, shard);
        shard
    }

    /// Forgets a partition whose Drop is durable; returns the owner it had.
    pub fn remove(&mut self, partition: TopicPartition) -> Option<ShardId> {
        let shard = self.table.remove(&partition)?;
        if let Some(load) = self.loads.get_mut(usize::from(shard.0)) {
            *load = load.saturating_sub(1);
        }
        Some(shard)
    }

    /// Partitions that exist on disk but not in the catalog.
    pub fn strays(&self, catalog: &BTreeSet<TopicPartition>) -> Vec<(TopicPartition, ShardId)> {
        self.iter().filter(|(partition, _)| !catalog.contains(partition)).collect()
    }

    fn place(&mut self, partition: TopicPartition, shard: ShardId) {
        self.table.insert(partition, shard);
        if let Some(load) = self.loads.get_mut(usize::from(shard.0)) {
            *load += 1;
        }
    }

    fn least_loaded(&self) -> ShardId {
        let shards = (0u16..).zip(&self.loads);
        let least = shards.min_by_key(|&(shard, &load)| (load, shard));
        ShardId(least.map_or(0, |(shard, _)| shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::TopicId;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([7; 16]), partition }
    }

    #[test]
    fn the_least_loaded_shard_gets_the_next_partition() {
        let mut owners = Owners::new(3);
        let placed: Vec<u16> = (0..7).map(|n| owners.assign(partition(n)).0).collect();
        assert_eq!(placed, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(owners.assign(partition(1)), ShardId(1), "an owner stays");
        assert_eq!(owners.remove(partition(2)), Some(ShardId(2)));
        assert_eq!(owners.remove(partition(2)), None);
        assert_eq!(owners.assign(partition(9)), ShardId(2));
    }

    #[test]
    fn the_union_of_the_journals_is_the_table() {
        let held = [(ShardId(1), partition(0)), (ShardId(1), partition(1))];
        let mut owners = Owners::build(2, held).unwrap();
        assert_eq!(owners.owner(partition(1)), Some(ShardId(1)));
        assert_eq!(owners.assign(partition(2)), ShardId(0));
        let claimed_twice = [(ShardId(1), partition(0)), (ShardId(0), partition(0))];
        assert!(Owners::build(2, claimed_twice).is_err());
    }

    #[test]
    fn what_the_catalog_does_not_name_is_a_stray_and_stays() {
        let mut owners = Owners::new(1);
        owners.assign(partition(0));
        owners.assign(partition(1));
        let strays = owners.strays(&BTreeSet::from([partition(0)]));
        assert_eq!(strays, [(partition(1), ShardId(0))]);
        assert_eq!(owners.count(), 2);
    }
}
