use proptest::prelude::*;

use super::*;

const POSITION: Position = Position { segment: 7, offset: 640 };

fn sample() -> Point {
    Point { series: 3, value: 0.25, step: -5, time: 1_000, epoch: None }
}

#[test]
fn a_point_has_32_bytes_in_a_fixed_order() {
    let record = point(POSITION, &sample());
    let record = record.bytes();
    assert_eq!(record.len(), 32);
    assert_eq!(record[..4], [1, 24, 0, 0]);
    assert_eq!(record[8..16], 0.25_f64.to_le_bytes());
    assert_eq!(record[16..24], (-5_i64).to_le_bytes());
    assert_eq!(record[24..28], 1_000_u32.to_le_bytes());
    assert_eq!(record[28..], 3_u32.to_le_bytes());
    // The checksum is part of the format: spools outlive the version that wrote them.
    assert_eq!(record[4..8], checksum(POSITION, record).to_le_bytes());
}

#[test]
fn zeros_are_the_end_of_a_segment() {
    assert_eq!(read(POSITION, &[0; 64]), Ok(None));
    assert_eq!(read(POSITION, &[]), Ok(None));
}

#[test]
fn a_record_at_another_position_is_damaged() {
    let record = point(POSITION, &sample());
    assert!(read(POSITION, record.bytes()).is_ok());
    let elsewhere = Position { segment: 8, ..POSITION };
    assert_eq!(read(elsewhere, record.bytes()), Err(DamagedRecord));
}

#[test]
fn a_length_beyond_the_segment_is_damaged() {
    let record = event(POSITION, 0, &[1; 100]);
    assert_eq!(read(POSITION, &record[..64]), Err(DamagedRecord));
}

/// Complete records, as the search gets them, at a position this many bytes further on.
fn records_at(gap: usize) -> Vec<Vec<u8>> {
    let at = Position { offset: POSITION.offset + gap as u32, ..POSITION };
    vec![
        point(at, &sample()).bytes().to_vec(),
        point_with_epoch(at, &sample(), 1).bytes().to_vec(),
        time(at, 5).bytes().to_vec(),
        drop(at, 5).bytes().to_vec(),
        event(at, 0, &[]),
        event(at, 9, &[7; 5_000]),
    ]
}

#[test]
fn a_record_is_found_after_lost_ones() {
    for gap in [8, 64, 4_096, 100_000] {
        for record in records_at(gap) {
            let mut bytes = vec![0; gap];
            assert!(!is_followed(POSITION, &bytes));
            bytes.extend(&record);
            bytes.resize(200_000, 0);
            assert!(is_followed(POSITION, &bytes), "{record:?} after {gap} bytes");
            let elsewhere = Position { segment: 8, ..POSITION };
            assert!(!is_followed(elsewhere, &bytes), "the records are of an earlier use of the file");
            // An append that had not ended: the head is stored last.
            bytes[gap..gap + 4].fill(0);
            assert!(!is_followed(POSITION, &bytes), "{record:?} after {gap} bytes");
        }
    }
}

/// Every word of the bytes could be the head of a long event.
#[test]
fn a_search_that_would_take_too_long_counts_as_damage() {
    let head = u64::from(u32::from_le_bytes(head(kind::EVENT, 2 << 20)));
    let bytes: Vec<u8> = std::iter::repeat_n(head.to_le_bytes(), 512 << 10).flatten().collect();
    assert!(is_followed(POSITION, &bytes));
    assert!(!is_followed(POSITION, &bytes[..1 << 20]), "no such event fits");
}

fn any_record() -> impl Strategy<Value = (Vec<u8>, Option<Point>, Vec<u8>)> {
    let points = (any::<u32>(), any::<u64>(), any::<i64>(), any::<u32>(), any::<Option<i64>>());
    let points = points.prop_map(|(series, value, step, time, epoch)| {
        let expected = Point { series, value: f64::from_bits(value), step, time, epoch };
        let record = match epoch {
            None => point(POSITION, &expected).bytes().to_vec(),
            Some(epoch) => point_with_epoch(POSITION, &expected, epoch).bytes().to_vec(),
        };
        (record, Some(expected), Vec::new())
    });
    let events = prop::collection::vec(any::<u8>(), 0..200);
    let events = events.prop_map(|bytes| (event(POSITION, 9, &bytes), None, bytes));
    prop_oneof![points, events]
}

proptest! {
    #[test]
    fn what_is_written_is_read((record, expected, bytes) in any_record()) {
        prop_assert_eq!(record.len() % 8, 0);
        let (found, len) = read(POSITION, &record).unwrap().unwrap();
        prop_assert_eq!(len, record.len());
        match (found, expected) {
            (Record::Point(point), Some(expected)) => {
                prop_assert_eq!(point.value.to_bits(), expected.value.to_bits());
                let same_value = |point: Point| Point { value: 0.0, ..point };
                prop_assert_eq!(same_value(point), same_value(expected));
            }
            (Record::Event { upload, event }, None) => prop_assert_eq!((upload, event), (9, &bytes[..])),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_changed_bit_is_noticed((record, _, bytes) in any_record(), bit in any::<prop::sample::Index>()) {
        // Padding is not part of the record.
        let bits = if bytes.is_empty() { record.len() * 8 } else { (HEAD_BYTES + UPLOAD_BYTES + bytes.len()) * 8 };
        let bit = bit.index(bits);
        let mut damaged = record.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match read(POSITION, &damaged) {
            Err(DamagedRecord) => {}
            // The head became zero, which is the end.
            Ok(None) => prop_assert_eq!(&damaged[..4], &[0; 4]),
            Ok(Some((found, _))) => prop_assert!(false, "{:?}", found),
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(POSITION, &bytes);
    }
}
