//! The position up to which a series was sent, for a follower that connects again.
//!
//! Format: the byte 1; the number of the run, the number of edits of its series, and the last step that was
//! sent, each with eight bytes, big-endian; the summary of the series when it was read.

use bytes::Bytes;
use matyan_model::{
    ids::RunNumber,
    series::{StepRange, Summary},
};

use crate::server::error::{Error, Result};

const FORMAT: u8 = 1;

/// The run that had an id when it was read, and the number of edits of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadRun {
    pub(super) number: RunNumber,
    pub(super) edits: u64,
}

/// The part of a series that a follower has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SentSeries {
    pub(super) run: ReadRun,
    /// The whole series when it was read.
    pub(super) whole: Summary,
    /// The points up to this step were sent. This step is lower than the last step of the whole series if the
    /// connection was lost in between.
    pub(super) last_step: i64,
}

impl SentSeries {
    /// A series that is sent completely.
    pub(super) fn whole(run: ReadRun, whole: Summary) -> Self {
        Self { run, whole, last_step: whole.last.step }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.run.number.0.to_be_bytes());
        bytes.extend_from_slice(&self.run.edits.to_be_bytes());
        bytes.extend_from_slice(&self.last_step.to_be_bytes());
        bytes.extend_from_slice(&self.whole.encode());
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes)
            .ok_or_else(|| Error::field("resume", "is invalid: use the positions of previous responses"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (number, rest) = rest.split_first_chunk()?;
        let (edits, rest) = rest.split_first_chunk()?;
        let (last_step, rest) = rest.split_first_chunk()?;
        let run =
            ReadRun { number: RunNumber(u64::from_be_bytes(*number)), edits: u64::from_be_bytes(*edits) };
        Some(Self { run, whole: Summary::decode(rest).ok()?, last_step: i64::from_be_bytes(*last_step) })
    }

    /// The steps of the series up to `last` that were not sent.
    pub(super) fn unsent(&self, last: i64) -> StepRange {
        steps_between(self.last_step, last)
    }

    /// The steps of the series up to `last` that it did not have when it was read.
    pub(super) fn added(&self, last: i64) -> StepRange {
        steps_between(self.whole.last.step, last)
    }
}

/// The steps after `before`, up to `last`.
fn steps_between(before: i64, last: i64) -> StepRange {
    before.checked_add(1).map_or(StepRange::NONE, |first| StepRange::new(first, last))
}

#[cfg(test)]
mod tests {
    use matyan_model::series::{Point, Points};

    use super::*;

    #[test]
    fn only_generated_positions_are_accepted() {
        let mut points = Points::default();
        for step in [3, i64::MAX] {
            points.push(Point { step, value: f64::NAN, epoch: 7, time_us: 8 });
        }
        let whole = Summary::from_points(&points, 0..2).unwrap();
        let run = ReadRun { number: RunNumber(u64::MAX), edits: 5 };
        let sent = SentSeries { last_step: 3, ..SentSeries::whole(run, whole) };
        let read = SentSeries::decode(&sent.encode()).unwrap();
        assert_eq!((read.run, read.last_step, read.encode()), (run, 3, sent.encode()));
        assert!(read.added(i64::MAX).is_empty() && !read.unsent(i64::MAX).is_empty());
        let bytes = sent.encode();
        for end in 0..bytes.len() {
            assert!(SentSeries::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(SentSeries::decode(&[&bytes[..], b"x"].concat()).is_err());
        assert!(SentSeries::decode(&[b"\x02", &bytes[1..]].concat()).is_err());
    }
}
