//! Tickets: memory that was promised to senders before they send, and the senders that wait for it.
//!
//! Owns what is promised and who waits, never how much memory there is. A request that does not fit is parked, not
//! refused: a refusal costs an unmodified client two seconds and more. Applications take turns, and nobody overtakes
//! within one. Invariants: the sum of the tickets is what is promised; a ticket is used once.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use watershed_core::units::Now;

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parked(pub u64);

/// What a parked request is answered in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Granted(i64),
    /// Its time is up.
    TooLate,
}

#[derive(Clone, Copy, Debug)]
pub struct TicketsConfig {
    /// How long a ticket that nobody uses is kept.
    pub unused_us_max: u64,
    /// How long a request waits: less than the minute after which clients give a call up.
    pub parked_us_max: u64,
}

impl Default for TicketsConfig {
    fn default() -> TicketsConfig {
        TicketsConfig { unused_us_max: 120_000_000, parked_us_max: 40_000_000 }
    }
}

#[derive(Debug)]
struct Ticket {
    application: String,
    bytes: u64,
    expires_us: u64,
}

#[derive(Debug)]
struct Waiting {
    id: Parked,
    bytes: u64,
    deadline_us: u64,
}

#[derive(Debug)]
pub(super) struct Tickets {
    config: TicketsConfig,
    issued: BTreeMap<i64, Ticket>,
    promised_bytes: u64,
    waiting: BTreeMap<String, VecDeque<Waiting>>,
    /// The application that was served last.
    last_served: String,
    next: i64,
    next_parked: u64,
}

impl Tickets {
    pub(super) fn new(config: TicketsConfig) -> Tickets {
        Tickets {
            config,
            issued: BTreeMap::new(),
            promised_bytes: 0,
            waiting: BTreeMap::new(),
            last_served: String::new(),
            next: 1,
            next_parked: 0,
        }
    }

    pub(super) fn promised_bytes(&self) -> u64 {
        self.promised_bytes
    }

    pub(super) fn parked_count(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Puts a request behind the others of its application; `settle` answers it.
    pub(super) fn park(&mut self, application: &str, bytes: u64, now: Now) -> Parked {
        let id = Parked(self.next_parked);
        self.next_parked += 1;
        let deadline_us = now.monotonic_us + self.config.parked_us_max;
        self.waiting.entry(application.to_owned()).or_default().push_back(Waiting { id, bytes, deadline_us });
        id
    }

    /// Answers what can be answered while `free_bytes` are neither used nor promised.
    pub(super) fn settle(&mut self, mut free_bytes: u64, now: Now) -> Vec<(Parked, Answer)> {
        let mut answers = self.give_up(now);
        while let Some(application) = self.next_in_turn() {
            let first = self.waiting.get_mut(&application).and_then(VecDeque::pop_front);
            let first = first.expect("whoever is in turn waits");
            if first.bytes > free_bytes {
                self.waiting.entry(application).or_default().push_front(first);
                break;
            }
            free_bytes -= first.bytes;
            answers.push((first.id, Answer::Granted(self.issue(&application, first.bytes, now))));
            self.last_served = application;
            self.waiting.retain(|_, queue| !queue.is_empty());
        }
        answers
    }

    fn give_up(&mut self, now: Now) -> Vec<(Parked, Answer)> {
        let mut late = Vec::new();
        for queue in self.waiting.values_mut() {
            while let Some(first) = queue.pop_front_if(|first| first.deadline_us <= now.monotonic_us) {
                late.push((first.id, Answer::TooLate));
            }
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        late
    }

    fn next_in_turn(&self) -> Option<String> {
        let behind = (Bound::Excluded(&self.last_served), Bound::Unbounded);
        let next = self.waiting.range::<String, _>(behind).next().or_else(|| self.waiting.iter().next());
        next.map(|(application, _)| application.clone())
    }

    fn issue(&mut self, application: &str, bytes: u64, now: Now) -> i64 {
        let id = self.next;
        self.next += 1;
        self.promised_bytes += bytes;
        let expires_us = now.monotonic_us + self.config.unused_us_max;
        self.issued.insert(id, Ticket { application: application.to_owned(), bytes, expires_us });
        id
    }

    /// Uses a ticket; gives what it promised.
    pub(super) fn redeem(&mut self, application: &str, id: i64) -> Option<u64> {
        self.issued.get(&id).filter(|ticket| ticket.application == application)?;
        let ticket = self.issued.remove(&id)?;
        self.promised_bytes -= ticket.bytes;
        Some(ticket.bytes)
    }

    /// Takes tickets back that nobody used in time.
    pub(super) fn expire(&mut self, now: Now) {
        self.take_back(|ticket| ticket.expires_us <= now.monotonic_us);
    }

    /// Forgets an application; whoever of it waits is told that it is too late.
    pub(super) fn forget(&mut self, application: &str) -> Vec<(Parked, Answer)> {
        self.take_back(|ticket| ticket.application == application);
        let waiting = self.waiting.remove(application).unwrap_or_default();
        waiting.into_iter().map(|request| (request.id, Answer::TooLate)).collect()
    }

    fn take_back(&mut self, mut which: impl FnMut(&Ticket) -> bool) {
        let promised_bytes = &mut self.promised_bytes;
        self.issued.retain(|_, ticket| {
            let goes = which(ticket);
            if goes {
                *promised_bytes -= ticket.bytes;
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic_us: seconds * 1_000_000, wall_ms: 0 }
    }

    fn granted(answers: &[(Parked, Answer)]) -> Vec<Parked> {
        answers.iter().filter(|(_, answer)| *answer != Answer::TooLate).map(|(id, _)| *id).collect()
    }

    #[test]
    fn applications_take_turns_and_nobody_overtakes_within_one() {
        let mut tickets = Tickets::new(TicketsConfig::default());
        let greedy: Vec<Parked> = (0..3).map(|_| tickets.park("greedy", 10, at(0))).collect();
        let modest = tickets.park("modest", 10, at(0));
        let big = tickets.park("modest", 25, at(0));
        let small = tickets.park("modest", 1, at(0));
        assert_eq!(granted(&tickets.settle(20, at(1))), [greedy[0], modest]);
        assert_eq!(tickets.promised_bytes(), 20);
        assert_eq!(granted(&tickets.settle(12, at(2))), [greedy[1]], "the big one is next and does not fit");
        assert_eq!(granted(&tickets.settle(36, at(3))), [big, greedy[2], small]);
    }

    #[test]
    fn a_ticket_is_used_once_by_its_application_and_in_time() {
        let mut tickets = Tickets::new(TicketsConfig::default());
        tickets.park("a", 7, at(0));
        tickets.park("a", 8, at(0));
        let answers = tickets.settle(100, at(0));
        let [(_, Answer::Granted(first)), (_, Answer::Granted(second))] = answers[..] else { panic!("{answers:?}") };
        assert_eq!(tickets.redeem("b", first), None);
        assert_eq!((tickets.redeem("a", first), tickets.redeem("a", first)), (Some(7), None));
        tickets.expire(at(119));
        assert_eq!(tickets.promised_bytes(), 8);
        tickets.expire(at(120));
        assert_eq!((tickets.redeem("a", second), tickets.promised_bytes()), (None, 0));
    }

    #[test]
    fn who_waits_too_long_or_has_left_is_told() {
        let mut tickets = Tickets::new(TicketsConfig::default());
        let (first, second) = (tickets.park("a", 7, at(0)), tickets.park("b", 7, at(30)));
        assert_eq!(tickets.settle(0, at(40)), [(first, Answer::TooLate)]);
        assert_eq!(tickets.forget("b"), [(second, Answer::TooLate)]);
        assert_eq!((tickets.parked_count(), tickets.settle(100, at(41))), (0, Vec::new()));
    }
}
