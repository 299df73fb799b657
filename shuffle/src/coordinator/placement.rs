//! Who gets which partitions: pure arithmetic over the servers that can take them.
//!
//! The unit of balance is the host: hosts take ranges in proportion to their free memory, less what was given to them
//! lately; the servers of one host (its cores) share equally. A server's first replicas are one stretch of partitions.
//! Replicas of a range lie on different hosts, or there is no placement at all. The same input gives the same placement.

use super::servers::ServerAddress;

/// A server that can take partitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) address: &'a ServerAddress,
    pub(super) available_bytes: u64,
    /// Ranges given to it lately.
    pub(super) assigned: u64,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) partition_count: i32,
    pub(super) partitions_per_range: i32,
    pub(super) replica_count: usize,
    pub(super) server_count_max: usize,
}

/// Partitions `start` to `end`, both inclusive as on the wire, and who holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeAssignment {
    pub start: i32,
    pub end: i32,
    /// Places in [`Assignment::servers`], one for each replica.
    pub servers: Vec<usize>,
}

/// Who holds the partitions of a shuffle; ranges follow each other from 0 without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Those that could take a range; some may hold none.
    pub servers: Vec<ServerAddress>,
    pub ranges: Vec<RangeAssignment>,
}

/// The servers of one address.
struct Host<'a> {
    servers: Vec<Slot<'a>>,
    weight: u64,
    assigned: u64,
}

/// A server with its place in the assignment.
struct Slot<'a> {
    candidate: Candidate<'a>,
    place: usize,
    assigned: u64,
}

/// Places a shuffle, or `None` if the hosts are fewer than its replicas.
pub(super) fn place(wish: &Wish, candidates: &[Candidate<'_>]) -> Option<Assignment> {
    let mut hosts = chosen_hosts(wish, candidates);
    if hosts.len() < wish.replica_count.max(1) {
        return None;
    }
    let mut ranges = ranges(wish);
    let firsts = first_replicas(&mut hosts, ranges.len());
    for (range, (host, place)) in ranges.iter_mut().zip(firsts) {
        range.servers.push(place);
        let mut taken = vec![host];
        for _ in 1..wish.replica_count {
            let host = least_loaded(&hosts, &taken)?;
            range.servers.push(hosts.get_mut(host)?.take_one()?);
            taken.push(host);
        }
    }
    let servers = hosts.iter().flat_map(|host| host.servers.iter().map(|slot| slot.candidate.address.clone()));
    Some(Assignment { servers: servers.collect(), ranges })
}

fn ranges(wish: &Wish) -> Vec<RangeAssignment> {
    let last = wish.partition_count - 1;
    let starts = (0..=last).step_by(usize::try_from(wish.partitions_per_range).unwrap_or(1).max(1));
    let end_of = |start: i32| start.saturating_add(wish.partitions_per_range - 1).min(last);
    let range = |start| RangeAssignment { start, end: end_of(start), servers: Vec::with_capacity(wish.replica_count) };
    starts.map(range).collect()
}

/// The least loaded hosts whose servers together are not more than wished, but as many as there are replicas.
fn chosen_hosts<'a>(wish: &Wish, candidates: &[Candidate<'a>]) -> Vec<Host<'a>> {
    let mut all = grouped(candidates);
    all.sort_by(|a, b| a.load_after_one().cmp_to(b.load_after_one()));
    let mut chosen: Vec<Host<'a>> = Vec::new();
    let mut server_count = 0;
    for host in all {
        let fits = server_count + host.servers.len() <= wish.server_count_max;
        if !fits && chosen.len() >= wish.replica_count.max(1) {
            break;
        }
        server_count += host.servers.len();
        chosen.push(host);
    }
    if server_count > wish.server_count_max {
        let each_max = (wish.server_count_max / chosen.len().max(1)).max(1);
        chosen.iter_mut().for_each(|host| host.keep_idlest(each_max));
    }
    chosen.sort_by(|a, b| a.ip().cmp(b.ip()));
    for (place, slot) in chosen.iter_mut().flat_map(|host| &mut host.servers).enumerate() {
        slot.place = place;
    }
    chosen
}

/// Candidates by address, each host's in the order of their ids.
fn grouped<'a>(candidates: &[Candidate<'a>]) -> Vec<Host<'a>> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by(|a, b| (&a.address.ip, a.address).cmp(&(&b.address.ip, b.address)));
    let host = |servers: &[Candidate<'a>]| Host {
        weight: servers.iter().fold(0, |sum: u64, server| sum.saturating_add(server.available_bytes)).max(1),
        assigned: servers.iter().map(|server| server.assigned).sum(),
        servers: servers.iter().map(|&candidate| Slot { candidate, place: 0, assigned: candidate.assigned }).collect(),
    };
    sorted.chunk_by(|a, b| a.address.ip == b.address.ip).map(host).collect()
}

/// Host and server of each range's first replica: each server's are one stretch.
fn first_replicas(hosts: &mut [Host<'_>], range_count: usize) -> Vec<(usize, usize)> {
    let mut counts = vec![0usize; hosts.len()];
    for _ in 0..range_count {
        let Some(host) = least_loaded(hosts, &[]) else {
            break;
        };
        if let (Some(count), Some(host)) = (counts.get_mut(host), hosts.get_mut(host)) {
            *count += 1;
            host.assigned += 1;
        }
    }
    let mut firsts = Vec::with_capacity(range_count);
    for (place, (host, count)) in hosts.iter_mut().zip(counts).enumerate() {
        for (server, count) in host.share(count) {
            firsts.extend(std::iter::repeat_n((place, server), count));
        }
    }
    firsts
}

fn least_loaded(hosts: &[Host<'_>], taken: &[usize]) -> Option<usize> {
    let free = hosts.iter().enumerate().filter(|(place, _)| !taken.contains(place));
    free.min_by(|(_, a), (_, b)| a.load_after_one().cmp_to(b.load_after_one())).map(|(place, _)| place)
}

impl Host<'_> {
    fn ip(&self) -> &str {
        self.servers.first().map_or("", |slot| slot.candidate.address.ip.as_str())
    }

    fn load_after_one(&self) -> Load {
        Load { assigned: self.assigned + 1, weight: self.weight }
    }

    /// Keeps so many of its servers, those that were given the least lately.
    fn keep_idlest(&mut self, count: usize) {
        self.servers.sort_by_key(|slot| slot.assigned);
        self.servers.truncate(count);
        self.servers.sort_by(|a, b| a.candidate.address.cmp(b.candidate.address));
    }

    /// Divides ranges among its servers: as equally as can be, the odd ones to those that were given the least lately.
    fn share(&mut self, count: usize) -> Vec<(usize, usize)> {
        let server_count = self.servers.len().max(1);
        let (each, odd) = (count / server_count, count % server_count);
        let mut by_idleness = (0..self.servers.len()).collect::<Vec<_>>();
        by_idleness.sort_by_key(|&server| self.servers.get(server).map(|slot| slot.assigned));
        let mut shares = vec![each; self.servers.len()];
        for &server in by_idleness.iter().take(odd) {
            if let Some(share) = shares.get_mut(server) {
                *share += 1;
            }
        }
        let given = self.servers.iter_mut().zip(shares).map(|(slot, share)| {
            slot.assigned += share as u64;
            (slot.place, share)
        });
        given.collect()
    }

    /// Gives one more range to the server that was given the least.
    fn take_one(&mut self) -> Option<usize> {
        let slot = self.servers.iter_mut().min_by_key(|slot| slot.assigned)?;
        slot.assigned += 1;
        self.assigned += 1;
        Some(slot.place)
    }
}

/// Ranges for each byte of free memory, as a fraction.
#[derive(Clone, Copy)]
struct Load {
    assigned: u64,
    weight: u64,
}

impl Load {
    fn cmp_to(self, other: Load) -> std::cmp::Ordering {
        let crossed = |a: u64, b: u64| u128::from(a) * u128::from(b);
        crossed(self.assigned, other.weight).cmp(&crossed(other.assigned, self.weight))
    }
}
