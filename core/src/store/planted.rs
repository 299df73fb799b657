//! Faults that the simulator plants in a store, to prove that it finds them. Outside simulation there are none.

use super::StoreConfig;

/// A fault planted in the store, to prove that the simulator finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Watermarks move before the journal is durable.
    EarlyWatermark,
    /// A checkpoint does not flush the segment files that it relies on.
    SkippedSegmentFlush,
    /// An image is renamed although it was not flushed.
    SkippedImageFlush,
    /// The anchor names an image whose name is not durable.
    SkippedImageSync,
    /// The ring's tail moves to the head instead of what the images need.
    RingReleasedTooEarly,
    /// A large run is acknowledged by its frame alone.
    ReferenceByFrameAlone,
    /// A file is free before the change that drops it is durable.
    FileFreeTooEarly,
    /// An image counts before the changes that it holds are durable.
    ImageBeforeJournal,
    /// An image says that it holds changes that came after it.
    AppliedStampTooHigh,
    /// An image is taken before what lies in front of its journal point is in the files.
    SkippedDrain,
    /// An image leaves out partial blocks.
    LostTail,
    /// An image leaves out idempotent producers.
    ProducersForgotten,
    /// A large run's entry does not tell whose it is.
    OriginForgotten,
    RollNotJournaled,
    DropNotJournaled,
    LogStartNotJournaled,
    /// The driver goes on after a write or a flush that failed.
    ErrorIgnored,
    /// Frames of a new run are written before the anchor that begins it.
    FramesBeforeAnchor,
}

impl Bug {
    pub const ALL: [Bug; 18] = [
        Bug::EarlyWatermark,
        Bug::SkippedSegmentFlush,
        Bug::SkippedImageFlush,
        Bug::SkippedImageSync,
        Bug::RingReleasedTooEarly,
        Bug::ReferenceByFrameAlone,
        Bug::FileFreeTooEarly,
        Bug::ImageBeforeJournal,
        Bug::AppliedStampTooHigh,
        Bug::SkippedDrain,
        Bug::LostTail,
        Bug::ProducersForgotten,
        Bug::OriginForgotten,
        Bug::RollNotJournaled,
        Bug::DropNotJournaled,
        Bug::LogStartNotJournaled,
        Bug::FramesBeforeAnchor,
        Bug::ErrorIgnored,
    ];
}

impl StoreConfig {
    /// Whether this fault is planted.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(any(test, feature = "sim")))]
    pub(super) const fn has_bug(&self, _bug: Bug) -> bool {
        false
    }
}
