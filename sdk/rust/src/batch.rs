//! Encoding of batches. The same records always make the same items, in every version of this
//! library: a batch that is sent again must equal the batch that the server may have. Points that earlier
//! versions sent one by one may be in rows: the server recognizes a repeated batch by its sequence.
//!
//! An `IngestionBatch` is written field by field, as protobuf prescribes: new definitions and their
//! base, the events as they were appended, then the points, usually in one group. Columns that the group can
//! do without are left out: steps if the server assigns all of them, epochs if there are none. Values of many
//! series that were tracked at one step form groups of rows, which have no numbers of series. Servers that do not
//! know rows get the same points one by one (`sender/outbox.rs`).

use bytes::BufMut as _;
use matyan_proto::{
    ABSENT,
    ingest::v1::{Event, Points, SeriesDef, event::Kind},
};
use matyan_wire::row_groups;
use prost::{
    Message as _,
    encoding::{self, WireType},
};

use crate::spool::record::Point;

/// Field numbers of `IngestionBatch`.
mod batch_field {
    pub(super) const SERIES: u32 = 1;
    pub(super) const SERIES_BASE: u32 = 2;
    pub(super) const EVENTS: u32 = 3;
    pub(super) const POINTS: u32 = 4;
}

/// Field numbers of `Points`.
mod points_field {
    pub(super) const SERIES: u32 = 1;
    pub(super) const VALUES: u32 = 2;
    pub(super) const STEPS: u32 = 3;
    pub(super) const EPOCHS: u32 = 4;
    pub(super) const TIMES_US: u32 = 5;
}

/// Bytes that a point has at most in practice: a value, a time, a small step and number.
const POINT_BYTES: usize = 24;

/// An encoded `IngestionBatch`.
#[derive(Debug)]
pub(crate) struct EncodedBatch {
    pub(crate) bytes: Vec<u8>,
    /// Whether points in it are in rows.
    pub(crate) has_rows: bool,
}

/// Events and points of one batch.
#[derive(Debug, Default)]
pub(crate) struct BatchEncoder {
    /// Encoded field `events`.
    events: Vec<u8>,
    event_count: u32,
    /// With an entry for each point in every column.
    points: Points,
    has_steps: bool,
    has_epochs: bool,
    first_us: Option<i64>,
}

impl BatchEncoder {
    /// Adds a point whose time is absolute.
    #[inline]
    pub(crate) fn add_point(&mut self, point: &Point, time_us: i64) {
        self.points.series.push(point.series);
        self.points.values.push(point.value);
        self.points.steps.push(point.step);
        self.points.epochs.push(point.epoch.unwrap_or(ABSENT));
        self.points.times_us.push(time_us);
        self.has_steps |= point.step != ABSENT;
        self.has_epochs |= point.epoch.is_some();
        self.first_us.get_or_insert(time_us);
    }

    /// Adds an encoded event. `first_line` is added to the step of a terminal line.
    pub(crate) fn add_event(&mut self, event: &[u8], first_line: i64, time_us: i64) {
        encoding::encode_key(batch_field::EVENTS, WireType::LengthDelimited, &mut self.events);
        let shifted = if first_line == 0 { None } else { shifted_line(event, first_line) };
        let event = shifted.as_deref().unwrap_or(event);
        encoding::encode_varint(event.len() as u64, &mut self.events);
        self.events.put_slice(event);
        self.event_count += 1;
        self.first_us.get_or_insert(time_us);
    }

    /// Approximate size when encoded, without definitions.
    pub(crate) fn size(&self) -> usize {
        self.events.len() + self.points.values.len() * POINT_BYTES
    }

    /// Number of events and points.
    pub(crate) fn items(&self) -> u32 {
        self.event_count + self.points.values.len() as u32
    }

    pub(crate) fn events(&self) -> u32 {
        self.event_count
    }

    /// Time of the first item.
    pub(crate) fn first_us(&self) -> Option<i64> {
        self.first_us
    }

    /// Encodes the batch with new definitions, which are numbered from `base`.
    pub(crate) fn encode(&self, base: u32, definitions: &[SeriesDef]) -> EncodedBatch {
        let mut batch = Vec::with_capacity(self.size() + 64 * definitions.len() + 64);
        encoding::message::encode_repeated(batch_field::SERIES, definitions, &mut batch);
        if base != 0 && !definitions.is_empty() {
            encoding::uint32::encode(batch_field::SERIES_BASE, &base, &mut batch);
        }
        batch.extend_from_slice(&self.events);
        let segments = row_groups::segments(&self.points);
        let has_rows = segments.iter().any(|segment| segment.width.is_some());
        if has_rows {
            for segment in &segments {
                let group = row_groups::group(&self.points, segment);
                encoding::message::encode(batch_field::POINTS, &group, &mut batch);
            }
        } else if !self.points.values.is_empty() {
            let points = self.encode_points();
            encoding::encode_key(batch_field::POINTS, WireType::LengthDelimited, &mut batch);
            encoding::encode_varint(points.len() as u64, &mut batch);
            batch.extend_from_slice(&points);
        }
        EncodedBatch { bytes: batch, has_rows }
    }

    fn encode_points(&self) -> Vec<u8> {
        let Points { series, values, steps, epochs, times_us, .. } = &self.points;
        let mut points = Vec::with_capacity(values.len() * POINT_BYTES + 32);
        encoding::uint32::encode_packed(points_field::SERIES, series, &mut points);
        encoding::double::encode_packed(points_field::VALUES, values, &mut points);
        if self.has_steps {
            encoding::sint64::encode_packed(points_field::STEPS, steps, &mut points);
        }
        if self.has_epochs {
            encoding::sint64::encode_packed(points_field::EPOCHS, epochs, &mut points);
        }
        encoding::sint64::encode_packed(points_field::TIMES_US, times_us, &mut points);
        points
    }
}

/// Returns whether an encoded event is a terminal line.
pub(crate) fn is_terminal_line(event: &[u8]) -> bool {
    Event::decode(event).is_ok_and(|event| matches!(event.kind, Some(Kind::LogTerminalLine(_))))
}

/// Returns a terminal line with a later step, and `None` for any other event.
fn shifted_line(event: &[u8], first_line: i64) -> Option<Vec<u8>> {
    let mut event = Event::decode(event).ok()?;
    let Some(Kind::LogTerminalLine(line)) = &mut event.kind else { return None };
    line.step = line.step.saturating_add(first_line);
    Some(event.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::{AddTag, IngestionBatch, LogTerminalLine};
    use matyan_wire::rows;

    use super::*;

    fn point(series: u32, step: i64, epoch: Option<i64>) -> Point {
        Point { series, value: 0.5, step, time: 0, epoch }
    }

    fn decode(encoder: &BatchEncoder, base: u32, definitions: &[SeriesDef]) -> IngestionBatch {
        let EncodedBatch { bytes, has_rows } = encoder.encode(base, definitions);
        let batch = IngestionBatch::decode(&*bytes).unwrap();
        assert_eq!(batch.encode_to_vec(), bytes, "the fields are in canonical order");
        assert_eq!(batch.points.iter().any(|group| group.rows.is_some()), has_rows);
        batch
    }

    #[test]
    fn a_batch_has_definitions_events_and_points() {
        let event = Event { client_time_us: Some(1), kind: Some(Kind::AddTag(AddTag { name: "a".into() })) };
        let definition = SeriesDef { name: "loss".into(), ..SeriesDef::default() };
        let mut encoder = BatchEncoder::default();
        encoder.add_point(&point(7, 3, None), 100);
        encoder.add_event(&event.encode_to_vec(), 0, 101);
        encoder.add_point(&point(8, 4, Some(2)), 102);
        let batch = decode(&encoder, 7, std::slice::from_ref(&definition));
        assert_eq!(
            batch,
            IngestionBatch {
                series: vec![definition],
                series_base: 7,
                events: vec![event],
                points: vec![Points {
                    series: vec![7, 8],
                    values: vec![0.5, 0.5],
                    steps: vec![3, 4],
                    epochs: vec![i64::MIN, 2],
                    times_us: vec![100, 102],
                    ..Points::default()
                }],
            }
        );
        assert_eq!((encoder.items(), encoder.first_us()), (3, Some(100)));
    }

    #[test]
    fn steps_of_many_series_are_rows() {
        let mut encoder = BatchEncoder::default();
        encoder.add_point(&point(3, 0, None), 99);
        for step in 1..4 {
            for series in 0..100 {
                encoder.add_point(&point(series, step, None), 100 + step);
            }
        }
        encoder.add_point(&point(7, 4, Some(2)), 104);
        let batch = decode(&encoder, 0, &[]);
        let [first, rows, last] = &batch.points[..] else { panic!("{:?}", batch.points) };
        assert_eq!((&first.series[..], &last.series[..], &last.epochs[..]), (&[3][..], &[7][..], &[2][..]));
        assert_eq!((&rows.steps[..], &rows.times_us[..]), (&[1, 2, 3][..], &[101, 102, 103][..]));
        let values = rows.rows.as_ref().unwrap();
        assert_eq!((values.first_series, values.series_count, values.narrow_values.len()), (0, 100, 1_200));
        let items = batch.points.iter().map(rows::count).sum::<usize>();
        assert_eq!((items, encoder.items()), (302, 302));
    }

    #[test]
    fn columns_without_values_are_left_out() {
        let mut encoder = BatchEncoder::default();
        encoder.add_point(&point(0, i64::MIN, None), 1);
        let batch = decode(&encoder, 0, &[]);
        assert!(batch.points[0].steps.is_empty() && batch.points[0].epochs.is_empty());
    }

    #[test]
    fn only_terminal_lines_are_shifted() {
        let line = |step| Event {
            client_time_us: None,
            kind: Some(Kind::LogTerminalLine(LogTerminalLine { line: "x".into(), step })),
        };
        let tag = Event { client_time_us: None, kind: Some(Kind::AddTag(AddTag { name: "a".into() })) };
        let mut encoder = BatchEncoder::default();
        encoder.add_event(&line(2).encode_to_vec(), 40, 1);
        encoder.add_event(&tag.encode_to_vec(), 40, 1);
        assert_eq!(decode(&encoder, 0, &[]).events, [line(42), tag]);
    }
}
