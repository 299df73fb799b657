//! A shard's memory budget: credits in pools that form a chain receive → journal → disk, and reply beside it.
//!
//! A holder of a later pool never waits for an earlier one, so the chain always drains. A request's body is reserved whole
//! before it is read. At most half of the receive pool may wait for one owner, so one slow owner cannot stop the others.
//! Bytes that exceed what a pool could ever give are refused, not waited for.

use crate::units::ShardId;

/// One pool of the chain, in the order in which bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// Request bodies being received and checked.
    Receive,
    /// Runs that wait for a commit.
    Journal,
    /// Tail chunks not yet drained, and the tail cache.
    Disk,
    /// Bytes lent to or read for replies.
    Reply,
}

const POOLS_COUNT: usize = 4;

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    Granted,
    /// Try again after a release.
    Wait,
    /// Larger than the pool (or the owner's share) can ever give.
    TooLarge,
}

#[derive(Clone, Copy, Debug, Default)]
struct Credits {
    limit_bytes: u64,
    used_bytes: u64,
}

/// The budget of one shard.
#[derive(Clone, Debug)]
pub struct Budget {
    pools: [Credits; POOLS_COUNT],
    /// Receive bytes that wait for each owner.
    owners: Vec<u64>,
}

impl Budget {
    /// Divides `total_bytes`: a quarter to receive, an eighth to journal, three eighths to disk, a quarter to reply.
    pub fn derive(total_bytes: u64, shards_count: u16) -> Budget {
        let eighth = total_bytes / 8;
        let limits = [2 * eighth, eighth, 3 * eighth, 2 * eighth];
        Budget {
            pools: limits.map(|limit_bytes| Credits { limit_bytes, used_bytes: 0 }),
            owners: vec![0; usize::from(shards_count)],
        }
    }

    pub fn limit_bytes(&self, pool: Pool) -> u64 {
        self.credits(pool).limit_bytes
    }

    pub fn used_bytes(&self, pool: Pool) -> u64 {
        self.credits(pool).used_bytes
    }

    pub fn acquire(&mut self, pool: Pool, bytes: u64) -> Reservation {
        let credits = self.credits_mut(pool);
        if bytes > credits.limit_bytes {
            return Reservation::TooLarge;
        }
        if bytes > credits.limit_bytes - credits.used_bytes {
            return Reservation::Wait;
        }
        credits.used_bytes += bytes;
        Reservation::Granted
    }

    /// Gives credits back; never more than were acquired.
    pub fn release(&mut self, pool: Pool, bytes: u64) {
        let credits = self.credits_mut(pool);
        credits.used_bytes = credits.used_bytes.checked_sub(bytes).expect("credits come back once");
    }

    /// Charges received bytes that now wait for `owner`; they stay acquired in the receive pool. Refused beyond half of it.
    pub fn wait_for(&mut self, owner: ShardId, bytes: u64) -> Reservation {
        let half = self.limit_bytes(Pool::Receive) / 2;
        let Some(waiting) = self.owners.get_mut(usize::from(owner.0)) else {
            return Reservation::TooLarge;
        };
        if bytes > half {
            return Reservation::TooLarge;
        }
        if bytes > half - *waiting {
            return Reservation::Wait;
        }
        *waiting += bytes;
        Reservation::Granted
    }

    /// The owner took the bytes over.
    pub fn taken_by(&mut self, owner: ShardId, bytes: u64) {
        let waiting = self.owners.get_mut(usize::from(owner.0)).expect("an owner is a shard");
        *waiting = waiting.checked_sub(bytes).expect("bytes are taken once");
    }

    fn credits(&self, pool: Pool) -> &Credits {
        let [receive, journal, disk, reply] = &self.pools;
        match pool {
            Pool::Receive => receive,
            Pool::Journal => journal,
            Pool::Disk => disk,
            Pool::Reply => reply,
        }
    }

    fn credits_mut(&mut self, pool: Pool) -> &mut Credits {
        let [receive, journal, disk, reply] = &mut self.pools;
        match pool {
            Pool::Receive => receive,
            Pool::Journal => journal,
            Pool::Disk => disk,
            Pool::Reply => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_given_up_to_the_limit_and_come_back() {
        let mut budget = Budget::derive(8 << 20, 2);
        assert_eq!(budget.acquire(Pool::Journal, 1 << 20), Reservation::Granted);
        assert_eq!(budget.acquire(Pool::Journal, 1), Reservation::Wait);
        assert_eq!(budget.acquire(Pool::Disk, 1), Reservation::Granted, "pools are apart");
        assert_eq!(budget.acquire(Pool::Journal, (1 << 20) + 1), Reservation::TooLarge);
        budget.release(Pool::Journal, 1 << 20);
        assert_eq!(budget.acquire(Pool::Journal, 1), Reservation::Granted);
    }

    #[test]
    fn the_pools_never_exceed_the_total() {
        let budget = Budget::derive(1_000_003, 1);
        let pools = [Pool::Receive, Pool::Journal, Pool::Disk, Pool::Reply];
        let sum: u64 = pools.iter().map(|&pool| budget.limit_bytes(pool)).sum();
        assert!(sum <= 1_000_003 && sum > 999_000);
    }

    #[test]
    fn one_owner_holds_at_most_half_of_receive() {
        let mut budget = Budget::derive(8 << 20, 2);
        assert_eq!(budget.wait_for(ShardId(0), 1 << 20), Reservation::Granted);
        assert_eq!(budget.wait_for(ShardId(0), 1), Reservation::Wait);
        assert_eq!(budget.wait_for(ShardId(1), 1), Reservation::Granted);
        assert_eq!(budget.wait_for(ShardId(1), (1 << 20) + 1), Reservation::TooLarge);
        assert_eq!(budget.wait_for(ShardId(9), 1), Reservation::TooLarge);
        budget.taken_by(ShardId(0), 1 << 20);
        assert_eq!(budget.wait_for(ShardId(0), 1), Reservation::Granted);
    }

    #[test]
    #[should_panic(expected = "come back once")]
    fn credits_are_not_released_twice() {
        let mut budget = Budget::derive(1 << 20, 1);
        budget.acquire(Pool::Reply, 10);
        budget.release(Pool::Reply, 11);
    }
}
