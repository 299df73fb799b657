//! What a connection has received and not used: heads are read here, blocks pass through to their place.
//!
//! Small while the connection is idle, so that thousands may be; large while a frame of blocks arrives. Within a frame a
//! sender that is silent for too long is given up, since memory is promised to it.

use std::ops::Range;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::arena::Lease;
use watershed_core::io::executor::{now, until};
use watershed_core::io::socket::Stream;

/// Below this many missing bytes a block is received together with what follows it.
const DIRECT_BYTES_MIN: usize = 16 << 10;

/// A sender that says nothing for so long within a frame is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Window {
    stream: Stream,
    lease: Option<Lease>,
    unused: Range<usize>,
    /// A frame has begun and not ended.
    pub(crate) is_amid_frame: bool,
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client closed it")]
    Closed,
    #[error("the client was silent for {} s within a frame", SILENCE_MAX.as_secs())]
    Silent,
    #[error(transparent)]
    Failed(#[from] Fault),
}

impl Window {
    pub(crate) fn new(stream: Stream, lease: Lease) -> Window {
        Window { stream, lease: Some(lease), unused: 0..0, is_amid_frame: false }
    }

    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.lease.as_ref().and_then(|lease| lease.get(self.unused.clone())).unwrap_or_default()
    }

    /// Uses the first `count` bytes up.
    pub(crate) fn consume(&mut self, count: usize) {
        self.unused.start = (self.unused.start + count).min(self.unused.end);
    }

    /// What it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.lease.as_ref().map_or(0, |lease| lease.len())
    }

    /// Goes on with other memory, in which what is there fits.
    pub(crate) fn move_to(&mut self, mut lease: Lease) {
        let bytes = self.bytes();
        if let Some(place) = lease.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.unused = 0..self.unused.len();
        self.lease = Some(lease);
    }

    /// Receives until `bytes` are there, which fit.
    pub(crate) async fn fill(&mut self, bytes: usize) -> Result<(), End> {
        while self.unused.len() < bytes {
            let mut lease = self.lease.take().expect("one task receives at a time");
            if self.unused.start + bytes > lease.len() || self.unused.is_empty() {
                lease.copy_within(self.unused.clone(), 0);
                self.unused = 0..self.unused.len();
            }
            let room = self.unused.end..lease.len();
            let receiving = self.stream.recv(lease, room);
            let (lease, count) = match self.is_amid_frame {
                true => until(now() + SILENCE_MAX, receiving).await.ok_or(End::Silent)??,
                false => receiving.await?,
            };
            self.lease = Some(lease);
            self.unused.end += count;
            if count == 0 {
                return Err(End::Closed);
            }
        }
        Ok(())
    }

    /// Moves the next bytes into `target`: what is there is copied, a large rest is received into it.
    pub(crate) async fn receive_into(&mut self, mut target: Lease) -> Result<Lease, End> {
        let mut done = 0;
        while done < target.len() {
            let missing = target.len() - done;
            let here = self.bytes();
            let here = here.get(..here.len().min(missing)).unwrap_or_default();
            if let Some(place) = target.get_mut(done..done + here.len()) {
                place.copy_from_slice(here);
            }
            let copied = here.len();
            self.consume(copied);
            done += copied;
            let missing = target.len() - done;
            if missing >= DIRECT_BYTES_MIN {
                let whole = done..target.len();
                let receiving = self.stream.recv_exact(target, whole);
                return Ok(until(now() + SILENCE_MAX, receiving).await.ok_or(End::Silent)??);
            }
            if missing > 0 {
                self.fill(1).await?;
            }
        }
        Ok(target)
    }

    /// Passes over the next `count` bytes.
    pub(crate) async fn skip(&mut self, mut count: usize) -> Result<(), End> {
        while count > 0 {
            self.fill(1).await?;
            let here = self.unused.len().min(count);
            self.consume(here);
            count -= here;
        }
        Ok(())
    }
}
