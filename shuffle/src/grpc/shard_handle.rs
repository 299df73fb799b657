//! The way from the control thread to a shard: work that runs there, and its answer.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Status;
use watershed_core::io::executor::spawn;
use watershed_core::io::notify::{ThreadSender, answer};

use crate::server::shard::Shard;

/// Work for a shard.
pub(crate) type Job = Box<dyn FnOnce(&Rc<Shard>) + Send>;

#[derive(Clone)]
pub(crate) struct ShardHandle(ThreadSender<Job>);

impl ShardHandle {
    pub(crate) fn new(jobs: ThreadSender<Job>) -> ShardHandle {
        ShardHandle(jobs)
    }

    /// Runs `work` on the shard and waits for its value.
    pub(crate) async fn call<T, F>(&self, work: impl FnOnce(Rc<Shard>) -> F + Send + 'static) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let ended = || Status::unavailable("the shard has ended");
        let (answer, awaited) = answer();
        let job: Job = Box::new(move |shard| {
            let work = work(Rc::clone(shard));
            drop(spawn(async move { answer.send(work.await) }));
        });
        self.0.send(job).map_err(|_| ended())?;
        awaited.await.ok_or_else(ended)
    }

    /// Asks for `work` and does not wait. Whoever waits for the value of a shard that has ended gets an error.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, awaited) = oneshot::channel();
        // Nobody may wait any more.
        let job: Job = Box::new(move |shard| drop(answer.send(work(shard))));
        // A job that comes back takes its answer with it.
        drop(self.0.send(job));
        awaited
    }

    /// Whether the shard answers within `at_most`. Blocks this thread.
    pub(crate) fn pulse(&self, at_most: Duration) -> bool {
        let (answer, awaited) = answer();
        self.0.send(Box::new(move |_| answer.send(()))).is_ok() && awaited.wait(at_most).is_some()
    }
}
