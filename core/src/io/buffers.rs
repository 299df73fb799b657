//! What a write or a send takes its bytes from, and the vectors that tell the kernel.
//!
//! Owns the advance over a gathered list after a short write. Invariant: a vector's bytes are owned by the pieces beside
//! it, which neither move nor change while it exists.
#![allow(unsafe_code)]

use std::ops::Deref;

use super::arena::{Lent, Slice};

/// Bytes to be sent or written, held until the kernel is done with them.
pub enum Piece {
    Slice(Slice),
    /// Another core's bytes; they go home when sent.
    Lent(Lent),
    /// Small: headers and the like. Not for files opened for direct I/O.
    Bytes(Vec<u8>),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Piece::Slice(slice) => slice,
            Piece::Lent(lent) => lent,
            Piece::Bytes(bytes) => bytes,
        }
    }
}

impl From<Slice> for Piece {
    fn from(slice: Slice) -> Piece {
        Piece::Slice(slice)
    }
}

impl From<Lent> for Piece {
    fn from(lent: Lent) -> Piece {
        Piece::Lent(lent)
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Piece {
        Piece::Bytes(bytes)
    }
}

/// The kernel's limit for one vectored call (`UIO_MAXIOV`).
const VECTORS_MAX: usize = 1024;

/// A list of pieces, a position in it, and the vectors of what comes next. Boxed parts only, so it may be moved while
/// the kernel has it.
pub(crate) struct Gather {
    pieces: Vec<Piece>,
    /// The first piece that is not done, and how much of it is.
    piece: usize,
    within: usize,
    vectors: Vec<libc::iovec>,
    header: Box<libc::msghdr>,
}

impl Gather {
    pub(crate) fn new(pieces: Vec<Piece>) -> Gather {
        let mut gather = Gather {
            pieces,
            piece: 0,
            within: 0,
            vectors: Vec::new(),
            // SAFETY: all-zero is a valid `msghdr`: null pointers and zero lengths.
            header: Box::new(unsafe { std::mem::zeroed() }),
        };
        gather.advance(0);
        gather
    }

    pub(crate) fn is_done(&self) -> bool {
        self.piece == self.pieces.len()
    }

    /// Goes past `count` bytes, and past empty pieces.
    pub(crate) fn advance(&mut self, count: usize) {
        self.within += count;
        while let Some(piece) = self.pieces.get(self.piece)
            && self.within >= piece.len()
        {
            self.within -= piece.len();
            self.piece += 1;
        }
        assert!(self.within == 0 || !self.is_done(), "the kernel took more than was given");
    }

    /// The vectors of what comes next, as many as one call takes.
    pub(crate) fn vectors(&mut self) -> &[libc::iovec] {
        self.vectors.clear();
        let mut skip = self.within;
        for piece in self.pieces.iter().skip(self.piece).take(VECTORS_MAX) {
            let bytes = piece.get(skip..).unwrap_or_default();
            skip = 0;
            self.vectors.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        }
        &self.vectors
    }

    /// A message header over `vectors`.
    pub(crate) fn header(&mut self) -> *const libc::msghdr {
        self.vectors();
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        &*self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(gather: &mut Gather) -> Vec<usize> {
        gather.vectors().iter().map(|vector| vector.iov_len).collect()
    }

    #[test]
    fn advances_over_pieces_of_any_length() {
        let pieces = [5, 0, 3, 0].map(|length| Piece::from(vec![1u8; length]));
        let mut gather = Gather::new(Vec::from(pieces));
        gather.advance(4);
        assert_eq!(lengths(&mut gather), [1, 0, 3, 0]);
        gather.advance(1);
        assert_eq!(lengths(&mut gather), [3, 0]);
        gather.advance(2);
        assert_eq!((lengths(&mut gather), gather.is_done()), (vec![1, 0], false));
        gather.advance(1);
        assert!(gather.is_done());
        assert!(Gather::new(vec![Vec::new().into()]).is_done());
    }

    #[test]
    fn one_call_takes_no_more_vectors_than_the_kernel_allows() {
        let pieces = (0..3000).map(|_| vec![0u8; 2].into()).collect();
        let mut gather = Gather::new(pieces);
        assert_eq!(gather.vectors().len(), 1024);
        gather.advance(5999);
        assert_eq!(lengths(&mut gather), [1]);
    }

    #[test]
    #[should_panic(expected = "more than was given")]
    fn an_impossible_count_is_noticed() {
        Gather::new(vec![vec![0u8; 2].into()]).advance(3);
    }
}
