//! Tests of the job that logs points of trials.

use std::sync::Arc;

use matyan_log::{LogInspector as _, Topic};
use matyan_model::{
    keys::TrialPointKind,
    study::{
        Direction, Study, Trial, TrialRun, TrialState, UnloggedMark, intermediate_value_put, study_create,
        trial_add,
    },
};
use matyan_store::{Transaction, transact};
use tokio_util::sync::CancellationToken;

use super::harness::{FullLog, P, TestEnv, record};
use crate::trial_points::append_marked_points;

impl TestEnv {
    /// Writes a trial of run `r` that has ended, like a backend that is killed before it logs anything.
    async fn add_ended_trial(&self, values: &[(i64, f64)]) {
        let number = self.read_run("r").await.unwrap().number;
        let study = Study {
            name: "s".into(),
            directions: vec![Direction::Minimize],
            created_us: 1,
            experiment: "e".into(),
        };
        let trial = Trial {
            state: TrialState::Complete,
            values: vec![0.5],
            started_us: Some(1),
            finished_us: Some(2),
            run: Some(TrialRun { number: number.0, id: "r".into() }),
        };
        let add = async |mut transaction: Transaction| {
            let study = study_create(&mut transaction, P, &study).await.unwrap();
            let number = trial_add(&mut transaction, P, study, &trial).await.unwrap();
            for (step, value) in values {
                intermediate_value_put(transaction.batch(), P, (study, number), *step, *value);
            }
            for kind in TrialPointKind::ALL {
                UnloggedMark { study, number, kind }.put(transaction.batch(), P);
            }
            Ok::<_, matyan_store::Error>((transaction, ()))
        };
        transact(self.store(), add).await.unwrap();
    }
}

#[tokio::test]
async fn rule_101_what_a_backend_did_not_log_is_logged_once_by_a_worker() {
    let mut env = TestEnv::new().await;
    env.append([record(0).create()]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    env.add_ended_trial(&[(-3, 1.5), (7, f64::NAN)]).await;

    let stop = CancellationToken::new();
    let log = std::mem::replace(&mut env.deps.log_writer, Arc::new(FullLog));
    append_marked_points(&env.deps, &stop).await.unwrap_err();
    env.deps.log_writer = log;
    for _ in 0..2 {
        append_marked_points(&env.deps, &stop).await.unwrap();
    }
    env.applied(0, 2).await;
    assert_eq!(env.log.describe(Topic::Ingestion).await.unwrap().partitions[0].end, 3, "one record for each");
    let values = env.points("intermediate_value").await;
    assert_eq!((values.len(), values[0]), (2, (-3, 1.5)));
    assert!(values[1].0 == 7 && values[1].1.is_nan());
    assert_eq!(env.points("value").await, [(0, 0.5)]);
    worker.stop().await.unwrap();
}
