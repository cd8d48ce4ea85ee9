//! Tests of points in rows.

use matyan_wire::rows;
use rand::Rng as _;

use super::*;

/// Rows of neighboring series, whose values are their numbers.
fn rows_of(first: u32, count: u32, steps: &[i64]) -> pb::Points {
    let values: Vec<f64> = steps.iter().flat_map(|_| (first..first + count).map(f64::from)).collect();
    pb::Points {
        steps: steps.to_vec(),
        rows: Some(rows::encode(first, count, &values)),
        ..pb::Points::default()
    }
}

fn names(count: usize) -> Vec<pb::SeriesDef> {
    (0..count).map(|number| series(&format!("series {number}"))).collect()
}

#[test]
fn good_rows_keep_their_bytes() {
    let batch = pb::IngestionBatch {
        series: names(20),
        points: vec![rows_of(0, 20, &[1, 2, 3]), points(&[7]), rows_of(4, 16, &[4])],
        ..Default::default()
    };
    let mut dictionary = Dictionary::default();
    let checked = check_with(&mut dictionary, &batch);
    assert_eq!((checked.bytes.clone(), rejected(checked)), (bytes(&batch), vec![]));
    // Later batches name no series.
    let next = pb::IngestionBatch { points: vec![rows_of(0, 20, &[5])], ..Default::default() };
    let checked = check_with(&mut dictionary, &next);
    assert_eq!((checked.bytes.clone(), rejected(checked)), (bytes(&next), vec![]));
}

#[test]
fn malformed_rows_are_rejected_with_their_field() {
    let good = rows_of(0, 3, &[1, 2]);
    let with = |change: fn(&mut pb::Rows)| {
        let mut group = good.clone();
        change(group.rows.as_mut().unwrap());
        group
    };
    for (group, count, field) in [
        (with(|rows| rows.series_count = 0), 6, "series_count"),
        (with(|rows| rows.series_count = u32::MAX), 6, "series_count"),
        (with(|rows| rows.narrow_values.truncate(23)), 6, "narrow_values"),
        (with(|rows| rows.narrow_values.truncate(20)), 5, "narrow_values"),
        (with(|rows| rows.values = vec![0; 48].into()), 6, "narrow_values"),
        (pb::Points { series: vec![0], ..good.clone() }, 6, "series"),
        (pb::Points { values: vec![0.5; 7], ..good.clone() }, 7, "values"),
        (pb::Points { steps: vec![1, 2, 3], ..good.clone() }, 6, "steps"),
        (pb::Points { epochs: vec![1; 4], ..good.clone() }, 6, "epochs"),
        (pb::Points { times_us: vec![1; 7], ..good.clone() }, 6, "times_us"),
    ] {
        let batch = pb::IngestionBatch {
            series: names(3),
            points: vec![group, points(&[0, 7])],
            ..Default::default()
        };
        let checked = check_alone(&batch);
        assert_eq!(checked.batch.points, [points(&[0])]);
        let expected = [(0, count, field.to_owned()), (count + 1, 1, "series".to_owned())];
        assert_eq!(rejected(checked), expected);
    }
}

#[test]
fn only_points_of_bad_series_are_taken_out_of_rows() {
    let mut definitions = names(4);
    definitions[1].name = "x".repeat(limits::NAME_BYTES + 1);
    // The fifth series is not defined.
    let batch = pb::IngestionBatch {
        series: definitions,
        points: vec![rows_of(0, 5, &[10, 11])],
        ..Default::default()
    };
    let checked = check_alone(&batch);
    let kept = pb::IngestionBatch::decode(checked.bytes.clone()).unwrap();
    assert_eq!(
        kept.points,
        [pb::Points { steps: vec![10, 10, 10, 11, 11, 11], ..points(&[0, 2, 3, 0, 2, 3]) }]
    );
    let field = |name: &str| name.to_owned();
    assert_eq!(
        rejected(checked),
        [(1, 1, field("name")), (4, 1, field("series")), (6, 1, field("name")), (9, 1, field("series"))]
    );
}

/// A record would be larger than the log takes, whenever the client sent the batch again.
#[test]
fn points_of_rows_that_are_too_large_one_by_one_are_rejected() {
    let mut definitions = names(3);
    definitions[1].name = "x".repeat(limits::NAME_BYTES + 1);
    let steps: Vec<i64> = (0..333_000).map(|row| i64::MAX - row).collect();
    let rows = pb::Points { epochs: steps.clone(), times_us: steps.clone(), ..rows_of(0, 3, &steps) };
    let batch = pb::IngestionBatch {
        series: definitions,
        events: vec![tag("t")],
        points: vec![rows],
        ..Default::default()
    };
    assert!(batch.encoded_len() <= limits::BATCH_BYTES);
    let checked = check_alone(&batch);
    assert_eq!((checked.batch.series.len(), checked.batch.points.len()), (3, 0));
    assert!(checked.bytes.len() < 1_000, "{} bytes", checked.bytes.len());
    assert_eq!(rejected(checked), [(0, 999_001, "batch".into())]);
}

#[test]
fn rows_beyond_every_number_are_rejected() {
    for first in [3, u32::MAX - 1, u32::MAX] {
        let mut group = rows_of(0, 3, &[1]);
        group.rows.as_mut().unwrap().first_series = first;
        let batch = pb::IngestionBatch { series: names(3), points: vec![group], ..Default::default() };
        let checked = check_alone(&batch);
        assert_eq!((checked.batch.points.len(), checked.rejections.total()), (0, 3));
    }
}

/// A random group of rows. Some of its series may be bad or not defined.
fn random_rows(random: &mut StdRng) -> pb::Points {
    let first = random.random_range(0..12_u32);
    let width = random.random_range(1..8_u32);
    let row_count = random.random_range(0..4_usize);
    let count = width as usize * row_count;
    let is_narrow = random.random_bool(0.5);
    let value = |random: &mut StdRng| match random.random_range(0..6) {
        0 => f64::NAN,
        1 => -0.0,
        _ if is_narrow => f64::from(random.random_range(-100..100_i32)) / 8.0,
        _ => random.random(),
    };
    let values: Vec<f64> = (0..count).map(|_| value(random)).collect();
    let column = |random: &mut StdRng| {
        let entries = [0, 1, row_count, count][random.random_range(0..4_usize)];
        (0..entries).map(|_| random.random_range(-3..1_000_i64)).collect::<Vec<_>>()
    };
    pb::Points {
        steps: column(random),
        epochs: column(random),
        times_us: column(random),
        rows: Some(rows::encode(first, width, &values)),
        ..pb::Points::default()
    }
}

/// Clients send single points to frontiers that do not know rows.
#[test]
fn rule_138_rows_are_checked_like_the_points_that_older_frontiers_get() {
    let mut random = StdRng::seed_from_u64(138);
    let mut definitions = names(15);
    definitions[4].name = "x".repeat(limits::NAME_BYTES + 1);
    for _ in 0..500 {
        let mut groups: Vec<_> = (0..random.random_range(1..5)).map(|_| random_rows(&mut random)).collect();
        groups.push(points(&[0, 4, 99]));
        let in_rows = pb::IngestionBatch {
            series: definitions.clone(),
            events: vec![tag("t")],
            points: groups,
            ..Default::default()
        };
        let listed = rows::plain_batch(bytes(&in_rows)).unwrap();
        let listed = pb::IngestionBatch::decode(&*listed).unwrap();
        assert!(listed.points.iter().all(|group| group.rows.is_none()));
        let in_rows = check_alone(&in_rows);
        let listed = check_alone(&listed);
        assert_eq!(rows::plain_batch(in_rows.bytes.clone()).unwrap(), listed.bytes);
        assert_eq!(in_rows.rejections, listed.rejections);
    }
}

/// Looking at all 200,000 series of each group would take minutes.
#[test]
fn groups_without_values_take_no_time() {
    let rows =
        pb::Rows { series_count: u32::try_from(limits::SERIES_PER_RUN).unwrap(), ..pb::Rows::default() };
    let group = pb::Points { rows: Some(rows), ..pb::Points::default() };
    let batch = pb::IngestionBatch { points: vec![group; limits::BATCH_EVENTS], ..Default::default() };
    let bad = pb::SeriesDef { context: "[".into(), ..Default::default() };
    let mut dictionary = Dictionary::new(&mut vec![bad; limits::SERIES_PER_RUN]);
    let checked = check_with(&mut dictionary, &batch);
    assert_eq!((checked.batch.points.len(), rejected(checked)), (0, vec![]));
}

#[test]
fn every_value_of_rows_counts_as_an_item() {
    let values = vec![0.5; limits::BATCH_ITEMS + 1];
    let group = pb::Points { rows: Some(rows::encode(0, 1, &values)), ..pb::Points::default() };
    let batch = pb::IngestionBatch { series: names(1), points: vec![group], ..Default::default() };
    let items = u32::try_from(values.len()).unwrap();
    assert_eq!(rejected(check_alone(&batch)), [(0, items, "batch".into())]);
}
