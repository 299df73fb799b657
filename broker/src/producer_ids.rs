//! Producer ids: each shard hands them out from blocks that the controller gave it, so that no two producers ever share one.
//!
//! A block may be used once the record behind it is durable, which is when the controller's reply arrives. The rest of a
//! block is lost at a restart; ids are never reused. The next block is asked for before the current one is used up.

/// A block is asked for once this part of one is left.
const ASK_BELOW_PART: i64 = 10;

/// Consecutive producer ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub start: i64,
    pub count: i64,
}

impl Block {
    fn take(&mut self) -> Option<i64> {
        let id = self.start;
        self.count = self.count.checked_sub(1).filter(|&left| left >= 0)?;
        self.start += 1;
        Some(id)
    }
}

/// The answer to one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// `None`: no block is left; ask again once one was granted.
    pub id: Option<i64>,
    /// The caller has to ask the controller for a block now.
    pub ask: bool,
}

/// A shard's ids.
#[derive(Clone, Debug, Default)]
pub struct ProducerIds {
    current: Block,
    next: Block,
    block_count: i64,
    asked: bool,
}

impl ProducerIds {
    pub fn new() -> ProducerIds {
        ProducerIds::default()
    }

    /// Takes an id, and says whether to ask for a block: at most one request is under way.
    pub fn take(&mut self) -> Taken {
        if self.current.count == 0 {
            self.current = std::mem::take(&mut self.next);
        }
        let id = self.current.take();
        let low = self.current.count <= self.block_count / ASK_BELOW_PART;
        let ask = low && self.next.count == 0 && !self.asked;
        self.asked |= ask;
        Taken { id, ask }
    }

    /// The controller's block. Only one that was asked for can come.
    pub fn granted(&mut self, block: Block) {
        assert!(
            self.asked && self.next.count == 0 && block.count > 0 && block.start >= 0,
            "a block that nobody asked for, or an empty one"
        );
        self.asked = false;
        self.block_count = block.count;
        self.next = block;
    }

    /// The controller gave none; the next [`ProducerIds::take`] asks again.
    pub fn refused(&mut self) {
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start: i64, count: i64) -> Block {
        Block { start, count }
    }

    #[test]
    fn asks_once_and_waits() {
        let mut ids = ProducerIds::new();
        let waiting = |ask| Taken { id: None, ask };
        assert_eq!(ids.take(), waiting(true));
        assert_eq!(ids.take(), waiting(false));
        ids.refused();
        assert_eq!(ids.take(), waiting(true));
        ids.granted(block(1000, 20));
        let (id, ask) = (Some(1000), false);
        assert_eq!(ids.take(), Taken { id, ask });
    }

    #[test]
    fn the_next_block_is_there_before_the_last_id_is_taken() {
        let mut ids = ProducerIds::new();
        ids.take();
        ids.granted(block(0, 20));
        let first: Vec<_> = (0..20).map(|_| ids.take()).collect();
        let asked: Vec<_> = first.iter().filter(|taken| taken.ask).collect();
        assert_eq!(asked.len(), 1, "one request under way");
        assert!(first[17].ask, "two of twenty are left");
        assert!(first.iter().map(|taken| taken.id).eq((0..20).map(Some)));
        assert_eq!(ids.take().id, None);
        ids.granted(block(5000, 20));
        assert_eq!(ids.take().id, Some(5000));
    }

    #[test]
    #[should_panic(expected = "nobody asked for")]
    fn a_block_that_was_not_asked_for_is_a_bug() {
        ProducerIds::new().granted(block(0, 10));
    }
}
