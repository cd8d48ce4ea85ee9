//! Tests of levels, bases, and the page codec. The content of the levels is tested along with
//! folding.

use proptest::prelude::*;

use super::super::generate;
use super::*;

#[test]
fn base_levels_have_about_128_points_per_bucket() {
    fn check(count: usize, first: i64, last: i64, level: u8) {
        assert_eq!(
            base_level(count, &StepRange::new(first, last)),
            level,
            "{count} points from {first} to {last}"
        );
    }
    check(16_384, 0, 16_383, 3);
    check(16_384, -8_192, 8_191, 3);
    check(16_384, 0, 163_830, 5);
    check(16_384, 0, 16_383 * 4, 4);
    check(16_384, i64::MIN, i64::MAX, 28);
    check(1, i64::MIN, i64::MAX, 31);
    check(1, 5, 5, 3);
}

#[test]
fn exponents_limit_the_number_of_buckets() {
    fn check(first: i64, last: i64, buckets: usize, exponent: u32) {
        assert_eq!(
            exponent_for(&StepRange::new(first, last), buckets),
            exponent,
            "{buckets} from {first} to {last}"
        );
    }
    check(0, 9_999_999, 1000, 14);
    check(0, 999, 1000, 0);
    check(0, 1000, 1000, 1);
    check(-1, 0, 1, 63 - 63);
    check(i64::MIN, i64::MAX, 2, 63);
    check(i64::MIN, i64::MAX, 0, 63);
}

proptest! {
    #[test]
    fn buckets_are_aligned_and_contain_their_steps(step in generate::integer(), exponent in 0..=63_u32) {
        let steps = bucket_steps(step >> exponent, exponent);
        prop_assert!(steps.contains(step));
        prop_assert_eq!(steps.first >> exponent, steps.last >> exponent);
        prop_assert_eq!(steps.last.wrapping_sub(steps.first) as u64, ((1_u128 << exponent) - 1) as u64);
    }

    #[test]
    fn pages_survive_the_round_trip(points in generate::sorted_points(200), level in 0..=MAX_LEVEL) {
        let mut pages = BTreeMap::<i64, Page>::new();
        for (bucket, summary) in bucket_summaries(&points.curve(), 0..points.len(), exponent(level)) {
            pages.entry(page_number(bucket)).or_default().insert(bucket, summary);
        }
        for (number, page) in pages {
            let read: Page = decode_page(number, &encode_page(&page)).unwrap().into_iter().collect();
            prop_assert_eq!(read.keys().collect::<Vec<_>>(), page.keys().collect::<Vec<_>>());
            prop_assert_eq!(encode_page(&read), encode_page(&page));
        }
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(mut bytes: Vec<u8>, number: i8) {
        bytes.insert(0, FORMAT);
        if let Ok(buckets) = decode_page(number.into(), &bytes) {
            prop_assert!(buckets.iter().all(|(bucket, _)| page_number(*bucket) == i64::from(number)));
            prop_assert!(buckets.is_sorted_by(|left, right| left.0 < right.0));
        }
    }

    #[test]
    fn buckets_summarize_their_points(points in generate::sorted_points(60), exponent in 0..=63_u32) {
        let buckets: Vec<(i64, Summary)> = bucket_summaries(&points.curve(), 0..points.len(), exponent).collect();
        prop_assert!(buckets.is_sorted_by(|left, right| left.0 < right.0));
        prop_assert_eq!(buckets.iter().map(|(_, summary)| summary.count).sum::<u64>(), points.len() as u64);
        for (bucket, summary) in buckets {
            prop_assert!(summary.first.step >> exponent == bucket && summary.last.step >> exponent == bucket);
        }
    }
}
