//! Runs streams against a server for a while and measures what happened between warm-up and end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::connection::{Connection, Request};
use super::schedule::Schedule;
use super::{Answer, Traffic};
use crate::latency::Tally;
use crate::process::Usage;

/// A connection's work.
pub(crate) struct Stream {
    pub(crate) traffic: Box<dyn Traffic>,
    /// Requests under way at a time; an open loop has no such bound.
    pub(crate) in_flight: usize,
    /// Requests per second of all streams of this group together: an open loop.
    pub(crate) rate: Option<f64>,
    /// Whose tally this stream's answers go to.
    pub(crate) group: usize,
}

/// How long, from which core, and whose CPU time counts.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) cpu: Option<usize>,
    pub(crate) server_pid: Option<u32>,
}

/// What a run brought.
pub(crate) struct Measured {
    pub(crate) tallies: Vec<Tally>,
    pub(crate) usage: Usage,
    pub(crate) seconds: f64,
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// Runs all streams at once for the load's time; the first failure ends it.
pub(crate) fn measure(load: Load, streams: Vec<Stream>) -> Result<Measured> {
    let (phase, groups) = (AtomicU8::new(WARMING), groups_of(&streams));
    thread::scope(|scope| {
        let running = start(scope, load, streams, &phase);
        let outcome = watch(load, &phase, &running);
        phase.store(ENDING, Ordering::Relaxed);
        let tallies = join(running.threads, groups)?;
        let (usage, seconds) = outcome?;
        Ok(Measured { tallies, usage, seconds })
    })
}

/// Runs all streams until their traffic ends by itself, and counts everything.
pub(crate) fn once(load: Load, streams: Vec<Stream>) -> Result<Measured> {
    let (phase, groups) = (AtomicU8::new(MEASURING), groups_of(&streams));
    thread::scope(|scope| {
        let (began, before) = (Instant::now(), usage(load)?);
        let running = start(scope, load, streams, &phase);
        let tallies = join(running.threads, groups)?;
        Ok(Measured { tallies, usage: usage(load)?.since(before), seconds: began.elapsed().as_secs_f64() })
    })
}

struct Running<'scope> {
    threads: Vec<(usize, thread::ScopedJoinHandle<'scope, Result<Tally>>)>,
    /// Hears of each stream that ends.
    ends: mpsc::Receiver<()>,
}

fn groups_of(streams: &[Stream]) -> usize {
    streams.iter().map(|stream| stream.group + 1).max().unwrap_or(0)
}

fn start<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    load: Load,
    streams: Vec<Stream>,
    phase: &'scope AtomicU8,
) -> Running<'scope> {
    let (tell, ends) = mpsc::channel();
    let mut schedules: Vec<Option<Schedule>> = Vec::new();
    let began = Instant::now();
    for (index, stream) in streams.iter().enumerate() {
        let siblings = || streams.iter().enumerate().filter(|(_, other)| other.group == stream.group);
        let place = siblings().take_while(|(other, _)| *other < index).count();
        schedules.push(stream.rate.map(|rate| Schedule::new(began, rate, place, siblings().count())));
    }
    let body = |stream: Stream, schedule, tell: mpsc::Sender<()>| {
        move || {
            let tally = run_stream(load, stream, schedule, phase);
            let _ = tell.send(());
            tally
        }
    };
    let spawn = |(stream, schedule): (Stream, _)| (stream.group, scope.spawn(body(stream, schedule, tell.clone())));
    Running { threads: streams.into_iter().zip(schedules).map(spawn).collect(), ends }
}

fn join(threads: Vec<(usize, thread::ScopedJoinHandle<'_, Result<Tally>>)>, groups: usize) -> Result<Vec<Tally>> {
    let mut tallies = vec![Tally::default(); groups];
    for (group, thread) in threads {
        let tally = thread.join().map_err(|_| anyhow!("a generator thread panicked"))??;
        if let Some(sum) = tallies.get_mut(group) {
            sum.merge(&tally);
        }
    }
    Ok(tallies)
}

/// Warms up, measures, and stops early if a stream ends by itself.
fn watch(load: Load, phase: &AtomicU8, running: &Running<'_>) -> Result<(Usage, f64)> {
    let _ = running.ends.recv_timeout(load.warm_up);
    let (began, before) = (Instant::now(), usage(load)?);
    phase.store(MEASURING, Ordering::Relaxed);
    let _ = running.ends.recv_timeout(load.duration);
    phase.store(ENDING, Ordering::Relaxed);
    Ok((usage(load)?.since(before), began.elapsed().as_secs_f64()))
}

fn usage(load: Load) -> Result<Usage> {
    load.server_pid.map_or(Ok(Usage::default()), Usage::of)
}

fn run_stream(load: Load, stream: Stream, schedule: Option<Schedule>, phase: &AtomicU8) -> Result<Tally> {
    pin(load.cpu)?;
    let connection = Connection::open(load.target)?;
    match schedule {
        Some(schedule) => open_loop(connection, stream.traffic, schedule, load, phase),
        None => closed_loop(connection, stream, phase),
    }
}

/// Pins this thread to a core, if one is given.
pub(crate) fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(id) = cpu else {
        return Ok(());
    };
    let core = core_affinity::CoreId { id };
    let allowed = core_affinity::get_core_ids().unwrap_or_default().contains(&core);
    (allowed && core_affinity::set_for_current(core)).then_some(()).with_context(|| format!("cannot use CPU {id}"))
}

/// Keeps `in_flight` requests under way; answers that are here together are followed by as many requests together.
fn closed_loop(mut connection: Connection, mut stream: Stream, phase: &AtomicU8) -> Result<Tally> {
    let (mut tally, mut sent) = (Tally::default(), VecDeque::new());
    let mut requests: Vec<Request> = Vec::new();
    loop {
        while phase.load(Ordering::Relaxed) != ENDING && sent.len() + requests.len() < stream.in_flight.max(1) {
            let Some(request) = stream.traffic.request() else { break };
            requests.push(request);
        }
        if !requests.is_empty() {
            let now = Instant::now();
            sent.extend(requests.iter().map(|_| now));
            connection.send(&requests)?;
            requests.clear();
        }
        if sent.is_empty() {
            return Ok(tally);
        }
        connection.wait_for_frame()?;
        let now = Instant::now();
        while let Some(frame) = connection.next_frame()? {
            let due = sent.pop_front().context("an answer to no request")?;
            count(&mut tally, stream.traffic.answer(frame)?, due, now, phase);
        }
    }
}

fn count(tally: &mut Tally, answer: Answer, due: Instant, now: Instant, phase: &AtomicU8) {
    if phase.load(Ordering::Relaxed) == MEASURING && !answer.is_empty {
        tally.complete(answer.bytes, now.saturating_duration_since(answer.began.unwrap_or(due)));
    }
}

/// What the two threads of an open loop share.
struct Open {
    state: Mutex<OpenState>,
    changed: Condvar,
}

struct OpenState {
    traffic: Box<dyn Traffic>,
    due: VecDeque<Instant>,
    has_ended: bool,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, OpenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends when it is due, whatever is still unanswered; another thread takes the answers.
fn open_loop(
    mut connection: Connection,
    traffic: Box<dyn Traffic>,
    mut schedule: Schedule,
    load: Load,
    phase: &AtomicU8,
) -> Result<Tally> {
    let mut sender = connection.sender()?;
    let state = OpenState { traffic, due: VecDeque::new(), has_ended: false };
    let open = Open { state: Mutex::new(state), changed: Condvar::new() };
    thread::scope(|scope| {
        let answers = scope.spawn(|| {
            pin(load.cpu)?;
            take_answers(&mut connection, &open, phase)
        });
        let sent = send_on_schedule(&mut sender, &open, &mut schedule, phase);
        open.lock().has_ended = true;
        open.changed.notify_all();
        let tally = answers.join().map_err(|_| anyhow!("a generator thread panicked"))??;
        sent.map(|()| tally)
    })
}

fn send_on_schedule(sender: &mut Connection, open: &Open, schedule: &mut Schedule, phase: &AtomicU8) -> Result<()> {
    while phase.load(Ordering::Relaxed) != ENDING {
        let due = schedule.next_due();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = {
            let mut state = open.lock();
            let Some(request) = state.traffic.request() else { break };
            state.due.push_back(due);
            request
        };
        open.changed.notify_one();
        sender.send(&[request])?;
    }
    Ok(())
}

fn take_answers(connection: &mut Connection, open: &Open, phase: &AtomicU8) -> Result<Tally> {
    let mut tally = Tally::default();
    while wait_for_request(open) {
        connection.wait_for_frame()?;
        let now = Instant::now();
        while let Some(frame) = connection.next_frame()? {
            let mut state = open.lock();
            let due = state.due.pop_front().context("an answer to no request")?;
            count(&mut tally, state.traffic.answer(frame)?, due, now, phase);
        }
    }
    Ok(tally)
}

/// Waits until a request is unanswered; false if none will be.
fn wait_for_request(open: &Open) -> bool {
    let state = open.lock();
    let idle = |state: &mut OpenState| state.due.is_empty() && !state.has_ended;
    let state = open.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
    !state.due.is_empty()
}
