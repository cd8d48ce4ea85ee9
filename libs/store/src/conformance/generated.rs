//! Random sequences of commits, snapshots, and reads, compared with the model. The seed of a
//! failure is printed.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::Instance;
use super::model::Model;
use crate::{Batch, Check, Commit, Durability, Key, Range, Scan, Snapshot, Value, Version};

const SEEDS: u64 = 20;
const STEPS: usize = 200;
/// Older snapshots are dropped, so that none expires during a read on a slow machine.
const FRESH: Duration = Duration::from_secs(2);
/// Few keys, so that operations often collide.
const KEYS: usize = 12;

pub(super) async fn generated_sequences_match_the_model(instance: &mut dyn Instance) {
    let mut sequence =
        Sequence { random: StdRng::seed_from_u64(0), model: Model::default(), versions: vec![] };
    for seed in 0..SEEDS {
        sequence.random = StdRng::seed_from_u64(seed);
        let steps = std::panic::AssertUnwindSafe(sequence.run_steps(instance));
        if let Err(panic) = futures::FutureExt::catch_unwind(steps).await {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
        instance.reopen().await;
        assert_eq!(
            super::rows(instance.store().as_ref(), "").await,
            sequence.all(),
            "reopened after seed {seed}"
        );
        sequence.versions.clear();
    }
}

struct Sequence {
    random: StdRng,
    model: Model,
    /// Versions of commits and snapshots since the last reopening, for checks against past
    /// versions.
    versions: Vec<Version>,
}

impl Sequence {
    async fn run_steps(&mut self, instance: &mut dyn Instance) {
        let store = instance.store();
        let mut views: Vec<(Instant, Box<dyn Snapshot>, Model)> = Vec::new();
        for _ in 0..STEPS {
            views.retain(|(taken, ..)| taken.elapsed() < FRESH);
            match self.random.random_range(0..10) {
                0..5 => self.commit(store.as_ref()).await,
                5 => {
                    let taken = Instant::now();
                    let snapshot = store.snapshot().await.unwrap();
                    self.versions.push(snapshot.version());
                    views.push((taken, snapshot, self.model.clone()));
                }
                6..9 => {
                    if let Some((_, snapshot, model)) = views.choose(&mut self.random) {
                        let range = self.range();
                        let scan = self.scan();
                        let key = self.key();
                        let page = snapshot.scan(&range, scan).await.unwrap();
                        assert_eq!(page, model.page(&range, scan), "{range:?} {scan:?}");
                        assert_eq!(snapshot.get(&key).await.unwrap().as_ref(), model.rows.get(&key));
                    }
                }
                _ => views.truncate(4),
            }
        }
    }

    async fn commit(&mut self, store: &dyn crate::Store) {
        let batch = self.batch();
        let expected = self.model.checks_hold(&batch);
        match store.commit(batch.clone()).await.unwrap() {
            Commit::Done { version, stamp } => {
                assert!(expected, "applied although a check fails: {batch:?}");
                self.model.apply(&batch, version, stamp);
                self.versions.push(version);
            }
            Commit::Conflict => assert!(!expected, "refused although all checks hold: {batch:?}"),
        }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        if self.random.random_bool(0.8) {
            batch.durability = Durability::Buffered;
        }
        for _ in 0..self.random.random_range(0..3) {
            let check = self.check();
            batch.checks.push(check);
        }
        for _ in 0..self.random.random_range(1..6) {
            match self.random.random_range(0..10) {
                0..5 => batch.set(self.key(), self.value()),
                5 => batch.clear(self.key()),
                6 => batch.clear_range(self.range()),
                7..9 => batch.add(self.key(), self.random.random()),
                _ => batch.set_stamped(self.key(), self.key(), self.value()),
            };
        }
        batch
    }

    /// A check, which usually holds.
    fn check(&mut self) -> Check {
        let recent = self.versions.len().saturating_sub(3);
        let since = self.versions[recent..].choose(&mut self.random).copied();
        let key = self.key();
        match (self.random.random_range(0..6), since) {
            (0, _) => Check::Value { key, expected: None },
            (1, Some(since)) => Check::Unchanged { range: self.range(), since },
            _ => Check::Value { expected: self.model.rows.get(&key).cloned(), key },
        }
    }

    fn key(&mut self) -> Key {
        Key::from(format!("k{}", self.random.random_range(0..KEYS)))
    }

    fn value(&mut self) -> Value {
        let length = *[0, 1, 8, 20, 5_000].choose(&mut self.random).expect("not empty");
        vec![self.random.random(); length].into()
    }

    /// A range, sometimes empty or inverted.
    fn range(&mut self) -> Range {
        if self.random.random_bool(0.2) {
            Range::prefix(self.key())
        } else {
            Range::new(self.key(), self.key())
        }
    }

    fn scan(&mut self) -> Scan {
        Scan {
            rows: *[1, 2, 5, usize::MAX].choose(&mut self.random).expect("not empty"),
            bytes: *[0, 30, 6_000, usize::MAX].choose(&mut self.random).expect("not empty"),
            reverse: self.random.random(),
            ..Scan::DEFAULT
        }
    }

    fn all(&self) -> Vec<(Key, Value)> {
        self.model.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
