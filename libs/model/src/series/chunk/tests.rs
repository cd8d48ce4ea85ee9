//! Tests of chunks and list rows: exact round trips, and malformed values.

use proptest::prelude::*;

use super::super::{ABSENT, Point, generate};
use super::*;

proptest! {
    #[test]
    fn chunks_survive_the_round_trip(points in generate::sorted_points(400), is_merged: bool) {
        let column_use = if is_merged { ColumnUse::Merged } else { ColumnUse::Kept };
        let bytes = encode(&points, column_use);
        prop_assert_eq!(decode(&bytes, Stamps::Read).unwrap().into_points(), points.clone());
        let skipped = decode(&bytes, Stamps::Skipped).unwrap().into_points();
        let absent = vec![ABSENT; points.len()];
        prop_assert_eq!(skipped, Points { epochs: absent.clone(), times_us: absent, ..points });
    }

    #[test]
    fn list_rows_survive_the_round_trip(points in generate::sorted_points(5), id: u64, bytes: u64, base in proptest::option::of(0..=MAX_LEVEL)) {
        let Some(summary) = Summary::from_points(&points, 0..points.len()) else { return Ok(()) };
        let entry = ChunkEntry { id, bytes, base, summary };
        let read = ChunkEntry::decode(&entry.encode()).unwrap();
        prop_assert_eq!((read.id, read.bytes, read.base, read.steps()), (id, bytes, base, entry.steps()));
        prop_assert_eq!(read.encode(), entry.encode());
    }

    #[test]
    fn damaged_values_are_decoded_or_rejected(
        points in generate::sorted_points(100),
        positions in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&points, ColumnUse::Kept);
        for (position, byte) in positions {
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        let skipped = decode(&bytes, Stamps::Skipped);
        if let Ok(read) = decode(&bytes, Stamps::Read) {
            let read = read.into_points();
            prop_assert!(read.steps.is_sorted_by(|left, right| left < right));
            prop_assert_eq!(skipped.unwrap().into_points().steps, read.steps);
        }
        let _: Result<ChunkEntry, FormatError> = ChunkEntry::decode(&bytes);
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(mut bytes: Vec<u8>) {
        bytes.insert(0, FORMAT);
        for stamps in [Stamps::Read, Stamps::Skipped] {
            if let Ok(read) = decode(&bytes, stamps) {
                prop_assert!(read.len() <= CHUNK_POINTS);
            }
        }
        let _: Result<ChunkEntry, FormatError> = ChunkEntry::decode(&bytes);
    }

    #[test]
    fn groups_cover_the_steps_in_order(points in generate::sorted_points(30), firsts in generate::sorted_points(6)) {
        let entries: Vec<ChunkEntry> = firsts.iter().map(|point| ChunkEntry { id: 0, bytes: 0, base: None, summary: Summary::from_points(&[point].into_iter().collect(), 0..1).unwrap() }).collect();
        let groups = group_by_chunk(&entries, &points.steps);
        prop_assert_eq!(groups.len(), entries.len());
        let mut next = 0;
        for (index, group) in groups.iter().enumerate() {
            prop_assert_eq!(group.start, next);
            next = group.end;
            for step in &points.steps[group.clone()] {
                let owner = firsts.steps.partition_point(|first| first <= step).saturating_sub(1);
                prop_assert_eq!(owner, index);
            }
        }
        prop_assert!(entries.is_empty() || next == points.len());
    }
}

#[test]
fn short_chunks_that_are_merged_are_not_compressed() {
    let sizes = |count: i64| {
        let point = |step: i64| {
            let value = (step as f64 + 0.125).powi(2);
            Point { step, value, epoch: ABSENT, time_us: ABSENT }
        };
        let points: Points = (0..count).map(point).collect();
        [ColumnUse::Kept, ColumnUse::Merged].map(|column_use| encode(&points, column_use).len())
    };
    for count in [1, 63, 1_024] {
        let [kept, merged] = sizes(count);
        assert_eq!(kept, merged, "{count}");
    }
    for count in [64, 1_023] {
        let [kept, merged] = sizes(count);
        assert!(kept < merged, "{count}: {kept} and {merged} bytes");
    }
}

#[test]
fn an_unknown_format_is_rejected() {
    let mut bytes = encode(&Points::default(), ColumnUse::Kept);
    bytes[0] = FORMAT + 1;
    assert!(decode(&bytes, Stamps::Read).is_err());
}

#[test]
fn a_count_over_the_limit_is_rejected_before_any_allocation() {
    let mut bytes = vec![FORMAT];
    put_varint(&mut bytes, u64::MAX);
    assert_eq!(decode(&bytes, Stamps::Read).err(), Some(FormatError("count out of bounds")));
}
