//! Tests of goals on the embedded store.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

fn lower() -> GoalFields {
    GoalFields { direction: Some(Direction::Lower), ..GoalFields::default() }
}

#[test]
fn what_people_set_counts_more_than_what_runs_define() {
    let defined = GoalFields {
        direction: Some(Direction::Higher),
        summary: Some(GoalSummary::Best),
        format: Some(NumberFormat::Percent),
        unit: Some("%".into()),
    };
    let goal = MetricGoal { set: lower(), defined: defined.clone(), updated_us: 1 };
    assert_eq!(goal.fields(), GoalFields { direction: Some(Direction::Lower), ..defined });
    assert_eq!(MetricGoal { set: lower(), ..MetricGoal::default() }.fields(), lower());
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
    assert!(metric_goals_have_room(&*snapshot, P, 4).await.unwrap());
    assert!(!metric_goals_have_room(&*snapshot, P, 3).await.unwrap());
}

#[tokio::test]
async fn a_damaged_goal_hides_no_other() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    metric_goal_put(&mut batch, P, "acc", &MetricGoal::default());
    batch.set(keys::metric_goal(P, "loss"), vec![1_u8, 0xff]);
    store.commit(batch).await.unwrap();
    let listed = metric_goals_list(&*store.snapshot().await.unwrap(), P).await.unwrap();
    assert_eq!(listed, [("acc".to_owned(), MetricGoal::default())]);
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
