//! Flushes of a directory's names, shared by all who made one: a flush serves every name that was there when it began.
//!
//! Never reports a name durable after a failed flush: whoever waits then, waits for ever, and the shard has failed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::PathBuf;
use std::task::{Poll, Waker};

use super::file;
use crate::error::Fault;

pub(super) struct Names {
    directory: PathBuf,
    begun_count: Cell<u64>,
    done_count: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Names {
    pub(super) fn new(directory: PathBuf) -> Names {
        Names { directory, begun_count: Cell::new(0), done_count: Cell::new(0), waiters: RefCell::default() }
    }

    /// Ends when every name made before this call is durable.
    pub(super) async fn flush(&self) -> Result<(), Fault> {
        let serves = self.begun_count.get() + 1;
        while self.done_count.get() < serves {
            if self.begun_count.get() == self.done_count.get() {
                self.begun_count.set(self.begun_count.get() + 1);
                file::sync_dir(&self.directory).await?;
                self.done_count.set(self.begun_count.get());
                self.waiters.borrow_mut().drain(..).for_each(Waker::wake);
            } else {
                self.one_more().await;
            }
        }
        Ok(())
    }

    /// Waits until the flush under way has ended.
    async fn one_more(&self) {
        let seen = self.done_count.get();
        poll_fn(|context| {
            if self.done_count.get() > seen {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
