//! Contents of the runs of a project. They are a function of the seed and the run's index, so
//! that the results of queries are known.

use matyan_model::{
    ids::SeriesNumber,
    series::{ABSENT, Point, WrittenPoints},
};
use matyan_value::{Map, Value};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Content, PARAMS, SERIES};

/// 2025-01-01. Runs are five minutes apart, so that 100,000 of them fill most of a year.
const FIRST_US: i64 = 1_735_689_600_000_000;
const APART_US: i64 = 300_000_000;

/// Number of params of each type; the rest are floats.
const INTEGERS: usize = 50;
const TEXTS: usize = 30;
const BOOLS: usize = 20;

pub(super) fn random(content: Content, index: u64) -> StdRng {
    StdRng::seed_from_u64(content.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index)
}

pub(super) fn created_us(index: u64) -> i64 {
    FIRST_US + index.cast_signed() * APART_US
}

/// 200 params: `hparams.seed` is the index of the run, `hparams.shard` is for index lookups.
pub(super) fn params(content: Content, index: u64, random: &mut StdRng) -> Map {
    let mut hparams: Map = [
        ("seed", Value::Integer(index.cast_signed())),
        ("shard", Value::Integer(random.random_range(0..content.shards()).cast_signed())),
        ("lr", Value::Float(10_f64.powf(random.random_range(-6.0..-1.0)))),
        ("batch_size", Value::Integer(1 << random.random_range(4..10))),
        ("optimizer", Value::Text(["adam", "sgd", "lion"][random.random_range(0..3)].to_owned())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let floats = PARAMS - hparams.len() - INTEGERS - TEXTS - BOOLS;
    hparams.extend((0..floats).map(|at| (format!("rate_{at:02}"), Value::Float(random.random()))));
    let model =
        (0..INTEGERS).map(|at| (format!("units_{at:02}"), Value::Integer(random.random_range(0..4096))));
    let model = model.collect();
    let data = (0..TEXTS).map(|at| {
        (format!("source_{at:02}"), Value::Text(format!("shard-{:03}", random.random_range(0..200))))
    });
    let data = data.collect();
    let flags = (0..BOOLS).map(|at| (format!("use_{at:02}"), Value::Bool(random.random())));
    let flags = flags.collect();
    [("hparams", hparams), ("model", model), ("data", data), ("flags", flags)]
        .map(|(name, map)| (name.to_owned(), Value::Map(map)))
        .into()
}

/// Name and context of a series. Every name occurs in two contexts.
pub(super) fn series(number: u32) -> (String, &'static str) {
    let subset = if number.is_multiple_of(2) { r#"{"subset": "train"}"# } else { r#"{"subset": "val"}"# };
    (format!("metric_{:02}", number / 2), subset)
}

/// Falling curves with noise. All series are logged together.
pub(super) fn points(content: Content, index: u64, random: &mut StdRng) -> WrittenPoints {
    let mut written = WrittenPoints::default();
    for step in 0..i64::from(content.points) {
        let time_us = created_us(index) + step * 10_000;
        for number in 0..SERIES {
            let noise = random.random::<f32>() * 0.1;
            let value = f64::from(2.0 / (1.0 + step as f32 / 500.0) + noise);
            written.push(SeriesNumber(number), Point { step, value, epoch: ABSENT, time_us });
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_function_of_seed_and_index() {
        let content = Content::of_runs(1_000);
        let params = |content, index| super::params(content, index, &mut random(content, index));
        let first = params(content, 7);
        assert_eq!(first, params(content, 7));
        assert_ne!(first, params(content, 8));
        assert_ne!(first, params(Content { seed: 2, ..content }, 7));
        let count: usize = first.values().map(|group| group.as_map().unwrap().len()).sum();
        assert_eq!(count, PARAMS);
    }
}
