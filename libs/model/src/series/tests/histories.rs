//! Random histories: batches with late and repeated steps, folds at any time, and crashes
//! between any two of their transactions.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::harness::{Harness, SERIES};
use crate::branch::{Ancestor, Branch};
use crate::ids::SeriesNumber;
use crate::series::{ABSENT, Point, StepRange, WrittenPoints, generate};
use crate::testing::TestStore;

#[derive(Clone, Debug)]
enum Action {
    /// Many points after the highest step of a series.
    Append {
        series: u32,
        count: usize,
        stride: i64,
        noisy: bool,
    },
    /// Points at arbitrary steps below a bound, most of them repeated or late.
    Scatter {
        points: Vec<(u32, i64, f64, i64, i64)>,
        spread: i64,
    },
    /// Points at arbitrary steps.
    Anywhere {
        points: Vec<(u32, Point)>,
    },
    FoldStep {
        ended: bool,
    },
    FoldAll {
        ended: bool,
    },
    /// The folding task dies.
    Crash,
    /// Steps of a series are removed.
    Remove {
        series: u32,
        steps: StepRange,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let series = 0..SERIES;
    let optional = || prop_oneof![Just(ABSENT), 0..100_i64];
    let scattered = (series.clone(), 0..1_000_000_i64, generate::value(), optional(), optional());
    prop_oneof![
        3 => (series.clone(), prop_oneof![1..300_usize, 1..20_000_usize], 1..20_i64, any::<bool>())
            .prop_map(|(series, count, stride, noisy)| Action::Append { series, count, stride, noisy }),
        3 => (vec(scattered, 1..40), prop_oneof![Just(100), Just(20_000), Just(1_000_000)])
            .prop_map(|(points, spread)| Action::Scatter { points, spread }),
        1 => vec((series, generate::point()), 1..6).prop_map(|points| Action::Anywhere { points }),
        4 => any::<bool>().prop_map(|ended| Action::FoldStep { ended }),
        2 => prop::bool::weighted(0.2).prop_map(|ended| Action::FoldAll { ended }),
        2 => Just(Action::Crash),
        2 => (0..SERIES, prop_oneof![
            (-10..100_000_i64, 0..100_000_i64).prop_map(|(first, count)| StepRange::new(first, first + count)),
            (0..400_000_i64).prop_map(|first| StepRange::new(first, i64::MAX)),
            (0..400_000_i64).prop_map(|last| StepRange::new(i64::MIN, last)),
        ]).prop_map(|(series, steps)| Action::Remove { series, steps }),
    ]
}

fn ranges() -> impl Strategy<Value = Vec<(StepRange, u32)>> {
    let range = prop_oneof![
        Just(StepRange::ALL),
        (-10..200_000_i64, 0..200_000_i64).prop_map(|(first, count)| StepRange::new(first, first + count)),
        (generate::integer(), generate::integer()).prop_map(|(first, last)| StepRange::new(first, last)),
    ];
    let any = (range, prop_oneof![0..20_u32, 0..=63_u32]);
    // Whole buckets, so that the range does not cut any.
    let aligned = (6..14_u32, -2..40_i64, 0..40_i64).prop_map(|(exponent, first, count)| {
        (StepRange::new(first << exponent, ((first + count) << exponent) - 1), exponent)
    });
    vec(prop_oneof![any, aligned], 1..5)
}

fn appended(harness: &Harness<'_>, series: u32, count: usize, stride: i64, noisy: bool) -> WrittenPoints {
    let points = harness.points(SeriesNumber(series), StepRange::ALL);
    let highest = points.last().map_or(0, |last| last.step);
    let mut written = WrittenPoints::default();
    let mut random = count as u64;
    for index in 1..=count as i64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let value = if noisy { noise } else { f64::from((index as f32 * 0.01).sin()) };
        let step = highest.saturating_add(index.saturating_mul(stride));
        let point =
            Point { step, value, epoch: index / 1000, time_us: index * 100_000 + (random >> 52) as i64 };
        written.push(SeriesNumber(series), point);
    }
    written
}

async fn perform(harness: &mut Harness<'_>, action: Action) {
    match action {
        Action::Append { series, count, stride, noisy } => {
            let written = appended(harness, series, count, stride, noisy);
            harness.write(&written).await;
        }
        Action::Scatter { points, spread } => {
            let mut written = WrittenPoints::default();
            for (series, step, value, epoch, time_us) in points {
                written.push(SeriesNumber(series), Point { step: step % spread, value, epoch, time_us });
            }
            harness.write(&written).await;
        }
        Action::Anywhere { points } => {
            let mut written = WrittenPoints::default();
            for (series, point) in points {
                written.push(SeriesNumber(series), point);
            }
            harness.write(&written).await;
        }
        Action::FoldStep { ended } => {
            harness.fold_step(ended).await;
        }
        Action::FoldAll { ended } => {
            harness.fold_all(ended).await;
        }
        Action::Crash => harness.fold = None,
        Action::Remove { series, steps } => harness.remove(SeriesNumber(series), steps).await,
    }
}

async fn play(store: &TestStore, actions: Vec<Action>, ranges: Vec<(StepRange, u32)>) {
    let mut harness = Harness::new(store).await;
    for action in actions {
        perform(&mut harness, action).await;
        harness.verify(&ranges).await;
    }
    harness.fold_all(true).await;
    harness.verify(&ranges).await;
}

/// A run of a chain, in which each is a branch of the previous one.
#[derive(Clone, Debug)]
struct Link {
    last_step: i64,
    shared_series: u32,
    actions: Vec<Action>,
}

fn link() -> impl Strategy<Value = Link> {
    let last_step = prop_oneof![-10..100_000_i64, generate::integer(), Just(i64::MAX)];
    (last_step, 0..=SERIES, vec(action(), 0..6)).prop_map(|(last_step, shared_series, actions)| Link {
        last_step,
        shared_series,
        actions,
    })
}

/// Writes a chain of runs. Only the last run is compared with the expected points.
async fn play_chain(store: &TestStore, chain: Vec<Link>, ranges: Vec<(StepRange, u32)>) {
    let mut parent: Option<(Harness<'_>, Branch)> = None;
    for link in chain {
        let mut harness = Harness::new(store).await;
        for action in link.actions {
            perform(&mut harness, action).await;
        }
        let mut branch = Branch::default();
        if let Some((parent, grandparents)) = parent {
            let ancestor = Ancestor::new(parent.run_ref.number, link.last_step, link.shared_series);
            branch = Branch::of(ancestor, &grandparents).unwrap();
            harness.branch(&branch, parent.model, (link.last_step, link.shared_series)).await;
        }
        parent = Some((harness, branch));
    }
    parent.unwrap().0.verify(&ranges).await;
}

#[test]
fn a_branch_has_the_points_of_its_ancestors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(TestStore::open());
    let cases = Config::default().cases / 2;
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let played = runner.run(&(vec(link(), 2..5), ranges()), |(chain, ranges)| {
        runtime.block_on(play_chain(&store, chain, ranges));
        Ok(())
    });
    played.unwrap();
}

#[test]
fn any_history_reads_like_the_map() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(TestStore::open());
    // Histories are long, so run a quarter of the usual number of cases. PROPTEST_CASES
    // raises it.
    let cases = Config::default().cases / 4;
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let histories = (vec(action(), 1..25), ranges());
    let played = runner.run(&histories, |(actions, ranges)| {
        runtime.block_on(play(&store, actions, ranges));
        Ok(())
    });
    played.unwrap();
}
