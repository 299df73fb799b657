//! Topics as Produce and Fetch name them, kept beyond the request's bytes.

use watershed_core::units::TopicId;

use crate::wire::topic_ref::TopicRef;

/// An owned [`TopicRef`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TopicName {
    Name(Box<str>),
    Id(TopicId),
}

impl TopicName {
    pub(crate) fn of(topic: TopicRef<'_>) -> TopicName {
        match topic {
            TopicRef::Name(name) => TopicName::Name(name.into()),
            TopicRef::Id(id) => TopicName::Id(id),
        }
    }

    pub(crate) fn as_ref(&self) -> TopicRef<'_> {
        match self {
            TopicName::Name(name) => TopicRef::Name(name),
            TopicName::Id(id) => TopicRef::Id(*id),
        }
    }
}
