//! Frames: how the bytes of requests come in.
//!
//! A connection between requests holds one window of 4 KiB. A request that fits into it is read in place, and several may
//! arrive at once; a larger one is received into memory of its own, which is reserved whole before its body is read. A
//! length that cannot be ends the connection before anything is reserved for it.

use std::ops::{Deref, Range};
use std::rc::Rc;
use std::time::Duration;

use watershed_core::budget::Pool;
use watershed_core::io::arena::{Lease, Slice};
use watershed_core::io::executor::sleep;

use super::bell::{First, first};
use super::calls::Crossing;
use super::connection::{Connection, End};
use super::memory::Credit;

/// The window of a connection.
const WINDOW_BYTES: usize = 4096;
/// How long a request may take from its first byte to its last, besides a second per MiB.
const RECEIVE_US_MAX: u64 = 30_000_000;
/// How long to wait for memory that is on its way back.
const ARENA_WAIT: Duration = Duration::from_millis(5);
/// The first bytes of a TLS handshake, seen as a length.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// One whole request, without its length.
pub(crate) enum Frame<'w> {
    /// In the connection's window.
    Window(&'w [u8]),
    /// In memory of its own, reserved until the frame is dropped.
    Own { bytes: Slice, credit: Credit },
}

impl Deref for Frame<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Frame::Window(bytes) => bytes,
            Frame::Own { bytes, .. } => bytes,
        }
    }
}

impl Frame<'_> {
    /// A part for another core: lent where it lies, or copied out of the window.
    pub(crate) fn cross(&self, range: Range<usize>) -> Crossing {
        match self {
            Frame::Window(bytes) => Crossing::Copied(bytes.get(range).unwrap_or_default().to_vec()),
            Frame::Own { bytes, .. } => Crossing::Lent(bytes.slice(range).lend()),
        }
    }

    /// What has to be held until every core has taken over its part.
    pub(crate) fn into_credit(self) -> Option<Credit> {
        match self {
            Frame::Window(_) => None,
            Frame::Own { credit, .. } => Some(credit),
        }
    }
}

/// The receiving side of a connection.
pub(crate) struct Inflow {
    connection: Rc<Connection>,
    /// Absent only while the ring has it.
    window: Option<Lease>,
    /// What has arrived in the window and is not yet taken.
    arrived: Range<usize>,
}

impl Inflow {
    pub(crate) fn new(connection: &Rc<Connection>) -> Inflow {
        Inflow { connection: Rc::clone(connection), window: None, arrived: 0..0 }
    }

    /// The next whole request.
    pub(crate) async fn next(&mut self) -> Result<Frame<'_>, End> {
        if self.window.is_none() {
            self.window = Some(allocate(&self.connection, WINDOW_BYTES).await?);
        }
        self.fill(4).await?;
        let bytes = self.take_length()?;
        let deadline_us = self.connection.node.now_us() + RECEIVE_US_MAX + bytes as u64;
        self.connection.receive_until_us.set(Some(deadline_us));
        if bytes > WINDOW_BYTES {
            return self.receive_own(bytes).await;
        }
        self.fill(bytes).await?;
        let taken = self.arrived.start..self.arrived.start + bytes;
        self.arrived.start = taken.end;
        self.received(bytes);
        let window = self.window.as_ref().and_then(|window| window.get(taken));
        Ok(Frame::Window(window.expect("a filled part lies inside")))
    }

    /// Receives until `bytes` have arrived, which the window can hold.
    async fn fill(&mut self, bytes: usize) -> Result<(), End> {
        while self.arrived.len() < bytes {
            self.make_room(bytes);
            let window = self.window.take().expect("the window is back from the ring");
            let free = self.arrived.end..WINDOW_BYTES;
            let received = self.connection.stream.recv(window, free).await;
            let (window, count) = received.map_err(|fault| End::Failed(fault.to_string()))?;
            self.window = Some(window);
            if count == 0 {
                return Err(self.closed());
            }
            self.arrived.end += count;
            self.touch();
        }
        Ok(())
    }

    fn closed(&self) -> End {
        match self.arrived.is_empty() && self.connection.receive_until_us.get().is_none() {
            true => End::Closed,
            false => End::Failed("the client closed in the middle of a request".to_owned()),
        }
    }

    /// Moves what has arrived to the front if `bytes` would not fit behind it.
    fn make_room(&mut self, bytes: usize) {
        if self.arrived.is_empty() {
            self.arrived = 0..0;
        } else if self.arrived.start + bytes > WINDOW_BYTES {
            let window = self.window.as_mut().expect("the window is back from the ring");
            window.copy_within(self.arrived.clone(), 0);
            self.arrived = 0..self.arrived.len();
        }
    }

    /// Takes the length prefix and judges it.
    fn take_length(&mut self) -> Result<usize, End> {
        let window = self.window.as_deref().unwrap_or_default();
        let prefix = window.get(self.arrived.start..).and_then(|rest| rest.first_chunk::<4>());
        let prefix = *prefix.expect("four bytes have arrived");
        self.arrived.start += 4;
        if prefix.starts_with(&TLS_HANDSHAKE) {
            return Err(End::Refused("it speaks TLS, and this port is plaintext".to_owned()));
        }
        let bytes_max = self.connection.node.request_bytes_max;
        match usize::try_from(i32::from_be_bytes(prefix)) {
            Ok(bytes) if bytes <= bytes_max => Ok(bytes),
            Ok(bytes) => Err(End::Refused(format!(
                "a request of {bytes} bytes is larger than socket.request.max.bytes and the memory allow ({bytes_max})"
            ))),
            Err(_) => Err(End::Refused("the length of a request is negative".to_owned())),
        }
    }

    /// Receives a request into memory of its own.
    async fn receive_own(&mut self, bytes: usize) -> Result<Frame<'static>, End> {
        let connection = &self.connection;
        // Waiting for memory is not the client's fault.
        let deadline_us = connection.receive_until_us.take();
        let credit = reserve(connection, bytes).await?;
        let mut lease = allocate(connection, bytes).await?;
        connection.receive_until_us.set(deadline_us);
        let window = self.window.as_deref().unwrap_or_default();
        let head = window.get(self.arrived.clone()).unwrap_or_default();
        let have = head.len();
        lease.get_mut(..have).expect("the window is smaller").copy_from_slice(head);
        self.arrived = 0..0;
        let whole = self.connection.stream.recv_exact(lease, have..bytes).await;
        let lease = whole.map_err(|fault| End::Failed(fault.to_string()))?;
        self.touch();
        self.received(bytes);
        let bytes = lease.freeze().slice(0..bytes);
        Ok(Frame::Own { bytes, credit })
    }

    fn touch(&self) {
        let node = &self.connection.node;
        self.connection.active_us.set(node.now_us());
    }

    fn received(&self, bytes: usize) {
        self.connection.receive_until_us.set(None);
        let received = bytes as u64 + 4;
        self.connection.node.count(|metrics| metrics.received_bytes += received);
    }
}

async fn reserve(connection: &Connection, bytes: usize) -> Result<Credit, End> {
    let reserved = connection.node.memory.reserve(Pool::Receive, block_bytes(bytes));
    match first(reserved, connection.until(|| false)).await {
        First::Left(Some(credit)) => Ok(credit),
        First::Left(None) => Err(End::Refused(format!("there is never memory for a request of {bytes} bytes"))),
        First::Right(end) => Err(end.err().unwrap_or(End::Closed)),
    }
}

/// A block of the arena. It is reserved, so it will be there soon at the latest.
async fn allocate(connection: &Connection, bytes: usize) -> Result<Lease, End> {
    loop {
        if let Some(lease) = connection.node.shard.arena().try_alloc(bytes) {
            return Ok(lease);
        }
        if connection.is_gone() {
            return Err(End::Closed);
        }
        sleep(ARENA_WAIT).await;
    }
}

/// What the arena takes for `bytes`: a power of two up to 2 MiB, then whole 2 MiB.
fn block_bytes(bytes: usize) -> u64 {
    const STEP: usize = 2 << 20;
    match bytes <= STEP {
        true => bytes.next_power_of_two() as u64,
        false => bytes.next_multiple_of(STEP) as u64,
    }
}
