//! Random sequences of calls, compared with a minimal model of one partition.

use std::sync::Arc;

use super::{
    Fixture, Instance, Shape,
    support::{Random, TestReader, append, range, record},
};
use crate::{Delivery, Error, NewRecord, Topic};

const SEEDS: u64 = 4;
const CALLS: usize = 60;

/// The expected content of the log.
#[derive(Default)]
struct Model {
    first: u64,
    records: Vec<(u64, NewRecord)>,
}

pub(super) async fn generated_sequences_match_the_model(fixture: Arc<dyn Fixture>) {
    for seed in 0..SEEDS {
        let mut log = fixture.create(Shape::default()).await;
        let mut random = Random::new(seed);
        let mut model = Model::default();
        for call in 0..CALLS {
            let name = run_call(&mut *log, &mut model, &mut random).await;
            let (first, end) = range(&*log).await;
            assert_eq!((first, end), (model.first, model.end()), "seed {seed}, call {call}: {name}");
        }
    }
}

async fn run_call(log: &mut dyn Instance, model: &mut Model, random: &mut Random) -> &'static str {
    match random.below(10) {
        0 => {
            log.reopen().await;
            "reopen"
        }
        1 | 2 => {
            let offset = random.below(model.end() + 2);
            log.reader().trim(Topic::Ingestion, 0, offset).await.expect("trimming succeeds");
            model.first = model.first.max(offset.min(model.end()));
            "trim"
        }
        3 => {
            read(log, model, random).await;
            "read"
        }
        4 => {
            start_too_early(log, model).await;
            "start too early"
        }
        _ => {
            write(log, model, random).await;
            "append"
        }
    }
}

fn random_record(random: &mut Random) -> NewRecord {
    let bytes = [0, 10, 5_000, 200_000][random.below(4) as usize];
    let value = random.bytes(bytes);
    NewRecord { value, ..record(format!("run-{}", random.below(3)), "") }
}

async fn write(log: &dyn Instance, model: &mut Model, random: &mut Random) {
    let count = 1 + random.below(20);
    let records: Vec<_> = (0..count).map(|_| random_record(random)).collect();
    let positions = append(log, records.clone()).await;
    for (position, record) in positions.into_iter().zip(records) {
        assert!(position.offset >= model.end(), "an offset was reused");
        model.records.push((position.offset, record));
    }
}

async fn read(log: &dyn Instance, model: &Model, random: &mut Random) {
    let from = model.first + random.below(model.end() - model.first + 1);
    let expected: Vec<_> = model.records.iter().filter(|(offset, _)| *offset >= from).collect();
    let mut reader = TestReader::starting_at(log, &[(0, from)]).await;
    reader.read_count(expected.len()).await;
    for (got, (offset, expected)) in reader.records().iter().zip(expected) {
        assert_eq!((got.offset, &got.key, &got.value), (*offset, &expected.key, &expected.value));
    }
}

async fn start_too_early(log: &dyn Instance, model: &Model) {
    let mut subscription = log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
        panic!("expected an assignment first")
    };
    for requested in model.first.saturating_sub(1)..model.first {
        let error = subscription.start(partition, requested.into()).await.expect_err("the offset is trimmed");
        assert!(matches!(error, Error::Trimmed { .. }), "{error}");
    }
}

impl Model {
    fn end(&self) -> u64 {
        self.records.last().map_or(0, |(offset, _)| offset + 1)
    }
}
