//! Memory: the waiting line in front of a shard's budget. First come, first served, on one core.
//!
//! A request is reserved whole before its body is received and holds nothing while it waits but what `spare` gave, and needs
//! at most the other half of its pool, so half-received requests cannot starve one another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use watershed_core::budget::{Budget, Pool, Reservation};

use watershed_core::io::bell::Bell;

/// A shard's budget and who waits for it.
pub(crate) struct Memory {
    budget: RefCell<Budget>,
    line: RefCell<VecDeque<u64>>,
    tickets: Cell<u64>,
    freed: Bell,
}

/// Reserved bytes; given back when dropped.
pub(crate) struct Credit {
    memory: Rc<Memory>,
    pool: Pool,
    bytes: u64,
}

/// A place in the line; left when dropped.
struct Turn<'a> {
    memory: &'a Memory,
    ticket: u64,
}

impl Memory {
    pub(crate) fn new(budget: Budget) -> Rc<Memory> {
        Rc::new(Memory {
            budget: RefCell::new(budget),
            line: RefCell::default(),
            tickets: Cell::new(0),
            freed: Bell::default(),
        })
    }

    pub(crate) fn limit_bytes(&self, pool: Pool) -> u64 {
        self.budget.borrow().limit_bytes(pool)
    }

    pub(crate) fn used_bytes(&self, pool: Pool) -> u64 {
        self.budget.borrow().used_bytes(pool)
    }

    /// Waits for its turn and for `bytes`; `None` if the pool never has that many.
    pub(crate) async fn reserve(self: &Rc<Self>, pool: Pool, bytes: u64) -> Option<Credit> {
        let turn = self.line_up();
        let mut reservation = Reservation::Wait;
        let mut granted = || {
            if self.line.borrow().front() == Some(&turn.ticket) {
                reservation = self.budget.borrow_mut().acquire(pool, bytes);
            }
            reservation != Reservation::Wait
        };
        self.freed.until(&mut granted).await;
        let memory = Rc::clone(self);
        (reservation == Reservation::Granted).then_some(Credit { memory, pool, bytes })
    }

    /// Bytes that whoever holds them may wait with: there now, out of the half of the pool that is not kept for those who wait.
    pub(crate) fn spare(self: &Rc<Self>, pool: Pool, bytes: u64) -> Option<Credit> {
        let mut budget = self.budget.borrow_mut();
        let half = budget.limit_bytes(pool) / 2;
        let granted = budget.used_bytes(pool) + bytes <= half && budget.acquire(pool, bytes) == Reservation::Granted;
        granted.then(|| Credit { memory: Rc::clone(self), pool, bytes })
    }

    fn line_up(&self) -> Turn<'_> {
        let ticket = self.tickets.get();
        self.tickets.set(ticket + 1);
        self.line.borrow_mut().push_back(ticket);
        Turn { memory: self, ticket }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.memory.line.borrow_mut().retain(|ticket| *ticket != self.ticket);
        self.memory.freed.ring();
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.memory.budget.borrow_mut().release(self.pool, self.bytes);
        self.memory.freed.ring();
    }
}

/// Bytes beside the budget that tasks of one shard may hold together. What is larger than all of it goes alone.
#[derive(Default)]
pub(crate) struct Allowance {
    used_bytes: Cell<usize>,
    freed: Bell,
}

/// Bytes of an allowance; given back when dropped. Who holds one never waits for more.
pub(crate) struct Allowed {
    allowance: Rc<Allowance>,
    bytes: usize,
}

impl Allowance {
    const BYTES_MAX: usize = 16 << 20;

    pub(crate) async fn take(self: &Rc<Self>, bytes: usize) -> Allowed {
        let fits = || match self.used_bytes.get() {
            0 => true,
            used => used.saturating_add(bytes) <= Allowance::BYTES_MAX,
        };
        self.freed.until(fits).await;
        self.used_bytes.set(self.used_bytes.get().saturating_add(bytes));
        Allowed { allowance: Rc::clone(self), bytes }
    }
}

impl Allowed {
    /// Gives back what was not needed.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.give_back(self.bytes.saturating_sub(bytes));
        self.bytes = self.bytes.min(bytes);
    }

    fn give_back(&self, bytes: usize) {
        self.allowance.used_bytes.set(self.allowance.used_bytes.get() - bytes);
        self.allowance.freed.ring();
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}
