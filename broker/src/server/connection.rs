//! Connections: one reader and one writer per client, on the shard that it was dealt to.
//!
//! The reader receives a request, dispatches it and goes on; the writer sends replies in the order of the requests.
//! Requests run as Kafka runs them, one after the other, but for Produce, of which several may be under way; the next one
//! is dispatched only after every part of the one before is enqueued at its owner. At most [`OUTSTANDING_MAX`] replies
//! are owed; beyond that nothing is read.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::buffers::Piece;
use watershed_core::io::executor::{self, spawn};
use watershed_core::io::socket::Stream;
use watershed_core::pipeline::{Pipeline, Ticket};

use crate::wire::apis::Api;

use super::dispatch;
use super::envelope::Envelope;
use super::frame::{Frame, Inflow};
use super::node::Node;
use super::phases::Timeline;
use super::quotas::measured;
use super::response::Response;
use watershed_core::io::bell::Bell;

/// Replies that one connection may be owed.
const OUTSTANDING_MAX: usize = 64;

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) node: Rc<Node>,
    pub(crate) stream: Stream,
    replies: RefCell<Pipeline<Owed>>,
    /// Requests that run: produces, and others.
    running: Cell<(usize, usize)>,
    /// The client is gone or was turned away: replies have no one to go to.
    gone: Cell<bool>,
    /// The reader has ended: no request follows.
    ended: Cell<bool>,
    /// Rings when any of the above changes.
    pub(crate) changed: Bell,
    /// When bytes last came or went; for the sweep.
    pub(crate) active_us: Cell<u64>,
    /// Until when the request that is being received has to be complete; for the sweep.
    pub(crate) receive_until_us: Cell<Option<u64>>,
    /// No request is begun before: a quota was used up.
    muted_until_us: Cell<u64>,
    /// When the last request that was to be kept waiting was answered.
    kept_until_us: Cell<u64>,
    /// As the client's ApiVersions says: for the log, when it misbehaves.
    pub(crate) software: RefCell<Option<Box<str>>>,
}

/// What a request comes to.
pub(crate) enum Answer {
    Send(Response),
    /// Nothing may be said: the connection ends, which is how a produce without acks learns of its failure.
    Close(String),
}

/// An answer on its way, and where its time went if it had a handler.
struct Owed {
    answer: Answer,
    timeline: Option<Timeline>,
}

/// All that one send takes along.
#[derive(Default)]
struct Gathered {
    pieces: Vec<Piece>,
    timelines: Vec<Timeline>,
    /// Why the connection ends behind it.
    closes: Option<String>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client closed it")]
    Closed,
    #[error("it failed: {0}")]
    Failed(String),
    #[error("{0}")]
    Refused(String),
}

/// Takes a client's connection and serves it until it ends.
pub(crate) fn serve(node: &Rc<Node>, stream: Stream) {
    if node.closing.get() {
        return;
    }
    let connection = Rc::new(Connection {
        id: node.next_token(),
        node: Rc::clone(node),
        stream,
        replies: RefCell::new(Pipeline::new(OUTSTANDING_MAX)),
        running: Cell::default(),
        gone: Cell::new(false),
        ended: Cell::new(false),
        changed: Bell::default(),
        active_us: Cell::new(node.now_us()),
        receive_until_us: Cell::new(None),
        muted_until_us: Cell::new(0),
        kept_until_us: Cell::new(0),
        software: RefCell::default(),
    });
    node.connections.borrow_mut().insert(connection.id, Rc::clone(&connection));
    node.count(|metrics| {
        metrics.connections_accepted += 1;
        metrics.connections_open += 1;
    });
    spawn(read(Rc::clone(&connection)));
    spawn(write(connection));
}

async fn read(connection: Rc<Connection>) {
    let mut inflow = Inflow::new(&connection);
    let end = loop {
        if let Err(end) = next(&connection, &mut inflow).await {
            break end;
        }
    };
    match end {
        // A server that drains closes what it reads from itself, and still answers.
        End::Closed if !connection.node.closing.get() => connection.abandon(),
        End::Failed(why) if !connection.node.closing.get() => {
            tracing::debug!(client = %connection.stream.peer(), why, "a connection failed");
            connection.abandon();
        }
        End::Closed | End::Failed(_) => {}
        End::Refused(why) => connection.refused(&why),
    }
    connection.ended.set(true);
    connection.changed.ring();
}

/// Receives one request and starts it.
async fn next(connection: &Rc<Connection>, inflow: &mut Inflow) -> Result<(), End> {
    connection.until(|| connection.owed() < OUTSTANDING_MAX).await?;
    let frame = inflow.next().await?;
    match dispatch::open(connection, &frame)? {
        dispatch::Opened::Request(envelope) => start(connection, envelope, frame).await,
        dispatch::Opened::Answered(response) => {
            connection.until(|| connection.running.get() == (0, 0)).await?;
            let ticket = connection.begin();
            connection.finish(ticket, Some(Owed { answer: Answer::Send(response), timeline: None }));
            Ok(())
        }
    }
}

/// Starts a request when its turn has come. Returns once the next one may be looked at.
async fn start(connection: &Rc<Connection>, mut envelope: Envelope, frame: Frame<'_>) -> Result<(), End> {
    let is_produce = envelope.api == Api::Produce;
    let has_turn = || match connection.running.get() {
        (_, 0) if is_produce => true,
        (produces, others) => produces + others == 0,
    };
    connection.until(has_turn).await?;
    // What it waited for its quota, or behind a request that was to be kept waiting, is not held against it.
    envelope.received_us = envelope.received_us.max(connection.kept_until_us.get());
    if connection.unmuted().await? {
        envelope.received_us = connection.node.now_us();
    }
    let usage = envelope.usage.clone();
    let mut timeline = Timeline::begin(envelope, connection.node.now_us());
    let starting = dispatch::start(connection, timeline.envelope(), frame);
    let work = measured(usage.as_deref(), starting).await?;
    timeline.enqueued(connection.node.now_us());
    let ticket = connection.begin();
    let connection = Rc::clone(connection);
    connection.run(is_produce, 1);
    spawn(async move {
        let answer = measured(usage.as_deref(), work).await;
        connection.mute(usage.as_ref().map_or(0, |usage| usage.throttle_ms()));
        timeline.answered(&connection.node, answer.as_ref());
        if timeline.was_parked() {
            connection.kept_until_us.set(connection.node.now_us());
        }
        connection.run(is_produce, -1);
        connection.finish(ticket, answer.map(|answer| Owed { answer, timeline: Some(timeline) }));
    });
    Ok(())
}

async fn write(connection: Rc<Connection>) {
    while let Some(first) = connection.next_answer().await {
        let Gathered { pieces, timelines, closes } = connection.gather(first);
        let sent = connection.send(pieces).await;
        connection.sent(&timelines);
        match (sent, closes) {
            (Ok(()), None) => connection.changed.ring(),
            (Ok(()), Some(why)) => connection.turn_away(&why),
            (Err(_), _) => connection.abandon(),
        }
    }
    connection.stream.shutdown(Shutdown::Both);
    let node = &connection.node;
    node.connections.borrow_mut().remove(&connection.id);
    node.count(|metrics| metrics.connections_open -= 1);
    node.changed.ring();
}

impl Connection {
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Ends the connection without sending what is owed.
    pub(crate) fn abandon(&self) {
        self.gone.set(true);
        self.stream.shutdown(Shutdown::Both);
        self.changed.ring();
    }

    /// Reads no further request; what runs is still answered.
    pub(crate) fn drain(&self) {
        self.stream.shutdown(Shutdown::Read);
        self.changed.ring();
    }

    /// Whether a request has been arriving for too long.
    pub(crate) fn is_late(&self, now_us: u64) -> bool {
        self.receive_until_us.get().is_some_and(|until_us| now_us > until_us)
    }

    /// Whether nothing came or went for longer than allowed, while nothing runs.
    pub(crate) fn is_idle(&self, now_us: u64) -> bool {
        let idle_us = now_us.saturating_sub(self.active_us.get());
        self.running.get() == (0, 0)
            && now_us >= self.muted_until_us.get()
            && self.node.idle_us_max.is_some_and(|max_us| idle_us > max_us)
    }

    /// Ends the connection with a word in the log.
    pub(crate) fn turn_away(&self, why: &str) {
        self.refused(why);
        self.abandon();
    }

    /// Logs what a client did, with the software that it named.
    pub(crate) fn warn(&self, what: &str) {
        let (client, software) = (self.stream.peer(), self.software.borrow());
        tracing::warn!(%client, software = ?software, "{what}");
    }

    fn refused(&self, why: &str) {
        self.warn(&format!("a connection was closed: {why}"));
        self.node.count(|metrics| metrics.connections_refused += 1);
    }

    /// Waits until `done`, or ends with the connection.
    pub(crate) async fn until(&self, mut done: impl FnMut() -> bool) -> Result<(), End> {
        self.changed.until(|| self.is_gone() || done()).await;
        match self.is_gone() {
            true => Err(End::Closed),
            false => Ok(()),
        }
    }

    /// Begins no request for as long, counted from now.
    fn mute(&self, throttle_ms: u32) {
        let throttle_us = u64::from(throttle_ms) * 1000;
        if throttle_us > 0 {
            let until_us = self.node.now_us() + throttle_us;
            self.muted_until_us.set(self.muted_until_us.get().max(until_us));
            self.node.count(|metrics| {
                metrics.throttled_requests += 1;
                metrics.throttled_us += throttle_us;
            });
        }
    }

    /// Waits until it is not muted, or until the broker ends. Returns whether it had to.
    pub(super) async fn unmuted(&self) -> Result<bool, End> {
        let mut has_waited = false;
        loop {
            let rest_us = self.muted_until_us.get().saturating_sub(self.node.now_us());
            if rest_us == 0 || self.node.closing.get() {
                return Ok(has_waited);
            }
            has_waited = true;
            let until = executor::now() + Duration::from_micros(rest_us);
            executor::until(until, self.until(|| self.node.closing.get())).await.transpose()?;
        }
    }

    fn owed(&self) -> usize {
        self.replies.borrow().outstanding_count()
    }

    fn begin(&self) -> Ticket {
        let ticket = self.replies.borrow_mut().begin();
        ticket.expect("the reader waits while too many replies are owed")
    }

    fn finish(&self, ticket: Ticket, owed: Option<Owed>) {
        self.replies.borrow_mut().finish(ticket, owed);
        self.changed.ring();
    }

    fn run(&self, is_produce: bool, change: isize) {
        let (produces, others) = self.running.get();
        let changed = |count: usize| count.saturating_add_signed(change);
        self.running.set(match is_produce {
            true => (changed(produces), others),
            false => (produces, changed(others)),
        });
    }

    /// The next reply in order; `None` when no more will come or no one waits for it.
    async fn next_answer(&self) -> Option<Owed> {
        loop {
            let count = self.changed.count();
            if self.is_gone() {
                return None;
            }
            let next = self.replies.borrow_mut().next_ready();
            if next.is_some() {
                return next;
            }
            if self.ended.get() && self.replies.borrow().is_idle() {
                return None;
            }
            self.changed.after(count).await;
        }
    }

    /// All answers whose turn has come, for one send.
    fn gather(&self, first: Owed) -> Gathered {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(Owed { answer, timeline }) = next {
            gathered.timelines.extend(timeline);
            match answer {
                Answer::Send(response) => gathered.pieces.extend(response.pieces),
                Answer::Close(why) => {
                    gathered.closes = Some(why);
                    return gathered;
                }
            }
            next = self.replies.borrow_mut().next_ready();
        }
        gathered
    }

    /// The socket has taken these answers.
    fn sent(&self, timelines: &[Timeline]) {
        for timeline in timelines {
            if let Some(slow) = timeline.sent(&self.node) {
                let (client, software) = (self.stream.peer(), self.software.borrow());
                slow.log(&client, software.as_deref());
            }
        }
    }

    async fn send(&self, pieces: Vec<Piece>) -> Result<(), Fault> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let sent = self.stream.send_all(pieces).await;
        self.active_us.set(self.node.now_us());
        self.node.count(|metrics| metrics.sent_bytes += bytes as u64);
        sent
    }
}
