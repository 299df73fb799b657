//! Permits: so many things at a time, first come, first served, on one core.
//!
//! Whoever needs several takes them at once, so that no two wait for what the other holds.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use watershed_core::io::bell::Bell;

pub(crate) struct Permits {
    total: usize,
    free: Cell<usize>,
    line: RefCell<VecDeque<u64>>,
    next: Cell<u64>,
    changed: Bell,
}

/// Permits that are held; given back when dropped.
pub(crate) struct Held<'a> {
    permits: &'a Permits,
    count: usize,
}

/// A place in the line; left when dropped.
struct Place<'a> {
    permits: &'a Permits,
    number: u64,
}

impl Permits {
    pub(crate) fn new(total: usize) -> Permits {
        Permits {
            total,
            free: Cell::new(total),
            line: RefCell::default(),
            next: Cell::new(0),
            changed: Bell::default(),
        }
    }

    /// Waits in line for `count`. Who wants more than there are takes all, and is alone.
    pub(crate) async fn take(&self, count: usize) -> Held<'_> {
        let count = count.min(self.total);
        let number = self.next.get();
        self.next.set(number + 1);
        self.line.borrow_mut().push_back(number);
        let place = Place { permits: self, number };
        self.changed.until(|| self.line.borrow().front() == Some(&place.number) && self.free.get() >= count).await;
        self.free.set(self.free.get() - count);
        Held { permits: self, count }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.permits.line.borrow_mut().retain(|number| *number != self.number);
        self.permits.changed.ring();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.permits.free.set(self.permits.free.get() + self.count);
        self.permits.changed.ring();
    }
}
