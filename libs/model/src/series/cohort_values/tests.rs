//! Tests of the formats of cohorts: exact round trips, and bytes that this code did not write.

use proptest::{collection, prelude::*};

use super::*;
use crate::series::generate;

/// The values of up to a whole cohort. Some of its runs lack the metric.
fn columns() -> impl Strategy<Value = Vec<Option<[f64; 4]>>> {
    let run =
        proptest::option::of([generate::value(), generate::value(), generate::value(), generate::value()]);
    collection::vec(run, 0..300)
}

fn cohorts() -> impl Strategy<Value = CohortRuns> {
    collection::btree_map(0..=i64::MAX.unsigned_abs(), any::<bool>(), 0..300).prop_map(|runs| {
        let mut cohort = CohortRuns::new(runs.keys().copied().map(RunNumber).collect());
        for (number, is_member) in runs {
            assert!(cohort.set_member(RunNumber(number), is_member));
        }
        cohort
    })
}

proptest! {
    #[test]
    fn cohorts_survive_the_round_trip(cohort in cohorts()) {
        prop_assert_eq!(CohortRuns::decode(&cohort.encode()).unwrap(), cohort);
    }

    #[test]
    fn values_survive_the_round_trip_to_the_bit(runs in columns()) {
        let mut column = CohortColumn::new(runs.len());
        for (at, values) in runs.iter().enumerate() {
            if let Some(values) = values {
                column.set(at, MetricValues(*values));
            }
        }
        let encoded = column.encode();
        let bits = |values: &[f64; 4]| values.map(f64::to_bits);
        for (index, statistic) in MetricStatistic::ALL.into_iter().enumerate() {
            let read = CohortColumn::read(&encoded, statistic).unwrap();
            let read: Vec<_> = read.into_iter().map(|(at, value)| (at, value.to_bits())).collect();
            let expected = runs.iter().enumerate().filter_map(|(at, it)| Some((at, bits(it.as_ref()?)[index])));
            prop_assert_eq!(read, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(mut bytes: Vec<u8>, runs in columns(), at: prop::sample::Index) {
        let check = |bytes: &[u8]| {
            if let Ok(cohort) = CohortRuns::decode(bytes) {
                assert!(cohort.len() <= COHORT_RUNS);
                assert!(cohort.members().count() <= cohort.len());
            }
            for statistic in MetricStatistic::ALL {
                let _: Result<_, FormatError> = CohortColumn::read(bytes, statistic);
            }
        };
        bytes.insert(0, FORMAT);
        check(&bytes);
        // A row that has one damaged byte, or ends early.
        let mut column = CohortColumn::new(runs.len());
        for (place, values) in runs.iter().enumerate() {
            if let Some(values) = values {
                column.set(place, MetricValues(*values));
            }
        }
        let mut damaged = column.encode().to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << (bytes.len() % 8);
        check(&damaged);
        check(&damaged[..at]);
    }
}

#[test]
fn a_cohort_with_more_runs_than_allowed_is_rejected() {
    let numbers = |count: u64| CohortRuns::new((1..=count).map(RunNumber).collect());
    let most = COHORT_RUNS as u64;
    assert_eq!(CohortRuns::decode(&numbers(most).encode()).unwrap().len(), COHORT_RUNS);
    CohortRuns::decode(&numbers(most + 1).encode()).unwrap_err();
    let column = CohortColumn::new(COHORT_RUNS + 1).encode();
    CohortColumn::read(&column, MetricStatistic::Last).unwrap_err();
}
