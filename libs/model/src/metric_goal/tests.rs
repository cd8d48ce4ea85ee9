//! Tests of goals on the embedded store.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

fn lower() -> GoalFields {
    GoalFields { direction: Some(Direction::Lower), ..GoalFields::default() }
}

#[test]
fn goals_of_people_count_more_than_goals_of_runs() {
    let defined = GoalFields {
        direction: Some(Direction::Higher),
        summary: Some(GoalSummary::Best),
        format: Some(NumberFormat::Percent),
        unit: Some("%".into()),
        x_axis: Some("epoch".into()),
    };
    let goal = MetricGoal { set: lower(), defined: defined.clone(), updated_us: 1 };
    assert_eq!(goal.fields(), GoalFields { direction: Some(Direction::Lower), ..defined });
    assert_eq!(MetricGoal { set: lower(), ..MetricGoal::default() }.fields(), lower());
}

/// The bytes of a goal by programs without an x axis.
#[test]
fn a_goal_without_an_x_axis_is_read() {
    let goal: MetricGoal = minicbor::decode(b"\x83\x84\x01\xf6\xf6\x62ms\x80\x01").unwrap();
    assert_eq!(goal.set, GoalFields { unit: Some("ms".into()), ..lower() });
}

#[test]
fn a_change_has_a_later_time_with_any_clock() {
    let mut goal = MetricGoal { updated_us: 10, ..MetricGoal::default() };
    goal.touch(5);
    assert_eq!(goal.updated_us, 11);
    goal.touch(20);
    assert_eq!(goal.updated_us, 20);
}

#[tokio::test]
async fn goals_are_listed_by_metric_in_their_project() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    for metric in ["val/loss", "acc", "acc\0"] {
        metric_goal_put(&mut batch, P, metric, &MetricGoal { set: lower(), ..MetricGoal::default() });
    }
    metric_goal_put(&mut batch, Project(1), "other", &MetricGoal::default());
    primary_metric_put(&mut batch, P, Some("acc"));
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let listed = metric_goals_list(&*snapshot, P).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["acc", "acc\0", "val/loss"]);
    assert!(listed.iter().all(|(_, goal)| goal.set == lower()));
    assert_eq!(primary_metric_get(&*snapshot, P).await.unwrap().as_deref(), Some("acc"));
    assert_eq!(primary_metric_get(&*snapshot, Project(1)).await.unwrap(), None);
    for (limit, room) in [(5, 2), (4, 1), (3, 0), (2, 0)] {
        assert_eq!(metric_goals_room(&*snapshot, P, limit).await.unwrap(), room, "{limit}");
    }
    let got = metric_goals_get(&*snapshot, P, &["acc", "other", "val/loss"]).await.unwrap();
    assert_eq!(got.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn a_damaged_goal_hides_no_other_goal() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    metric_goal_put(&mut batch, P, "acc", &MetricGoal::default());
    batch.set(keys::metric_goal(P, "loss"), vec![1_u8, 0xff]);
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let listed = metric_goals_list(&*snapshot, P).await.unwrap();
    assert_eq!(listed, [("acc".to_owned(), MetricGoal::default())]);
    let got = metric_goals_get(&*snapshot, P, &["loss", "acc"]).await.unwrap();
    assert_eq!(got, [None, Some(MetricGoal::default())]);
}

/// A goal of a newer program may have a direction that this program does not know.
#[tokio::test]
async fn rule_105_a_damaged_goal_is_replaced() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    batch.set(keys::metric_goal(P, "acc"), vec![1_u8, 0xff]);
    batch.set(keys::primary_metric(P), vec![1_u8, 0xff]);
    store.commit(batch).await.unwrap();
    let replace = async |transaction: &mut Transaction| {
        assert_eq!(metric_goal_load(transaction, P, "acc").await?, None);
        assert_eq!(primary_metric_load(transaction, P).await?, None);
        metric_goal_put(transaction.batch(), P, "acc", &MetricGoal { set: lower(), ..MetricGoal::default() });
        Ok::<_, matyan_store::Error>(())
    };
    store.run(replace).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(metric_goals_list(&*snapshot, P).await.unwrap()[0].1.set, lower());
    assert_eq!(primary_metric_get(&*snapshot, P).await.unwrap(), None);
}

#[tokio::test]
async fn a_project_may_give_its_primary_metric_up() {
    let store = TestStore::open().await;
    for metric in [Some("acc"), None] {
        let mut batch = Batch::default();
        primary_metric_put(&mut batch, P, metric);
        store.commit(batch).await.unwrap();
        let found = primary_metric_get(&*store.snapshot().await.unwrap(), P).await.unwrap();
        assert_eq!(found.as_deref(), metric);
    }
}
