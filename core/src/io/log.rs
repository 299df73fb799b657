//! Logs as ordinary threads use them: a handle that sends calls to the shard of one partition, and the shard's end of it.
//!
//! Owns the order of one handle's appends and the bytes that may be under way to a shard; never touches a shard's state but
//! through [`Shard`]. An append is answered when it is durable. A call whose shard has ended is answered by an error, never
//! by silence.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::arena::Lent;
use super::executor;
use super::lock;
use super::notify::{Answer, Awaiting, ThreadReceiver, ThreadSender, answer, thread_channel};
use super::shard::{Appended, LogState, Shard, Until};
use crate::batch::{BatchHeader, MAGIC, checksum_fits};
use crate::error::{Fault, Refusal};
use crate::limits::BATCH_BYTES_MAX;
use crate::partition::LogSettings;
use crate::units::TopicPartition;

/// Bytes of appends that may be under way to one shard: what is beyond waits in its caller's thread.
const UNDER_WAY_BYTES_MAX: usize = 64 << 20;
/// Longer than any process lives.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Why a call to a log failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error("{log}: {refusal:?}")]
    Refused { log: String, refusal: Refusal },
    #[error("{log}: {what}")]
    BadBatch { log: String, what: &'static str },
    /// Damage, or an I/O error, at the place that it names.
    #[error("{log}: {fault}")]
    Fault { log: String, fault: Fault },
    /// The shard was closed or has failed: whoever opened it knows why.
    #[error("{log}: its shard has ended")]
    Ended { log: String },
}

enum Call {
    Append { at: TopicPartition, batch: Vec<u8>, under_way: UnderWay, answer: Answer<Result<Appended, Refusal>> },
    Read { at: TopicPartition, offset: i64, bytes_max: u32, answer: Answer<Result<Vec<Lent>, Unread>> },
    State { at: TopicPartition, answer: Answer<Result<LogState, Refusal>> },
    Await { at: TopicPartition, offset: i64, until: Instant, answer: Answer<Result<i64, Refusal>> },
    Assign { at: TopicPartition, settings: LogSettings, answer: Answer<()> },
    Drop { at: TopicPartition, answer: Answer<bool> },
    Held(Answer<Vec<TopicPartition>>),
    Stop,
}

enum Unread {
    Refused(Refusal),
    Fault(Fault),
}

/// Sends to the logs of one shard from any thread.
#[derive(Clone)]
pub struct LogSender {
    calls: ThreadSender<Call>,
    room: Arc<Room>,
}

/// The shard's end; give it to [`LogCalls::serve`] on the shard.
pub struct LogCalls(ThreadReceiver<Call>);

/// The two ends for one shard.
pub fn log_calls() -> (LogSender, LogCalls) {
    let (calls, received) = thread_channel();
    (LogSender { calls, room: Arc::default() }, LogCalls(received))
}

impl LogSender {
    /// The partition's log, under the name that errors call it by.
    pub fn log(&self, at: TopicPartition, name: &str) -> Log {
        Log { at, name: name.into(), shard: self.clone() }
    }

    pub(super) fn assign(&self, at: TopicPartition, settings: LogSettings) -> Option<()> {
        self.ask(|answer| Call::Assign { at, settings, answer }).wait(FOR_EVER)
    }

    pub(super) fn drop_log(&self, at: TopicPartition) -> Option<bool> {
        self.ask(|answer| Call::Drop { at, answer }).wait(FOR_EVER)
    }

    pub(super) fn held(&self) -> Option<Vec<TopicPartition>> {
        self.ask(Call::Held).wait(FOR_EVER)
    }

    pub(super) fn stop(&self) {
        // A shard that has ended needs no order.
        let _ = self.calls.send(Call::Stop);
    }

    /// If the shard has ended, the call comes back and is dropped with its answer, which tells the asker.
    fn ask<T: Send>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Awaiting<T> {
        let (answer, awaiting) = answer();
        drop(self.calls.send(call(answer)));
        awaiting
    }
}

/// One partition's log. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Log {
    at: TopicPartition,
    name: Arc<str>,
    shard: LogSender,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.at.partition)
    }
}

impl Log {
    pub fn topic_partition(&self) -> TopicPartition {
        self.at
    }

    /// Appends one whole record batch, as a Kafka producer sends it, and waits until it is durable.
    pub fn append(&self, batch: Vec<u8>) -> Result<Appended, LogError> {
        self.begin_append(batch)?.wait()
    }

    /// The same without the wait: the batch has its place behind those that this thread appended before. Waits only while
    /// too many bytes are under way to the shard.
    pub fn begin_append(&self, batch: Vec<u8>) -> Result<Pending<Appended>, LogError> {
        check(&batch).map_err(|what| LogError::BadBatch { log: self.to_string(), what })?;
        let (at, under_way) = (self.at, Room::take(&self.shard.room, batch.len()));
        let awaiting = self.shard.ask(|answer| Call::Append { at, batch, under_way, answer });
        Ok(Pending { awaiting, log: self.clone() })
    }

    /// Whole batches from the one that holds `offset` on, at most about `bytes_max` bytes; the first is whole whatever its
    /// size. Empty at the end of the log.
    pub fn read(&self, offset: i64, bytes_max: u32) -> Result<Vec<u8>, LogError> {
        let at = self.at;
        let read = self.shard.ask(|answer| Call::Read { at, offset, bytes_max, answer }).wait(FOR_EVER);
        match read.ok_or_else(|| self.ended())? {
            Ok(lent) => Ok(lent.iter().fold(Vec::new(), |mut bytes, part| {
                bytes.extend_from_slice(part);
                bytes
            })),
            Err(Unread::Refused(refusal)) => Err(self.refused(refusal)),
            Err(Unread::Fault(fault)) => Err(LogError::Fault { log: self.to_string(), fault }),
        }
    }

    /// The log's ends as they are now.
    pub fn state(&self) -> Result<LogState, LogError> {
        let at = self.at;
        let state = self.shard.ask(|answer| Call::State { at, answer }).wait(FOR_EVER);
        state.ok_or_else(|| self.ended())?.map_err(|refusal| self.refused(refusal))
    }

    /// Waits until there is a record at `offset` or behind it, but not longer than `at_most`. Gives the offset up to which
    /// there are records.
    pub fn await_offset(&self, offset: i64, at_most: Duration) -> Result<i64, LogError> {
        let (at, until) = (self.at, Instant::now() + at_most.min(FOR_EVER));
        let state = self.shard.ask(|answer| Call::Await { at, offset, until, answer }).wait(FOR_EVER);
        state.ok_or_else(|| self.ended())?.map_err(|refusal| self.refused(refusal))
    }

    fn refused(&self, refusal: Refusal) -> LogError {
        LogError::Refused { log: self.to_string(), refusal }
    }

    fn ended(&self) -> LogError {
        LogError::Ended { log: self.to_string() }
    }
}

/// An append under way: a future for tasks of any executor, or a blocking wait for a thread.
pub struct Pending<T> {
    awaiting: Awaiting<Result<T, Refusal>>,
    log: Log,
}

impl<T> Pending<T> {
    /// Blocks this thread until the answer is there.
    pub fn wait(self) -> Result<T, LogError> {
        let Pending { awaiting, log } = self;
        answered(awaiting.wait(FOR_EVER), &log)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.awaiting).poll(context);
        answer.map(|answer| answered(answer, &self.log))
    }
}

fn answered<T>(answer: Option<Result<T, Refusal>>, log: &Log) -> Result<T, LogError> {
    answer.ok_or_else(|| log.ended())?.map_err(|refusal| log.refused(refusal))
}

/// What the log relies on in a batch that comes from a program instead of a client's request.
fn check(batch: &[u8]) -> Result<(), &'static str> {
    let header = BatchHeader::parse(batch).ok_or("there is no record batch")?;
    if header.magic != MAGIC || header.bytes as usize != batch.len() || header.bytes > BATCH_BYTES_MAX {
        return Err("it is not one whole batch of magic 2 and at most 32 MiB");
    }
    if header.records_count < 1 || header.records_count.checked_sub(1) != Some(header.last_offset_delta) {
        return Err("its number of records does not fit its last offset");
    }
    if header.is_control() || header.is_transactional() {
        return Err("control batches and transactions are the broker's own");
    }
    checksum_fits(batch, &header).then_some(()).ok_or("its checksum does not fit")
}

/// Bytes under way to one shard.
#[derive(Default)]
struct Room {
    used_bytes: Mutex<usize>,
    freed: Condvar,
}

struct UnderWay {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Waits for room. A batch that is larger than all of it goes alone.
    fn take(room: &Arc<Room>, bytes: usize) -> UnderWay {
        let mut used = lock(&room.used_bytes);
        while *used > 0 && used.saturating_add(bytes) > UNDER_WAY_BYTES_MAX {
            used = room.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used = used.saturating_add(bytes);
        UnderWay { room: Arc::clone(room), bytes }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *lock(&self.room.used_bytes) -= self.bytes;
        self.room.freed.notify_all();
    }
}

impl LogCalls {
    /// Serves the calls on the shard's own thread until it is told to stop; what is under way then is answered first.
    /// `append` puts a checked batch into the shard's log, or refuses it by what whoever serves asks of batches.
    pub async fn serve(self, shard: Shard, append: impl Fn(TopicPartition, &[u8]) -> Result<Appended, Refusal>) {
        let answering = Rc::new(Answering::default());
        while let Some(call) = self.0.recv().await {
            match call {
                Call::Append { at, batch, under_way, answer } => {
                    shard.room().await;
                    let appended = append(at, &batch);
                    drop((batch, under_way));
                    answering.spawn(durably(shard.clone(), at, appended, answer));
                }
                Call::Read { at, offset, bytes_max, answer } => {
                    let shard = shard.clone();
                    answering.spawn(async move { answer.send(read(&shard, at, offset, bytes_max).await) });
                }
                Call::State { at, answer } => answer.send(shard.state(at)),
                Call::Await { at, offset, until, answer } => {
                    drop(executor::spawn(await_offset(shard.clone(), at, offset, until, answer)));
                }
                Call::Assign { at, settings, answer } => {
                    let (stamp, shard) = (shard.assign(at, settings), shard.clone());
                    answering.spawn(async move {
                        shard.durable(stamp).await;
                        answer.send(());
                    });
                }
                Call::Drop { at, answer } => {
                    let (stamp, shard) = (shard.drop_partition(at), shard.clone());
                    answering.spawn(async move {
                        if let Some(stamp) = stamp {
                            shard.durable(stamp).await;
                        }
                        answer.send(stamp.is_some());
                    });
                }
                Call::Held(answer) => answer.send(shard.partitions()),
                Call::Stop => break,
            }
        }
        answering.all().await;
    }
}

/// Counts the tasks that still owe an answer.
#[derive(Default)]
struct Answering {
    count: Cell<usize>,
    waiting: Cell<Option<Waker>>,
}

impl Answering {
    fn spawn(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) {
        let owing = Rc::clone(self);
        self.count.set(self.count.get() + 1);
        drop(executor::spawn(async move {
            work.await;
            owing.count.set(owing.count.get() - 1);
            super::wake(owing.waiting.take());
        }));
    }

    async fn all(&self) {
        poll_fn(|context| match self.count.get() {
            0 => Poll::Ready(()),
            _ => {
                self.waiting.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await;
    }
}

/// A refusal waits as well: it may be computed from a batch that is not durable yet.
async fn durably(
    shard: Shard,
    at: TopicPartition,
    appended: Result<Appended, Refusal>,
    answer: Answer<Result<Appended, Refusal>>,
) {
    let stamp = appended.as_ref().map_or_else(|_| shard.last_stamp(at), |appended| appended.stamp);
    shard.durable(stamp).await;
    answer.send(appended);
}

async fn read(shard: &Shard, at: TopicPartition, offset: i64, bytes_max: u32) -> Result<Vec<Lent>, Unread> {
    let plan = shard.plan_read(at, offset, bytes_max, Until::HighWatermark).map_err(Unread::Refused)?;
    let slices = shard.read(plan).await.map_err(Unread::Fault)?;
    Ok(slices.iter().map(super::arena::Slice::lend).collect())
}

async fn await_offset(
    shard: Shard,
    at: TopicPartition,
    offset: i64,
    until: Instant,
    answer: Answer<Result<i64, Refusal>>,
) {
    let rung = Rc::new(Cell::new(None::<Waker>));
    let ring = Rc::clone(&rung);
    let watch = shard.watch(&[at], Rc::new(move || super::wake(ring.take())));
    let end = || shard.state(at).map(|state| state.high_watermark);
    let reached = executor::until(
        until,
        poll_fn(|context| {
            let found = end();
            if found.is_err() || found.is_ok_and(|end| end > offset) {
                return Poll::Ready(());
            }
            rung.set(Some(context.waker().clone()));
            Poll::Pending
        }),
    );
    // Whether in time or not, the answer is what is there now.
    let _ = reached.await;
    shard.unwatch(watch);
    answer.send(end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::BatchWriter;

    #[test]
    fn only_whole_sound_batches_are_taken() {
        let mut writer = BatchWriter::new(0);
        assert!(check(&writer.clone().build()).unwrap_err().contains("number of records"), "no batch is empty");
        writer.push(0, None, Some(b"value"));
        let batch = writer.build();
        assert_eq!(check(&batch), Ok(()));
        for (at, flipped, why) in [(65, 1, "checksum"), (22, 0x20, "control"), (60, 1, "records"), (16, 1, "magic")] {
            let mut bad = batch.clone();
            bad[at] ^= flipped;
            assert!(check(&bad).unwrap_err().contains(why), "{why}");
        }
        assert!(check(&batch[..20]).is_err() && check(&[batch.clone(), batch].concat()).is_err());
    }

    #[test]
    fn appends_wait_for_room() {
        let room = Arc::default();
        let first = Room::take(&room, UNDER_WAY_BYTES_MAX - 1);
        let taker = std::thread::spawn({
            let room = Arc::clone(&room);
            move || drop(Room::take(&room, 2))
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!taker.is_finished());
        drop(first);
        taker.join().unwrap();
        assert_eq!(*lock(&room.used_bytes), 0);
        drop(Room::take(&room, UNDER_WAY_BYTES_MAX + 1));
    }

    #[test]
    fn a_log_whose_shard_is_gone_says_so() {
        let (sender, calls) = log_calls();
        drop(calls);
        let log = sender.log(TopicPartition::default(), "rivers");
        let error = log.state().unwrap_err();
        assert_eq!(error.to_string(), "rivers-0: its shard has ended");
    }
}
