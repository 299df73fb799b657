//! One connection's replies, in the order of its requests.
//!
//! Owns the finished replies that an earlier request still holds back. A reply never overtakes another; a request beyond
//! the limit is not begun (the connection stops reading).

use std::collections::VecDeque;

/// A request's place in its connection's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Replies of one connection. `R` is what the driver sends; `None` is a request without a reply (acks=0).
#[derive(Debug)]
pub struct Pipeline<R> {
    /// The ticket of the first waiting reply.
    first: u64,
    waiting: VecDeque<Place<R>>,
    outstanding_max: usize,
}

#[derive(Debug)]
enum Place<R> {
    Open,
    Finished(Option<R>),
}

impl<R> Pipeline<R> {
    /// At most `outstanding_max` requests (at least one) are begun and not yet taken.
    pub fn new(outstanding_max: usize) -> Pipeline<R> {
        Pipeline { first: 0, waiting: VecDeque::new(), outstanding_max: outstanding_max.max(1) }
    }

    /// Begins the next request; `None` if too many are outstanding.
    pub fn begin(&mut self) -> Option<Ticket> {
        if self.waiting.len() >= self.outstanding_max {
            return None;
        }
        let ticket = Ticket(self.first + self.waiting.len() as u64);
        self.waiting.push_back(Place::Open);
        Some(ticket)
    }

    /// Hands in a request's reply; each ticket is finished once.
    pub fn finish(&mut self, ticket: Ticket, reply: Option<R>) {
        let place = ticket
            .0
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.waiting.get_mut(at))
            .filter(|place| matches!(place, Place::Open))
            .expect("a ticket is finished once");
        *place = Place::Finished(reply);
    }

    /// The next reply whose turn it is; requests without one are passed over.
    pub fn next_ready(&mut self) -> Option<R> {
        while let Some(Place::Finished(_)) = self.waiting.front() {
            self.first += 1;
            if let Some(Place::Finished(Some(reply))) = self.waiting.pop_front() {
                return Some(reply);
            }
        }
        None
    }

    /// Requests begun whose turn has not come.
    pub fn outstanding_count(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_request_order() {
        let mut pipeline = Pipeline::new(8);
        let tickets: Vec<Ticket> = (0..4).map(|_| pipeline.begin().unwrap()).collect();
        pipeline.finish(tickets[2], Some('c'));
        pipeline.finish(tickets[1], None);
        assert_eq!(pipeline.next_ready(), None, "the first is not finished");
        pipeline.finish(tickets[0], Some('a'));
        assert_eq!(pipeline.next_ready(), Some('a'));
        assert_eq!(pipeline.next_ready(), Some('c'), "the second has no reply");
        assert_eq!(pipeline.next_ready(), None);
        assert_eq!(pipeline.outstanding_count(), 1);
        pipeline.finish(tickets[3], Some('d'));
        assert_eq!(pipeline.next_ready(), Some('d'));
        assert!(pipeline.is_idle());
    }

    #[test]
    fn a_full_pipeline_begins_nothing() {
        let mut pipeline = Pipeline::new(2);
        let first = pipeline.begin().unwrap();
        pipeline.begin().unwrap();
        assert_eq!(pipeline.begin(), None);
        pipeline.finish(first, Some(()));
        assert_eq!(pipeline.begin(), None, "finished but not taken");
        pipeline.next_ready();
        assert!(pipeline.begin().is_some());
    }

    #[test]
    #[should_panic(expected = "finished once")]
    fn a_ticket_is_not_finished_twice() {
        let mut pipeline = Pipeline::new(2);
        let ticket = pipeline.begin().unwrap();
        pipeline.finish(ticket, Some(1));
        pipeline.finish(ticket, Some(2));
    }
}
