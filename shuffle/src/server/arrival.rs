//! Blocks that arrive: from a ticket to blocks that are kept, whichever plane they come by.
//!
//! Owns what is promised to the frame and the block that is being received; gives both back however it ends. A block is
//! kept only if its bytes have the checksum that its sender gave.

use std::rc::Rc;

use watershed_core::io::arena::Lease;
use watershed_core::io::executor::{machine_now, yield_if_needed};

use super::connection::status_of;
use super::shard::{Shard, count};
use crate::store::{BlockHead, Kept, Refusal, Send, ShuffleId};
use crate::wire::proto::{SendShuffleDataRequest, ShuffleBlock, StatusCode};

/// A frame of blocks under way.
pub(crate) struct Arrival {
    shard: Rc<Shard>,
    send: Option<Send>,
    shuffle: ShuffleId,
    /// Position and length of the block that is being received.
    open: Option<(u64, u32)>,
}

impl Arrival {
    /// Uses the ticket up.
    pub(crate) fn begin(shard: &Rc<Shard>, application: &str, shuffle: i32, ticket: i64) -> Result<Arrival, Refusal> {
        if shard.stopping.get() {
            return Err(Refusal::Stopping);
        }
        let send = shard.store.borrow_mut().begin_send(application, shuffle, ticket, machine_now())?;
        let shuffle = send.shuffle;
        Ok(Arrival { shard: Rc::clone(shard), send: Some(send), shuffle, open: None })
    }

    /// Memory for the next block, to be filled and given to `keep`.
    pub(crate) async fn place(&mut self, length: u32) -> Result<Vec<Lease>, Refusal> {
        let (position, leases) = self.shard.place(self.shuffle, length).await?;
        self.open = Some((position, length));
        Ok(leases)
    }

    /// The block is there. Its memory is shared from here on.
    pub(crate) fn keep(&mut self, partition: i32, head: &BlockHead, filled: Vec<Lease>) -> Result<(), Unsound> {
        let mut checksum = crc32fast::Hasher::new();
        filled.iter().for_each(|part| checksum.update(part));
        let found = checksum.finalize();
        drop(filled);
        if found != head.crc {
            self.abandon();
            count(&self.shard.figures.refused_blocks, 1);
            return Err(Unsound { partition, block: head.id, expected: head.crc, found });
        }
        // A shuffle that was dropped meanwhile wants no blocks: its sender learns it from its next call.
        if let Some((position, _)) = self.open.take() {
            let kept = self.shard.store.borrow_mut().keep(self.shuffle, partition, head, position);
            count(&self.shard.figures.duplicate_blocks, u64::from(kept == Ok(Kept::Again)));
        }
        count(&self.shard.figures.received_bytes, u64::from(head.length));
        count(&self.shard.figures.received_blocks, 1);
        Ok(())
    }

    fn abandon(&mut self) {
        if let Some((position, length)) = self.open.take() {
            self.shard.store.borrow_mut().abandon(self.shuffle, position, length);
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.abandon();
        if let Some(send) = self.send.take() {
            self.shard.store.borrow_mut().end_send(send, machine_now());
        }
        self.shard.settle();
    }
}

/// A block whose bytes are not what its sender checked.
#[derive(Debug, thiserror::Error)]
#[error("block {block} of partition {partition} has the checksum {found:08x}, not {expected:08x}")]
pub(crate) struct Unsound {
    partition: i32,
    block: i64,
    expected: u32,
    found: u32,
}

/// A frame that came whole, by gRPC.
pub(crate) async fn take_all(shard: &Rc<Shard>, sent: SendShuffleDataRequest) -> Result<(), (StatusCode, String)> {
    let refused = |refusal: Refusal| (status_of(refusal), refusal.to_string());
    let begun = Arrival::begin(shard, &sent.app_id, sent.shuffle_id, sent.require_buffer_id);
    let mut arrival = begun.map_err(refused)?;
    for of in sent.shuffle_data {
        for block in of.block {
            let head = head_of(&block).ok_or_else(|| bad_block(&block))?;
            let mut parts = arrival.place(head.length).await.map_err(refused)?;
            let mut rest: &[u8] = &block.data;
            for part in &mut parts {
                let (now, later) = rest.split_at(part.len());
                part.copy_from_slice(now);
                rest = later;
            }
            arrival.keep(of.partition_id, &head, parts).map_err(|unsound| {
                tracing::warn!(shard = shard.id.0, "refused at the door: {unsound}");
                (StatusCode::InternalError, unsound.to_string())
            })?;
            yield_if_needed().await;
        }
    }
    Ok(())
}

/// `None` if lengths and checksum are not what a block has.
fn head_of(block: &ShuffleBlock) -> Option<BlockHead> {
    let length = u32::try_from(block.length).ok()?;
    (length as usize == block.data.len()).then_some(BlockHead {
        id: block.block_id,
        length,
        uncompressed_length: u32::try_from(block.uncompress_length).ok()?,
        crc: u32::try_from(block.crc).ok()?,
        attempt: block.task_attempt_id,
    })
}

fn bad_block(block: &ShuffleBlock) -> (StatusCode, String) {
    let words = format!(
        "block {} says {} bytes ({} uncompressed) with checksum {}, and has {}",
        block.block_id,
        block.length,
        block.uncompress_length,
        block.crc,
        block.data.len()
    );
    (StatusCode::InvalidRequest, words)
}
