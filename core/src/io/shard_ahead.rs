//! The driver of read-ahead: blocks of segment files that are in memory, or on their way, before a reader asks.
//!
//! The bytes are the arena's and no part of the tail cache: what a reader brings in evicts nothing. Never serves a block
//! whose read failed or came short: the reader then reads for itself, and finds what is wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::arena::Slice;
use super::executor::{self, machine_now};
use super::shard::Shard;
use crate::read_ahead::{AHEAD_BLOCK_BYTES, AheadBlock, Moves, Reached, ReadAhead};
use crate::units::{FileId, TopicPartition};

/// Read-ahead takes at most this part of the shard's memory, and at most `BLOCKS_COUNT_MAX` blocks.
const MEMORY_DIVISOR: u64 = 16;
const BLOCKS_COUNT_MAX: u64 = 64;

pub(super) struct Ahead {
    machine: ReadAhead,
    blocks: BTreeMap<AheadBlock, Rc<Block>>,
}

struct Block {
    range: Range<u64>,
    state: RefCell<State>,
}

enum State {
    Reading(Vec<Waker>),
    Ready(Slice),
    Failed,
}

impl Ahead {
    pub(super) fn new(arena_bytes: u64) -> Ahead {
        let count = (arena_bytes / MEMORY_DIVISOR / AHEAD_BLOCK_BYTES).min(BLOCKS_COUNT_MAX);
        Ahead { machine: ReadAhead::new(usize::try_from(count).unwrap_or(0)), blocks: BTreeMap::new() }
    }

    fn block(&self, file: FileId, position: u64) -> Option<Rc<Block>> {
        let block = self.blocks.get(&(file, position / AHEAD_BLOCK_BYTES))?;
        block.range.contains(&position).then(|| block.clone())
    }
}

impl Block {
    /// Its bytes, when they are there.
    async fn bytes(&self) -> Option<Slice> {
        poll_fn(|context| match &mut *self.state.borrow_mut() {
            State::Reading(waiters) => {
                waiters.push(context.waker().clone());
                Poll::Pending
            }
            State::Ready(slice) => Poll::Ready(Some(slice.clone())),
            State::Failed => Poll::Ready(None),
        })
        .await
    }

    fn settle(&self, state: State) {
        if let State::Reading(waiters) = self.state.replace(state) {
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

impl Shard {
    /// Where the reader that asks for `offset` goes on.
    pub(super) fn ahead_place(&self, key: TopicPartition, offset: i64) -> Option<(FileId, u64)> {
        self.0.ahead.borrow().machine.place(key, offset)
    }

    /// The longest piece from `position` on, up to `length`, that was read ahead.
    pub(super) async fn ahead_bytes(&self, file: FileId, position: u64, length: u64) -> Option<Slice> {
        let block = self.0.ahead.borrow().block(file, position)?;
        let bytes = block.bytes().await?;
        let from = (position - block.range.start) as usize;
        let to = bytes.len().min(from + length as usize);
        Some(bytes.slice(from..to))
    }

    /// A reader was answered from disk and will go on at `reached`, if it does.
    pub(super) fn ahead_moved(&self, key: TopicPartition, from_offset: i64, reached: Reached) {
        let moves = self.0.ahead.borrow_mut().machine.moved(machine_now(), key, from_offset, reached);
        self.ahead_follow(moves);
    }

    pub(super) fn ahead_expire(&self) {
        let moves = self.0.ahead.borrow_mut().machine.expire(machine_now());
        self.ahead_follow(moves);
    }

    pub(super) fn ahead_forget(&self, file: FileId) {
        let moves = self.0.ahead.borrow_mut().machine.forget_file(file);
        self.ahead_follow(moves);
    }

    fn ahead_follow(&self, moves: Moves) {
        for file in moves.leased {
            self.0.store.borrow_mut().lease_file(file);
        }
        for (id, range) in moves.reads {
            let block = Rc::new(Block { range, state: RefCell::new(State::Reading(Vec::new())) });
            self.0.ahead.borrow_mut().blocks.insert(id, block.clone());
            let shard = self.clone();
            executor::spawn(async move {
                let (file, Range { start, end }) = (id.0, block.range.clone());
                let state = match shard.read_disk(file, start, end - start).await {
                    Ok(slice) => State::Ready(slice),
                    Err(_) => State::Failed,
                };
                block.settle(state);
            });
        }
        for id in moves.gone {
            self.0.ahead.borrow_mut().blocks.remove(&id);
        }
        let any_released = !moves.released.is_empty();
        for file in moves.released {
            self.0.store.borrow_mut().release_file(file);
        }
        if any_released {
            self.kick();
        }
    }
}
