//! The two rows that every series has: its header, and the summary of its folded points.
//!
//! They are separate so that ingestion, which writes the header when the series is new or its
//! dtype changes, and folding, which writes the summary, never overwrite each other.
//!
//! Format of a header: the byte 1; name, canonical context, and dtype, as strings with their
//! lengths as varints.
//!
//! Format of a summary row: the byte 1; the next chunk id as varint; the summary of all folded
//! points; the byte 0 if none of them are in a sealed chunk, or 1, followed by the lowest base,
//! highest base, and top level of the pyramid, one byte each, and the summary of the points in
//! sealed chunks.

use bytes::Bytes;

use super::pyramid::{MAX_LEVEL, SealedSummary};
use super::summary::{Summary, put_summary, summary};
use super::wire::{FormatError, Input, put_text, put_varint};

const FORMAT: u8 = 1;

/// Identity and type of a metric series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricHeader {
    pub name: String,
    /// Canonical JSON text; empty for no context.
    pub context: String,
    /// Python type name of the last value applied.
    pub dtype: String,
}

impl MetricHeader {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(8 + self.name.len() + self.context.len() + self.dtype.len());
        out.push(FORMAT);
        put_text(&mut out, &self.name);
        put_text(&mut out, &self.context);
        put_text(&mut out, &self.dtype);
        out.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let name = input.text()?;
        let context = input.text()?;
        let dtype = input.text()?;
        input.end()?;
        Ok(Self { name: name.into(), context: context.into(), dtype: dtype.into() })
    }
}

/// Summary row: the state of the folded points of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FoldedSummary {
    pub(crate) next_chunk: u64,
    pub(crate) total: Summary,
    pub(crate) sealed: Option<SealedSummary>,
}

impl FoldedSummary {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.push(FORMAT);
        put_varint(&mut out, self.next_chunk);
        put_summary(&mut out, &self.total);
        match &self.sealed {
            None => out.push(0),
            Some(sealed) => {
                out.extend_from_slice(&[1, sealed.lowest, sealed.highest, sealed.top]);
                put_summary(&mut out, &sealed.summary);
            }
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let next_chunk = input.varint()?;
        let total = summary(&mut input)?;
        let sealed = match input.byte()? {
            0 => None,
            1 => Some(sealed(&mut input)?),
            _ => return Err(FormatError("unknown form of summary row")),
        };
        input.end()?;
        Ok(Self { next_chunk, total, sealed })
    }

    /// The number of points after all sealed chunks.
    pub(crate) fn unsealed_count(&self) -> usize {
        let sealed = self.sealed.map_or(0, |sealed| sealed.summary.count);
        usize::try_from(self.total.count.saturating_sub(sealed)).unwrap_or(usize::MAX)
    }

    /// Decodes the summary of all folded points, and not the rest, which only charts and folds need.
    pub(crate) fn decode_total(bytes: &[u8]) -> Result<Summary, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        input.varint()?;
        summary(&mut input)
    }
}

fn sealed(input: &mut Input<'_>) -> Result<SealedSummary, FormatError> {
    let [lowest, highest, top] = input.array()?;
    let summary = summary(input)?;
    if lowest <= highest && highest <= top && top <= MAX_LEVEL {
        Ok(SealedSummary { summary, lowest, highest, top })
    } else {
        Err(FormatError("levels out of order"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::generate;
    use super::*;

    proptest! {
        #[test]
        fn headers_survive_the_round_trip(name: String, context: String, dtype: String) {
            let header = MetricHeader { name, context, dtype };
            prop_assert_eq!(MetricHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn summary_rows_survive_the_round_trip(points in generate::sorted_points(9), next_chunk: u64, levels in proptest::option::of([0..9_u8, 9..19, 19..MAX_LEVEL + 1])) {
            let Some(total) = Summary::from_points(&points, 0..points.len()) else { return Ok(()) };
            let sealed = levels.map(|[lowest, highest, top]| SealedSummary { summary: total, lowest, highest, top });
            let folded = FoldedSummary { next_chunk, total, sealed };
            let read = FoldedSummary::decode(&folded.encode()).unwrap();
            prop_assert_eq!(read.encode(), folded.encode());
            let alone = FoldedSummary::decode_total(&folded.encode()).unwrap();
            prop_assert_eq!(alone.encode(), total.encode());
            prop_assert_eq!(read.total.steps(), total.steps());
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_rejected(mut bytes: Vec<u8>) {
            bytes.insert(0, FORMAT);
            let _: Result<MetricHeader, FormatError> = MetricHeader::decode(&bytes);
            if let Ok(FoldedSummary { sealed: Some(sealed), .. }) = FoldedSummary::decode(&bytes) {
                prop_assert!(sealed.top <= MAX_LEVEL);
            }
        }
    }
}
