//! How Produce and Fetch name a topic: by name up to version 12, by id from 13.

use watershed_core::units::TopicId;

use super::reader::{Reader, Result};
use super::writer::Writer;

/// The first version of Produce and of Fetch that names topics by id.
const IDS_FROM: i16 = 13;

/// A topic as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicRef<'a> {
    Name(&'a str),
    Id(TopicId),
}

impl<'a> TopicRef<'a> {
    pub(super) fn decode(r: &mut Reader<'a>, version: i16) -> Result<TopicRef<'a>> {
        if version >= IDS_FROM {
            r.uuid("topic_id").map(|id| TopicRef::Id(TopicId(id)))
        } else {
            r.str("topic").map(TopicRef::Name)
        }
    }

    /// A topic named the other way than the version does is written as no topic at all: the empty name, the zero id.
    pub(super) fn encode(self, w: &mut Writer, version: i16) {
        match self {
            TopicRef::Id(id) if version >= IDS_FROM => w.raw(&id.0),
            TopicRef::Name(name) if version < IDS_FROM => w.str(name),
            TopicRef::Name(_) => w.raw(&TopicId::ZERO.0),
            TopicRef::Id(_) => w.str(""),
        }
    }

    /// The fewest bytes of a topic with an empty array: what bounds a count of topics.
    pub(super) fn bytes_min(version: i16, flexible: bool) -> usize {
        match (version >= IDS_FROM, flexible) {
            (true, _) => 16 + 1 + 1,
            (false, true) => 1 + 1 + 1,
            (false, false) => 2 + 4,
        }
    }
}

/// Where the partition's leader is now: told with errors 6, 74 and 75 (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl CurrentLeader {
    pub(super) fn encode(self, w: &mut Writer) {
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.no_tags();
    }
}

/// A broker's address, for the leaders named in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    pub node_id: i32,
    pub host: &'a str,
    pub port: i32,
    pub rack: Option<&'a str>,
}

impl NodeEndpoint<'_> {
    pub(super) fn encode_all(w: &mut Writer, endpoints: &[NodeEndpoint<'_>]) {
        w.array(endpoints, |w, each| {
            w.i32(each.node_id);
            w.str(each.host);
            w.i32(each.port);
            w.nullable_str(each.rack);
            w.no_tags();
        });
    }
}
