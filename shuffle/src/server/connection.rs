//! A connection of the Netty plane: frames of blocks in, blocks out.
//!
//! One task receives, one sends; a request is answered as soon as it can be, in any order, as its id allows. Frames of
//! blocks pass through the window to their place and are never whole anywhere else. At most [`OWED_MAX`] replies are owed;
//! beyond that nothing is read. A frame that is not understood ends the connection, since nothing behind it could be.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::io::arena::{Lease, Slice};
use watershed_core::io::bell::Bell;
use watershed_core::io::buffers::Piece;
use watershed_core::io::executor::{now, spawn, until};
use watershed_core::io::socket::Stream;

use super::arrival::{Arrival, Unsound};
use super::reads::{Asked, InMemory, ReadError};
use super::shard::{Shard, count};
use super::window::{End, Window};
use crate::store::{BlockHead, Refusal};
use crate::wire::bitmap::{BitmapError, attempt_filter};
use crate::wire::frame::{FrameError, FrameHeader, FrameType, HEADER_BYTES};
use crate::wire::reader::WireError;
use crate::wire::reply::{Answer, MemorySegment};
use crate::wire::request::{LocalShuffleData, LocalShuffleIndex, MemoryShuffleData, Request};
use crate::wire::send::{self, Event, SendParser, Want};
use crate::wire::status::StatusCode;

/// What a connection receives into between frames of blocks,
const IDLE_WINDOW_BYTES: usize = 4 << 10;
/// and within one.
const WINDOW_BYTES: usize = 64 << 10;
/// Replies that one connection may be owed.
const OWED_MAX: usize = 8;
/// A client's send group has 16 MB by default; a block of any size may be larger.
const SEND_BYTES_MAX: u32 = 1 << 30;
/// A client that takes nothing of a reply for so long is gone.
const SEND_TIME_MAX: Duration = Duration::from_secs(120);

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    End(#[from] End),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Bitmap(#[from] BitmapError),
}

/// What a client is owed and is sent.
struct Replies {
    stream: Stream,
    queue: RefCell<VecDeque<Vec<Piece>>>,
    owed: Cell<usize>,
    gone: Cell<bool>,
    changed: Bell,
}

/// A reply that is being worked out.
struct Owed(Rc<Replies>);

impl Owed {
    fn new(replies: &Rc<Replies>) -> Owed {
        replies.owed.set(replies.owed.get() + 1);
        Owed(Rc::clone(replies))
    }

    fn send(self, pieces: Vec<Piece>) {
        self.0.queue.borrow_mut().push_back(pieces);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.changed.ring();
    }
}

/// Counts a connection, as long as it is served.
struct Counted(Rc<Shard>);

impl Counted {
    fn new(shard: &Rc<Shard>) -> Counted {
        count(&shard.figures.connections, 1);
        Counted(Rc::clone(shard))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        count(&self.0.figures.connections_ended, 1);
    }
}

/// Serves a client until it leaves.
pub(crate) async fn serve(shard: Rc<Shard>, stream: Stream) {
    let _counted = Counted::new(&shard);
    let replies = Rc::new(Replies {
        stream: stream.clone(),
        queue: RefCell::default(),
        owed: Cell::new(0),
        gone: Cell::new(false),
        changed: Bell::default(),
    });
    let Some(lease) = shard.work_memory_now(IDLE_WINDOW_BYTES) else {
        tracing::warn!(peer = %stream.peer(), "a connection is turned away: too many for this memory");
        return stream.shutdown(Shutdown::Both);
    };
    drop(spawn(send_replies(Rc::clone(&replies))));
    let mut connection = Connection { shard, replies, window: Window::new(stream.clone(), lease) };
    let peer = stream.peer();
    match connection.receive().await {
        Broken::End(End::Closed) => {}
        broken => tracing::debug!(%peer, why = %broken, "a connection ends"),
    }
    connection.replies.gone.set(true);
    connection.replies.changed.ring();
    stream.shutdown(Shutdown::Both);
}

async fn send_replies(replies: Rc<Replies>) {
    while !replies.gone.get() {
        let seen = replies.changed.count();
        let next = replies.queue.borrow_mut().pop_front();
        let Some(pieces) = next else {
            replies.changed.after(seen).await;
            continue;
        };
        let sent = until(now() + SEND_TIME_MAX, replies.stream.send_all(pieces)).await;
        replies.owed.set(replies.owed.get() - 1);
        replies.changed.ring();
        if !matches!(sent, Some(Ok(()))) {
            replies.stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

struct Connection {
    shard: Rc<Shard>,
    replies: Rc<Replies>,
    window: Window,
}

impl Connection {
    async fn receive(&mut self) -> Broken {
        loop {
            if let Err(broken) = self.next_frame().await {
                return broken;
            }
        }
    }

    async fn next_frame(&mut self) -> Result<(), Broken> {
        let replies = Rc::clone(&self.replies);
        replies.changed.until(|| replies.owed.get() < OWED_MAX).await;
        self.window.fill(1).await?;
        self.window.is_amid_frame = true;
        let header = loop {
            match FrameHeader::parse_request(self.window.bytes(), SEND_BYTES_MAX)? {
                Some(header) => break header,
                None => self.window.fill(self.window.bytes().len() + 1).await?,
            }
        };
        self.window.consume(HEADER_BYTES);
        match header.frame_type {
            FrameType::SendShuffleData => {
                // Who holds a large window never waits for another.
                if self.window.capacity() < WINDOW_BYTES {
                    self.window.move_to(self.shard.work_memory(WINDOW_BYTES).await);
                }
                self.blocks(header.content_bytes).await?;
            }
            frame_type => self.request(frame_type, header.content_bytes as usize).await?,
        }
        self.window.is_amid_frame = false;
        // What follows may have come along: then the next frame finds the large window.
        if self.window.capacity() > IDLE_WINDOW_BYTES
            && self.window.bytes().len() <= IDLE_WINDOW_BYTES
            && let Some(small) = self.shard.work_memory_now(IDLE_WINDOW_BYTES)
        {
            self.window.move_to(small);
        }
        Ok(())
    }

    /// A frame of blocks. Once it is understood, it is received to its end whatever becomes of its blocks.
    async fn blocks(&mut self, content_bytes: u32) -> Result<(), Broken> {
        let owed = Owed::new(&self.replies);
        let mut parser = SendParser::new(content_bytes);
        let mut frame = Frame { shard: Rc::clone(&self.shard), request_id: 0, state: State::Head, block: None };
        loop {
            match parser.want() {
                Want::Nothing => break,
                Want::Data { bytes } => {
                    frame.data(&mut self.window, bytes).await?;
                    parser.placed(bytes);
                }
                Want::Heads { .. } => {
                    self.window.fill(1).await?;
                    let fed = parser.feed(self.window.bytes())?;
                    self.window.consume(fed.consumed);
                    if let Some(event) = fed.event {
                        frame.event(event);
                    }
                }
            }
        }
        owed.send(vec![Piece::Bytes(frame.answer())]);
        Ok(())
    }

    async fn request(&mut self, frame_type: FrameType, content_bytes: usize) -> Result<(), Broken> {
        let content = self.content(content_bytes).await?;
        let owed = Owed::new(&self.replies);
        match Request::parse(frame_type, &content)? {
            Request::Index(asked) => owed.send(index(&self.shard, &asked)),
            Request::Memory(asked) => {
                let reply = memory(&self.shard, &asked)?;
                owed.send(reply);
            }
            Request::Data(asked) => {
                let (shard, wanted) = (Rc::clone(&self.shard), Wanted::of(&asked));
                drop(spawn(async move {
                    let reply = data(&shard, &wanted).await;
                    owed.send(reply);
                }));
            }
        }
        Ok(())
    }

    /// A small request, whole.
    async fn content(&mut self, bytes: usize) -> Result<Vec<u8>, Broken> {
        let mut content = Vec::with_capacity(bytes);
        while content.len() < bytes {
            self.window.fill(1).await?;
            let here = self.window.bytes();
            let here = here.get(..here.len().min(bytes - content.len())).unwrap_or_default();
            content.extend_from_slice(here);
            let used = here.len();
            self.window.consume(used);
        }
        Ok(content)
    }
}

/// A frame of blocks as it is received.
struct Frame {
    shard: Rc<Shard>,
    request_id: i64,
    state: State,
    block: Option<Block>,
}

enum State {
    Head,
    Taking(Arrival),
    /// The rest is passed over.
    Refused(StatusCode, String),
}

struct Block {
    head: send::BlockHead,
    filled: Vec<Lease>,
}

impl Frame {
    fn event(&mut self, event: Event) {
        match event {
            Event::Begin(head) => {
                self.request_id = head.request_id;
                let begun = Arrival::begin(&self.shard, &head.app_id, head.shuffle_id, head.require_buffer_id);
                self.state = match begun {
                    Ok(arrival) => State::Taking(arrival),
                    Err(refusal) => State::Refused(status_of(refusal), refusal.to_string()),
                };
            }
            Event::Block(head) => self.block = Some(Block { head, filled: Vec::new() }),
            Event::BlockEnd { uncompress_length } => self.keep(uncompress_length),
            Event::Partition { .. } | Event::End { .. } => {}
        }
    }

    /// All bytes of the block that was announced, or of none if it is refused.
    async fn data(&mut self, window: &mut Window, bytes: u32) -> Result<(), End> {
        let (State::Taking(arrival), Some(block)) = (&mut self.state, &mut self.block) else {
            return window.skip(bytes as usize).await;
        };
        let parts = match arrival.place(bytes).await {
            Ok(parts) => parts,
            Err(refusal) => {
                self.state = State::Refused(status_of(refusal), refusal.to_string());
                return window.skip(bytes as usize).await;
            }
        };
        for part in parts {
            block.filled.push(window.receive_into(part).await?);
        }
        Ok(())
    }

    fn keep(&mut self, uncompress_length: i32) {
        let (State::Taking(arrival), Some(block)) = (&mut self.state, self.block.take()) else { return };
        let head = &block.head;
        let kept = BlockHead {
            id: head.block_id,
            length: head.length,
            uncompressed_length: uncompress_length.cast_unsigned(),
            crc: head.crc as u32,
            attempt: head.task_attempt_id,
        };
        if let Err(unsound) = arrival.keep(head.partition_id, &kept, block.filled) {
            self.refuse(unsound);
        }
    }

    fn refuse(&mut self, unsound: Unsound) {
        tracing::warn!(shard = self.shard.id.0, "refused at the door: {unsound}");
        self.state = State::Refused(StatusCode::InternalError, unsound.to_string());
    }

    fn answer(self) -> Vec<u8> {
        match self.state {
            State::Refused(status, message) => Answer { request_id: self.request_id, status, message: &message }.sent(),
            State::Head | State::Taking(_) => Answer::ok(self.request_id).sent(),
        }
    }
}

/// What a refusal is in the protocol's words: those that every client knows.
pub(crate) fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::NotRegistered => StatusCode::NoRegister,
        Refusal::NoTicket | Refusal::Stopping => StatusCode::InternalError,
        Refusal::BlockTooLong | Refusal::NoSuchBytes => StatusCode::InvalidRequest,
    }
}

fn asked_of(asked: &LocalShuffleIndex<'_>) -> Asked {
    Asked { application: asked.app_id.to_owned(), shuffle: asked.shuffle_id, partition: asked.partition_id }
}

fn index(shard: &Shard, asked: &LocalShuffleIndex<'_>) -> Vec<Piece> {
    match shard.index(&asked_of(asked)) {
        Ok((bytes, file_bytes)) => {
            let head = Answer::ok(asked.request_id).index(file_bytes.cast_signed(), bytes.len() as u32);
            vec![Piece::Bytes(head), Piece::Bytes(bytes)]
        }
        Err(refusal) => {
            let answer =
                Answer { request_id: asked.request_id, status: status_of(refusal), message: &refusal.to_string() };
            vec![Piece::Bytes(answer.index(0, 0))]
        }
    }
}

fn memory(shard: &Shard, asked: &MemoryShuffleData<'_>) -> Result<Vec<Piece>, BitmapError> {
    let attempts = attempt_filter(asked.expected_task_ids)?;
    let of = Asked { application: asked.app_id.to_owned(), shuffle: asked.shuffle_id, partition: asked.partition_id };
    let bytes_max = u64::try_from(asked.read_buffer_bytes).unwrap_or(0);
    Ok(match shard.memory(&of, asked.last_block_id, bytes_max, attempts.as_ref()) {
        Ok(found) => {
            let (segments, body_bytes) = segments(&found);
            let head = Answer::ok(asked.request_id).memory(&segments, body_bytes);
            with_slices(head, found.bytes)
        }
        Err(refusal) => {
            let answer =
                Answer { request_id: asked.request_id, status: status_of(refusal), message: &refusal.to_string() };
            vec![Piece::Bytes(answer.memory(&[], 0))]
        }
    })
}

fn segments(found: &InMemory) -> (Vec<MemorySegment>, u32) {
    let mut offset = 0;
    let segment = |head: &BlockHead| {
        let segment = MemorySegment {
            block_id: head.id,
            offset,
            length: head.length.cast_signed(),
            uncompress_length: head.uncompressed_length.cast_signed(),
            crc: i64::from(head.crc),
            task_attempt_id: head.attempt,
        };
        offset += head.length.cast_signed();
        segment
    };
    let segments = found.blocks.iter().map(segment).collect();
    (segments, offset.cast_unsigned())
}

fn with_slices(head: Vec<u8>, slices: Vec<Slice>) -> Vec<Piece> {
    std::iter::once(Piece::Bytes(head)).chain(slices.into_iter().map(Piece::Slice)).collect()
}

/// A range of bytes that somebody waits for.
struct Wanted {
    request_id: i64,
    asked: Asked,
    offset: i64,
    length: i32,
}

impl Wanted {
    fn of(asked: &LocalShuffleData<'_>) -> Wanted {
        Wanted {
            request_id: asked.of.request_id,
            asked: asked_of(&asked.of),
            offset: asked.offset,
            length: asked.length,
        }
    }
}

async fn data(shard: &Shard, wanted: &Wanted) -> Vec<Piece> {
    let range = u64::try_from(wanted.offset).ok().zip(u64::try_from(wanted.length).ok());
    let read = match range {
        Some((offset, length)) => shard.data(&wanted.asked, offset, length).await,
        None => Err(Refusal::NoSuchBytes.into()),
    };
    match read {
        Ok(bytes) => with_slices(Answer::ok(wanted.request_id).data(wanted.length.cast_unsigned()), bytes),
        Err(error) => {
            let status = read_status(&error);
            vec![Piece::Bytes(Answer { request_id: wanted.request_id, status, message: &error.to_string() }.data(0))]
        }
    }
}

/// The same for a read; what is wrong with the disk is told to the operator.
pub(crate) fn read_status(error: &ReadError) -> StatusCode {
    match error {
        ReadError::Refused(refusal) => status_of(*refusal),
        ReadError::TooMuch(_) => StatusCode::InvalidRequest,
        ReadError::Failed(fault) => {
            tracing::error!(%fault, "a read failed");
            StatusCode::InternalError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_is_sent_what_it_cannot_read() {
        let refusals =
            [Refusal::NotRegistered, Refusal::NoTicket, Refusal::BlockTooLong, Refusal::Stopping, Refusal::NoSuchBytes];
        for refusal in refusals {
            let code = status_of(refusal).code();
            assert!((1..=10).contains(&code), "{refusal:?} is {code}");
        }
    }
}
