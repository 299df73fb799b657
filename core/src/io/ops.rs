//! The table of operations that the kernel has not finished, or whose result nobody has taken.
//!
//! Owns each operation's state and, once its future is gone, what the kernel may still touch. Plain data, no ring.
//! Invariants: a place is reused only after its one completion arrived; a key of an earlier use never matches, because
//! it carries a generation; what an orphan keeps is handed back only with its completion.

use std::any::Any;
use std::task::{Poll, Waker};

/// What the kernel reports of an operation: bytes, a descriptor, or a negative error number.
pub(crate) type RawResult = i32;

/// An operation's name, carried through the kernel as `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpKey {
    index: u32,
    generation: u32,
}

/// Generations take 24 bits, so that the upper 8 bits of `user_data` can name other kinds of completion.
const GENERATION_MASK: u32 = (1 << 24) - 1;

impl OpKey {
    pub(crate) fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> OpKey {
        OpKey { index: (bits & u64::from(u32::MAX)) as u32, generation: (bits >> 32) as u32 & GENERATION_MASK }
    }
}

enum State {
    Free,
    Pending(Option<Waker>),
    Done(RawResult),
    Orphaned(Box<dyn Any>),
}

struct Place {
    generation: u32,
    state: State,
}

/// What a completion sets in motion. To be acted on when no borrow is held.
pub(crate) enum Finished {
    Wake(Option<Waker>),
    /// The future is gone; this was kept for the kernel and may now be dropped.
    Release(Box<dyn Any>, RawResult),
}

#[derive(Default)]
pub(crate) struct Ops {
    places: Vec<Place>,
    free: Vec<u32>,
    in_flight_count: usize,
}

impl Ops {
    /// Operations that the kernel has not completed.
    pub(crate) fn in_flight_count(&self) -> usize {
        self.in_flight_count
    }

    pub(crate) fn start(&mut self) -> OpKey {
        self.in_flight_count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, state: State::Free });
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 operations are in flight")
        });
        let place = self.places.get_mut(index as usize).expect("the place was just made or freed");
        place.generation = (place.generation + 1) & GENERATION_MASK;
        place.state = State::Pending(None);
        OpKey { index, generation: place.generation }
    }

    /// The result, once; until then remembers whom to wake.
    pub(crate) fn poll(&mut self, key: OpKey, waker: &Waker) -> Poll<RawResult> {
        match &mut self.place(key).state {
            State::Done(result) => {
                let result = *result;
                self.release(key);
                Poll::Ready(result)
            }
            State::Pending(kept) => {
                match kept {
                    Some(kept) => kept.clone_from(waker),
                    None => *kept = Some(waker.clone()),
                }
                Poll::Pending
            }
            State::Free | State::Orphaned(_) => {
                unreachable!("only a live future polls its operation")
            }
        }
    }

    /// The future is dropped: keeps `payload` until the completion, or releases it if that has already arrived.
    pub(crate) fn orphan(&mut self, key: OpKey, payload: Box<dyn Any>) -> Option<Finished> {
        let place = self.place(key);
        if let State::Done(result) = place.state {
            self.release(key);
            return Some(Finished::Release(payload, result));
        }
        place.state = State::Orphaned(payload);
        None
    }

    /// The kernel's one completion of an operation.
    pub(crate) fn finish(&mut self, key: OpKey, result: RawResult) -> Finished {
        self.in_flight_count -= 1;
        let place = self.place(key);
        match std::mem::replace(&mut place.state, State::Done(result)) {
            State::Pending(waker) => Finished::Wake(waker),
            State::Orphaned(payload) => {
                self.release(key);
                Finished::Release(payload, result)
            }
            State::Free | State::Done(_) => unreachable!("an operation completes once"),
        }
    }

    /// The keys of all operations without a completion.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = OpKey> + '_ {
        (0u32..).zip(&self.places).filter_map(|(index, place)| {
            let waits = matches!(place.state, State::Pending(_) | State::Orphaned(_));
            waits.then_some(OpKey { index, generation: place.generation })
        })
    }

    fn place(&mut self, key: OpKey) -> &mut Place {
        self.places
            .get_mut(key.index as usize)
            .filter(|place| place.generation == key.generation)
            .expect("a key of this table and of the place's present use")
    }

    fn release(&mut self, key: OpKey) {
        self.place(key).state = State::Free;
        self.free.push(key.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn an_orphan_keeps_its_payload_until_the_completion() {
        let mut ops = Ops::default();
        let kept = Rc::new(());
        let key = ops.start();
        assert!(ops.orphan(key, Box::new(kept.clone())).is_none());
        let other = ops.start();
        assert_ne!(key, other, "an orphan's place is not reused");
        assert_eq!((Rc::strong_count(&kept), ops.in_flight_count()), (2, 2));
        match ops.finish(key, 1) {
            Finished::Release(payload, 1) => drop(payload),
            _ => panic!("nobody waits for an orphan"),
        }
        assert_eq!((Rc::strong_count(&kept), ops.in_flight_count()), (1, 1));
        let reused = ops.start();
        assert_eq!(reused.index, key.index);
        assert_ne!(reused, key, "the generation tells the uses apart");
    }

    #[test]
    fn a_result_is_taken_once_and_a_late_drop_gets_its_payload_back() {
        let mut ops = Ops::default();
        let (first, second) = (ops.start(), ops.start());
        let waker = Waker::noop();
        assert!(ops.poll(first, waker).is_pending());
        assert!(matches!(ops.finish(first, 7), Finished::Wake(Some(_))));
        assert!(matches!(ops.poll(first, waker), Poll::Ready(7)));
        assert!(matches!(ops.finish(second, -5), Finished::Wake(None)));
        assert!(matches!(ops.orphan(second, Box::new(())), Some(Finished::Release(_, -5))));
        assert_eq!((ops.in_flight_count(), ops.in_flight().count()), (0, 0));
    }

    #[test]
    fn keys_survive_the_kernel() {
        let mut ops = Ops::default();
        for _ in 0..3 {
            let key = ops.start();
            assert_eq!(OpKey::from_bits(key.to_bits()), key);
            assert_eq!(key.to_bits() >> 56, 0);
            ops.finish(key, 0);
            assert!(ops.poll(key, Waker::noop()).is_ready());
        }
    }

    #[test]
    #[should_panic(expected = "present use")]
    fn a_key_of_an_earlier_use_is_refused() {
        let mut ops = Ops::default();
        let key = ops.start();
        ops.finish(key, 0);
        assert!(ops.poll(key, Waker::noop()).is_ready());
        ops.start();
        ops.finish(key, 0);
    }
}
