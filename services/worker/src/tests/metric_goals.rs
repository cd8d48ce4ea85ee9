//! Tests of goals of metrics that runs define.

use std::sync::atomic::Ordering;

use matyan_model::{
    keys,
    metric_goal::{
        Direction, GoalFields, GoalSummary, MetricGoal, metric_goal_load, metric_goal_put, metric_goals_list,
    },
};
use matyan_proto::limits;
use matyan_store::{Batch, Key, Transaction, transact};

use super::{
    harness::{P, TestEnv, record},
    rows::CountedStore,
};

impl TestEnv {
    async fn goals(&self) -> Vec<(String, MetricGoal)> {
        metric_goals_list(&*self.store().snapshot().await.unwrap(), P).await.unwrap()
    }

    async fn goal(&self, metric: &str) -> MetricGoal {
        let goals = self.goals().await;
        goals.into_iter().find(|(name, _)| name == metric).expect("the metric has a goal").1
    }

    /// Applies a definition of the direction of `acc` by a run.
    async fn define(&self, run: &str, offset: u64, direction: &str) {
        let params = format!(r#"{{"__metrics__": {{"acc": {{"direction": "{direction}"}}}}}}"#);
        self.apply_with(&mut self.writer(run), vec![record(offset).run(run).params(&params)]).await;
    }
}

fn direction(direction: Direction) -> GoalFields {
    GoalFields { direction: Some(direction), ..GoalFields::default() }
}

#[tokio::test]
async fn a_run_defines_goals_in_parts() {
    let env = TestEnv::new().await;
    let first = record(0).params(r#"{"lr": 1, "__metrics__": {"acc": {"direction": "higher"}}}"#);
    let second = record(1).params(r#"{"__metrics__": {"acc": {"summary": "best"}}}"#);
    // In one transaction, which does not see its own writes.
    env.apply(vec![first, second]).await;
    let defined = GoalFields { summary: Some(GoalSummary::Best), ..direction(Direction::Higher) };
    assert_eq!(env.goal("acc").await.defined, defined);
    env.apply(vec![record(2).params(r#"{"__metrics__": {"acc": {"unit": "%"}}}"#)]).await;
    assert_eq!(env.goal("acc").await.defined, GoalFields { unit: Some("%".into()), ..defined });
    assert!(env.read().await.unwrap().params.contains_key("__metrics__"), "it stays a param");
}

#[tokio::test]
async fn the_same_definition_of_another_run_changes_nothing() {
    let env = TestEnv::new().await;
    env.define("r", 0, "higher").await;
    let before = env.goals().await;
    env.define("s", 1, "higher").await;
    assert_eq!(env.goals().await, before);
    env.define("s", 2, "lower").await;
    assert_eq!(env.goal("acc").await.defined, direction(Direction::Lower));
    assert!(env.goal("acc").await.updated_us > before[0].1.updated_us);
}

#[tokio::test]
async fn rule_105_no_run_changes_what_people_have_set() {
    let env = TestEnv::new().await;
    let set = async |mut transaction: Transaction| {
        let mut goal = metric_goal_load(&transaction, P, "acc").await?.unwrap_or_default();
        goal.set = direction(Direction::Lower);
        metric_goal_put(transaction.batch(), P, "acc", &goal);
        Ok::<_, matyan_store::Error>((transaction, ()))
    };
    transact(env.store(), set).await.unwrap();
    env.define("r", 0, "higher").await;
    let goal = env.goal("acc").await;
    assert_eq!((&goal.set, &goal.defined), (&direction(Direction::Lower), &direction(Direction::Higher)));
    assert_eq!(goal.fields(), direction(Direction::Lower));
}

/// Params that define the direction of so many metrics.
fn many(prefix: &str, count: usize) -> String {
    let goal = |number| format!(r#""{prefix}{number}": {{"direction": "higher"}}"#);
    let goals: Vec<String> = (0..count).map(goal).collect();
    format!(r#"{{"lr": 1, "__metrics__": {{{}}}}}"#, goals.join(", "))
}

#[tokio::test]
async fn rule_105_too_many_goals_cost_no_params() {
    let env = TestEnv::new().await;
    let mut batch = Batch::default();
    for number in 0..limits::METRIC_GOALS {
        metric_goal_put(&mut batch, P, &format!("m{number}"), &MetricGoal::default());
    }
    env.store().commit(batch).await.unwrap();
    env.define("r", 0, "higher").await;
    assert_eq!(env.goals().await.len(), limits::METRIC_GOALS);
    assert!(env.read().await.unwrap().params.contains_key("__metrics__"));
    assert!(env.parked().await.is_empty());
    // More than that, in two messages of a transaction. The project's goals are counted once, and not once for each.
    let mut counted = TestEnv::new().await;
    let store = CountedStore::new(&counted, Key::new());
    counted.deps.store = store.clone();
    let first = record(0).params(&many("a", limits::METRIC_GOALS - 1));
    counted.apply(vec![first, record(1).params(&many("b", limits::METRIC_GOALS))]).await;
    assert_eq!(counted.goals().await.len(), limits::METRIC_GOALS);
    let before = store.lookups.load(Ordering::Relaxed);
    store.scans.store(0, Ordering::Relaxed);
    counted.apply(vec![record(2).params(&many("c", limits::METRIC_GOALS))]).await;
    let lookups = store.lookups.load(Ordering::Relaxed) - before;
    let scans = store.scans.load(Ordering::Relaxed);
    assert!(lookups < 100 && scans < 100, "{lookups} lookups and {scans} scans");
    assert_eq!(counted.goals().await.len(), limits::METRIC_GOALS);
    assert!(counted.read().await.unwrap().params.contains_key("lr"));
    assert!(counted.parked().await.is_empty());
    // A goal that exists is still changed.
    env.apply(vec![record(1).params(r#"{"__metrics__": {"m1": {"direction": "higher"}}}"#)]).await;
    assert_eq!(env.goal("m1").await.defined, direction(Direction::Higher));
}

/// A goal that cannot be read, like a goal of a newer program.
#[tokio::test]
async fn rule_105_a_damaged_goal_costs_no_params() {
    let env = TestEnv::new().await;
    let mut batch = Batch::default();
    batch.set(keys::metric_goal(P, "acc"), vec![1_u8, 0xff]);
    env.store().commit(batch).await.unwrap();
    env.define("r", 0, "higher").await;
    assert!(env.read().await.unwrap().params.contains_key("__metrics__"));
    assert!(env.parked().await.is_empty());
    assert_eq!(env.goal("acc").await.defined, direction(Direction::Higher));
}
