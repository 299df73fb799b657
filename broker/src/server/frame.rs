//! Frames: how the bytes of requests come in.
//!
//! A connection between requests holds one window of 4 KiB. A request that fits into it is read in place, and several may
//! arrive at once; for larger ones the window is widened while they follow upon each other. Those that no window holds are
//! received into memory of their own. Other memory than the small window is reserved whole before a body is read. Where
//! only a large record batch makes it large, that batch alone goes into a block of its own, which a log of this core takes
//! over as it is. A length that cannot be ends the connection before anything is reserved for it.

use std::ops::{Deref, Range};
use std::rc::Rc;
use std::time::Duration;

use watershed_core::budget::Pool;
use watershed_core::io::arena::{Lease, Slice};
use watershed_core::io::executor::sleep;
use watershed_core::limits::SOLO_RUN_BYTES_MIN;

use crate::wire::produce::first_large_batch;

use super::calls::Crossing;
use super::connection::{Connection, End};
use super::memory::Credit;
use watershed_core::io::bell::{First, first};

/// The window of a connection.
const WINDOW_BYTES: usize = 4096;
/// The window of a connection whose requests are larger; what exceeds it has memory of its own.
const WIDE_BYTES: usize = SOLO_RUN_BYTES_MIN as usize;
/// How long a request may take from its first byte to its last, besides a second per MiB.
const RECEIVE_US_MAX: u64 = 30_000_000;
/// How long to wait for memory that is on its way back.
const ARENA_WAIT: Duration = Duration::from_millis(5);
/// The first bytes of a TLS handshake, seen as a length.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// One whole request, without its length.
pub(crate) struct Frame<'w> {
    /// All of it but `gap`.
    bytes: Bytes<'w>,
    /// Where a record batch lay that was received into a block of its own.
    gap: Range<usize>,
    /// That batch, until it is taken.
    pub(crate) large: Option<Large>,
    /// Of memory that is the frame's own; held until every core has taken over its part.
    pub(crate) credit: Option<Credit>,
}

enum Bytes<'w> {
    /// In the connection's window.
    Window(&'w [u8]),
    Own(Slice),
}

/// A record batch that begins a block.
pub(crate) struct Large {
    /// Its place in the frame.
    pub(crate) place: Range<usize>,
    pub(crate) block: Lease,
}

impl Deref for Frame<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Window(bytes) => bytes,
            Bytes::Own(bytes) => bytes,
        }
    }
}

impl Frame<'_> {
    /// What the frame's bytes lack.
    pub(crate) fn gap(&self) -> Range<usize> {
        self.gap.clone()
    }

    /// A part for another core: lent where it lies, or copied out of the window.
    pub(crate) fn cross(&self, range: Range<usize>) -> Crossing {
        let range = self.within(range);
        match &self.bytes {
            Bytes::Window(bytes) => Crossing::Copied(bytes.get(range).unwrap_or_default().to_vec()),
            Bytes::Own(bytes) => Crossing::Lent(bytes.slice(range).lend()),
        }
    }

    /// A part that is not the large batch.
    pub(crate) fn part(&self, range: Range<usize>) -> &[u8] {
        self.get(self.within(range)).unwrap_or_default()
    }

    /// Where a place of the frame as it was sent lies in what is here.
    fn within(&self, range: Range<usize>) -> Range<usize> {
        let skipped = if range.start < self.gap.end { 0 } else { self.gap.len() };
        range.start - skipped..range.end - skipped
    }
}

impl Large {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.get(..self.place.len()).unwrap_or_default()
    }

    /// The batch for another core, lent where it lies.
    pub(crate) fn cross(self) -> Crossing {
        Crossing::Lent(self.block.freeze().slice(0..self.place.len()).lend())
    }
}

/// The receiving side of a connection.
pub(crate) struct Inflow {
    connection: Rc<Connection>,
    /// Absent only while the ring has it.
    window: Option<Lease>,
    /// Of a window that is wide.
    widened: Option<Credit>,
    /// What has arrived in the window and is not yet taken.
    arrived: Range<usize>,
}

impl Inflow {
    pub(crate) fn new(connection: &Rc<Connection>) -> Inflow {
        Inflow { connection: Rc::clone(connection), window: None, widened: None, arrived: 0..0 }
    }

    /// The next whole request.
    pub(crate) async fn next(&mut self) -> Result<Frame<'_>, End> {
        self.narrow().await?;
        self.fill(4).await?;
        let bytes = self.take_length()?;
        let deadline_us = self.connection.node.now_us() + RECEIVE_US_MAX + bytes as u64;
        self.connection.receive_until_us.set(Some(deadline_us));
        if bytes > WIDE_BYTES {
            return self.receive_large(bytes).await;
        }
        if !self.widen(bytes).await? {
            return self.receive_own(bytes).await;
        }
        self.fill(bytes).await?;
        self.received(bytes);
        Ok(Frame { bytes: Bytes::Window(self.take_window(bytes)), gap: 0..0, large: None, credit: None })
    }

    /// Between requests a small window has to do: a client may be silent for long.
    async fn narrow(&mut self) -> Result<(), End> {
        if self.window.is_none() || (self.widened.is_some() && self.arrived.len() < 4) {
            self.replace_window(WINDOW_BYTES, None).await?;
        }
        Ok(())
    }

    /// Makes the window hold a request of `bytes`, if there is memory to spare.
    async fn widen(&mut self, bytes: usize) -> Result<bool, End> {
        if bytes <= self.window.as_deref().map_or(0, <[u8]>::len) {
            return Ok(true);
        }
        let credit = self.connection.node.memory.spare(Pool::Receive, WIDE_BYTES as u64);
        let is_spared = credit.is_some();
        if is_spared {
            self.replace_window(WIDE_BYTES, credit).await?;
        }
        Ok(is_spared)
    }

    async fn replace_window(&mut self, bytes: usize, widened: Option<Credit>) -> Result<(), End> {
        let mut window = allocate(&self.connection, bytes).await?;
        let head = self.head();
        let have = head.len();
        window.get_mut(..have).expect("either window holds it").copy_from_slice(head);
        self.arrived = 0..have;
        (self.window, self.widened) = (Some(window), widened);
        Ok(())
    }

    fn take_window(&mut self, bytes: usize) -> &[u8] {
        let taken = self.arrived.start..self.arrived.start + bytes;
        self.arrived.start = taken.end;
        let window = self.window.as_ref().and_then(|window| window.get(taken));
        window.expect("a filled part lies inside")
    }

    /// Receives a request that the window does not hold.
    async fn receive_large(&mut self, bytes: usize) -> Result<Frame<'_>, End> {
        self.fill(WINDOW_BYTES).await?;
        let place = first_large_batch(self.head(), bytes);
        match place.filter(|place| bytes - place.len() <= WINDOW_BYTES) {
            Some(place) => self.receive_around(bytes, place).await,
            None => self.receive_own(bytes).await,
        }
    }

    /// Receives until `bytes` have arrived, which the window can hold.
    async fn fill(&mut self, bytes: usize) -> Result<(), End> {
        while self.arrived.len() < bytes {
            self.make_room(bytes);
            let window = self.window.take().expect("the window is back from the ring");
            let free = self.arrived.end..window.len();
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
        } else if let Some(window) = self.window.as_mut().filter(|window| self.arrived.start + bytes > window.len()) {
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

    /// Receives the batch at `place` into a block of its own, and the rest into the window.
    async fn receive_around(&mut self, bytes: usize, place: Range<usize>) -> Result<Frame<'_>, End> {
        let credit = self.reserve(place.len()).await?;
        let mut block = allocate(&self.connection, place.len()).await?;
        let begun = self.head().get(place.start..).unwrap_or_default();
        let have = begun.len();
        block.get_mut(..have).expect("the window is smaller").copy_from_slice(begun);
        self.arrived.end -= have;
        let block = self.receive(block, have..place.len()).await?;
        let rest = bytes - place.len();
        self.fill(rest).await?;
        self.received(bytes);
        let large = Some(Large { place: place.clone(), block });
        Ok(Frame { bytes: Bytes::Window(self.take_window(rest)), gap: place, large, credit: Some(credit) })
    }

    /// Receives a request into memory of its own.
    async fn receive_own(&mut self, bytes: usize) -> Result<Frame<'static>, End> {
        let credit = self.reserve(bytes).await?;
        let mut lease = allocate(&self.connection, bytes).await?;
        let head = self.head();
        let have = head.len();
        lease.get_mut(..have).expect("the window is smaller").copy_from_slice(head);
        self.arrived = 0..0;
        let lease = self.receive(lease, have..bytes).await?;
        self.received(bytes);
        let own = Bytes::Own(lease.freeze().slice(0..bytes));
        Ok(Frame { bytes: own, gap: 0..0, large: None, credit: Some(credit) })
    }

    /// What has arrived.
    fn head(&self) -> &[u8] {
        let window = self.window.as_deref().unwrap_or_default();
        window.get(self.arrived.clone()).unwrap_or_default()
    }

    /// Memory for the request that is being received; none for a client that is muted. The time that this takes is given
    /// to the client.
    async fn reserve(&self, bytes: usize) -> Result<Credit, End> {
        let (node, deadline_us) = (&self.connection.node, self.connection.receive_until_us.take());
        let since_us = node.now_us();
        self.connection.unmuted().await?;
        let credit = reserve(&self.connection, bytes).await?;
        let waited_us = node.now_us().saturating_sub(since_us);
        self.connection.receive_until_us.set(deadline_us.map(|until_us| until_us.saturating_add(waited_us)));
        Ok(credit)
    }

    async fn receive(&self, lease: Lease, range: Range<usize>) -> Result<Lease, End> {
        let whole = self.connection.stream.recv_exact(lease, range).await;
        self.touch();
        whole.map_err(|fault| End::Failed(fault.to_string()))
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
