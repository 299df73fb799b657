//! Scatter: the parts of a request to their owners and the answers back, in the request's order.
//!
//! One call per owner. A part that cannot be asked (no such topic, no owner) keeps its error and its place. An owner that
//! does not answer leaves UNKNOWN_SERVER_ERROR at its parts.

use std::collections::BTreeMap;
use std::rc::Rc;

use watershed_core::units::{ShardId, TopicPartition};

use crate::server::calls::{Call, Reply};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;

/// Parts of one request.
pub(crate) struct Scatter<A> {
    /// For each part its error, if it has one already.
    errors: Vec<Option<ErrorCode>>,
    by_owner: BTreeMap<ShardId, (Vec<usize>, Vec<A>)>,
}

impl<A> Default for Scatter<A> {
    fn default() -> Self {
        Scatter { errors: Vec::new(), by_owner: BTreeMap::new() }
    }
}

/// What an owner's reply holds: an answer for each of its parts, or one error for all.
pub(crate) enum Gathered<T> {
    Each(Vec<Result<T, ErrorCode>>),
    All(ErrorCode),
}

impl<T> Gathered<T> {
    /// The error of a reply that is no answer to the question.
    pub(crate) fn failed(reply: &Reply) -> Gathered<T> {
        match reply {
            Reply::Failed(error) => Gathered::All(*error),
            _ => Gathered::All(ErrorCode::UnknownServerError),
        }
    }
}

impl<A> Scatter<A> {
    /// Adds the next part: where it belongs and what is asked, or why it cannot be asked.
    pub(crate) fn push(&mut self, node: &Node, part: Result<(TopicPartition, A), ErrorCode>) {
        let owned = part.and_then(|(at, ask)| Ok((node.owner(at)?, ask)));
        let place = self.errors.len();
        match owned {
            Ok((owner, ask)) => {
                let (places, asks) = self.by_owner.entry(owner).or_default();
                places.push(place);
                asks.push(ask);
                self.errors.push(None);
            }
            Err(error) => self.errors.push(Some(error)),
        }
    }

    /// Asks every owner at once and puts the answers in order.
    pub(crate) async fn gather<T>(
        self,
        node: &Rc<Node>,
        call: impl Fn(Vec<A>) -> Call,
        answers: impl Fn(Reply) -> Gathered<T>,
    ) -> Vec<Result<T, ErrorCode>> {
        let gone = ErrorCode::UnknownServerError;
        let unanswered = |error: Option<ErrorCode>| Err(error.unwrap_or(gone));
        let mut results: Vec<Result<T, ErrorCode>> = self.errors.into_iter().map(unanswered).collect();
        let mut pending = Vec::with_capacity(self.by_owner.len());
        for (owner, (places, asks)) in self.by_owner {
            pending.push((places, node.begin(owner, call(asks)).await));
        }
        for (places, reply) in pending {
            let found = answers(reply.await);
            let each: Vec<Result<T, ErrorCode>> = match found {
                Gathered::Each(each) => each,
                Gathered::All(error) => places.iter().map(|_| Err(error)).collect(),
            };
            for (place, result) in places.into_iter().zip(each) {
                if let Some(slot) = results.get_mut(place) {
                    *slot = result;
                }
            }
        }
        results
    }
}
