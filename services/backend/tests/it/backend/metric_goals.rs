//! Goals of metrics: what people set, what runs define, and the primary metric.

use matyan_model::{
    ids::Project,
    keys,
    metric_goal::{MetricGoal, metric_goal_put},
};
use matyan_proto::{
    backup::v1::{
        self as backup, ReadProjectRequest, RestoreProjectRequest, Settings,
        backup_service_client::BackupServiceClient, read_project_response::Content,
    },
    ingest::v1::event::Kind,
    limits,
    metrics::v1::{
        Goal, GoalDirection, GoalSummary, ListGoalsRequest, NumberFormat, UpdateGoalRequest,
        metric_service_client::MetricServiceClient,
    },
};
use matyan_store::{Batch, Store as _};
use tonic::{Code, Status};

use crate::backend::{
    harness::{Harness, all, create, params, wrong_field},
    projects::of,
};

impl Harness {
    async fn goals(&self, project: &str) -> Vec<Goal> {
        let mut client = MetricServiceClient::new(self.routes());
        client.list_goals(of(project, ListGoalsRequest {})).await.unwrap().into_inner().goals
    }

    async fn update_goal(&self, change: UpdateGoalRequest) -> Result<Goal, Status> {
        let mut client = MetricServiceClient::new(self.routes());
        Ok(client.update_goal(of("", change)).await?.into_inner().goal.unwrap())
    }

    /// Names of the primary metrics. A project has at most one.
    async fn primary(&self) -> Vec<String> {
        self.goals("").await.into_iter().filter(|goal| goal.primary).map(|goal| goal.name).collect()
    }
}

fn change(name: &str) -> UpdateGoalRequest {
    UpdateGoalRequest { name: name.into(), ..Default::default() }
}

fn direction(name: &str, direction: GoalDirection) -> UpdateGoalRequest {
    UpdateGoalRequest { direction: Some(direction.into()), ..change(name) }
}

#[tokio::test]
async fn a_goal_is_set_in_parts_and_forgotten() {
    let harness = Harness::new().await;
    assert!(harness.goals("").await.is_empty());
    let first = UpdateGoalRequest {
        summary: Some(GoalSummary::Best.into()),
        unit: Some(" % ".into()),
        x_axis: Some("epoch".into()),
        ..direction("val/acc", GoalDirection::Higher)
    };
    harness.update_goal(first).await.unwrap();
    let format = UpdateGoalRequest { format: Some(NumberFormat::Percent.into()), ..change("val/acc") };
    let goal = harness.update_goal(format).await.unwrap();
    let expected = Goal {
        name: "val/acc".into(),
        direction: GoalDirection::Higher.into(),
        summary: GoalSummary::Best.into(),
        format: NumberFormat::Percent.into(),
        unit: "%".into(),
        primary: false,
        updated_us: goal.updated_us,
        x_axis: "epoch".into(),
    };
    assert_eq!(goal, expected);
    assert_eq!(harness.goals("").await, [expected]);
    let forget = UpdateGoalRequest {
        summary: Some(GoalSummary::Unspecified.into()),
        format: Some(NumberFormat::Unspecified.into()),
        unit: Some(String::new()),
        x_axis: Some(String::new()),
        ..direction("val/acc", GoalDirection::Unspecified)
    };
    harness.update_goal(forget).await.unwrap();
    assert!(harness.goals("").await.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn rule_105_what_people_set_counts_more_than_what_runs_define() {
    let harness = Harness::new().await;
    harness
        .log("r", [create(), params(r#"{"__metrics__": {"gsm8k": {"direction": "higher", "unit": "%"}}}"#)])
        .await;
    harness.applied().await;
    let defined = harness.goals("").await.remove(0);
    assert_eq!((defined.direction(), defined.unit.as_str()), (GoalDirection::Higher, "%"));
    let set = harness.update_goal(direction("gsm8k", GoalDirection::Lower)).await.unwrap();
    assert_eq!((set.direction(), set.unit.as_str()), (GoalDirection::Lower, "%"));
    let again: [Kind; 1] = [params(r#"{"__metrics__": {"gsm8k": {"direction": "higher", "unit": "pp"}}}"#)];
    harness.log("r", again).await;
    harness.applied().await;
    let goal = harness.goals("").await.remove(0);
    assert_eq!((goal.direction(), goal.unit.as_str()), (GoalDirection::Lower, "pp"));
    // Once people's choice is removed, the definition applies again.
    let goal = harness.update_goal(direction("gsm8k", GoalDirection::Unspecified)).await.unwrap();
    assert_eq!(goal.direction(), GoalDirection::Higher);
    harness.end().await;
}

#[tokio::test]
async fn a_project_has_one_primary_metric() {
    let harness = Harness::new().await;
    harness.create_project("other").await;
    let choose = |name: &str, primary| UpdateGoalRequest { primary: Some(primary), ..change(name) };
    assert!(harness.update_goal(choose("acc", true)).await.unwrap().primary);
    assert_eq!(harness.primary().await, ["acc"]);
    harness.update_goal(choose("loss", true)).await.unwrap();
    assert_eq!(harness.primary().await, ["loss"]);
    // The goal is not the primary one, so nothing is given up.
    harness.update_goal(choose("acc", false)).await.unwrap();
    assert_eq!(harness.primary().await, ["loss"]);
    harness.update_goal(choose("loss", false)).await.unwrap();
    assert!(harness.primary().await.is_empty());
    assert!(harness.goals("other").await.is_empty());
    harness.end().await;
}

/// Each of two people has seen the same primary metric, and chooses another one.
#[tokio::test]
async fn rule_105_two_people_do_not_overwrite_each_others_primary_metric() {
    let harness = Harness::new().await;
    let choose = |name: &str, if_primary: &str| UpdateGoalRequest {
        primary: Some(true),
        if_updated_us: Some(0),
        if_primary: Some(if_primary.into()),
        ..change(name)
    };
    harness.update_goal(choose("loss", "")).await.unwrap();
    // The goal of `acc` has not changed since it was read, but the choice has.
    let refused = harness.update_goal(choose("acc", "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert!(refused.message().contains("is now `loss`"), "{}", refused.message());
    assert_eq!(harness.primary().await, ["loss"]);
    harness.update_goal(choose("acc", "loss")).await.unwrap();
    let names: Vec<String> = harness.goals("").await.into_iter().map(|goal| goal.name).collect();
    assert_eq!(names, ["acc"], "the former goal states nothing, so it is removed");
    // A goal that states something is kept.
    harness.update_goal(direction("acc", GoalDirection::Higher)).await.unwrap();
    harness.update_goal(choose("loss", "acc")).await.unwrap();
    assert_eq!(harness.goals("").await.len(), 2);
    assert_eq!(harness.primary().await, ["loss"]);
    harness.end().await;
}

/// A client sees the current choice, which a request for another choice has to name.
#[tokio::test]
async fn rule_105_a_primary_metric_with_a_damaged_goal_is_listed_and_replaced() {
    let harness = Harness::new().await;
    for name in ["acc", "loss"] {
        let primary = Some(name == "acc");
        harness
            .update_goal(UpdateGoalRequest { primary, ..direction(name, GoalDirection::Lower) })
            .await
            .unwrap();
    }
    let mut batch = Batch::default();
    batch.set(keys::metric_goal(Project(0), "acc"), vec![1_u8, 0xff]);
    harness.store.commit(batch).await.unwrap();
    let goals = harness.goals("").await;
    assert_eq!(goals[0], Goal { name: "acc".into(), primary: true, ..Goal::default() });
    assert_eq!((goals.len(), goals[1].primary), (2, false));
    let choose = UpdateGoalRequest { primary: Some(true), if_primary: Some("acc".into()), ..change("loss") };
    harness.update_goal(choose).await.unwrap();
    assert_eq!(harness.primary().await, ["loss"]);
    harness.end().await;
}

#[tokio::test]
async fn two_tabs_do_not_overwrite_a_goal() {
    let harness = Harness::new().await;
    let conditional = |direction: GoalDirection, if_updated_us| UpdateGoalRequest {
        direction: Some(direction.into()),
        if_updated_us: Some(if_updated_us),
        ..change("m")
    };
    harness.advance_clock(-60);
    let first = harness.update_goal(conditional(GoalDirection::Lower, 0)).await.unwrap();
    for read_us in [0, first.updated_us - 1] {
        let refused = harness.update_goal(conditional(GoalDirection::Higher, read_us)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        assert!(refused.message().contains("goal of metric `m`"), "{}", refused.message());
    }
    let second = harness.update_goal(conditional(GoalDirection::Higher, first.updated_us)).await.unwrap();
    assert!(second.updated_us > first.updated_us);
    harness.end().await;
}

#[tokio::test]
async fn a_wrong_change_of_a_goal_names_its_field() {
    let harness = Harness::new().await;
    let long = "m".repeat(limits::NAME_BYTES + 1);
    let unit = Some("u".repeat(limits::UNIT_BYTES + 1));
    for (wrong, field) in [
        (change(""), "name"),
        (change(&long), "name"),
        (UpdateGoalRequest { direction: Some(9), ..change("m") }, "direction"),
        (UpdateGoalRequest { summary: Some(9), ..change("m") }, "summary"),
        (UpdateGoalRequest { format: Some(-1), ..change("m") }, "format"),
        (UpdateGoalRequest { unit, ..change("m") }, "unit"),
        (UpdateGoalRequest { x_axis: Some("m".into()), ..change("m") }, "x_axis"),
        (UpdateGoalRequest { x_axis: Some(long.clone()), ..change("m") }, "x_axis"),
    ] {
        wrong_field(harness.update_goal(wrong).await, field);
    }
    assert!(harness.goals("").await.is_empty());
    harness.end().await;
}

impl Harness {
    /// The settings of a project as a backup has them.
    async fn saved_settings(&self) -> Settings {
        let mut client = BackupServiceClient::new(self.routes());
        let pieces = all(client.read_project(ReadProjectRequest {}).await.unwrap()).await;
        let found = pieces.into_iter().find_map(|piece| match piece.content {
            Some(Content::Settings(settings)) => Some(settings),
            _ => None,
        });
        found.expect("a backup has settings")
    }

    async fn restore_settings(&self, project: &str, settings: Settings) -> Result<(), Status> {
        let request = RestoreProjectRequest { settings: Some(settings), ..Default::default() };
        BackupServiceClient::new(self.routes()).restore_project(of(project, request)).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_restore_brings_goals_back_and_keeps_those_of_the_project() {
    let harness = Harness::new().await;
    harness.create_project("copy").await;
    harness.log("r", [create(), params(r#"{"__metrics__": {"acc": {"direction": "lower"}}}"#)]).await;
    harness.applied().await;
    let acc = UpdateGoalRequest { primary: Some(true), ..direction("acc", GoalDirection::Higher) };
    harness.update_goal(acc).await.unwrap();
    harness.update_goal(direction("loss", GoalDirection::Lower)).await.unwrap();
    let settings = harness.saved_settings().await;
    let mut client = MetricServiceClient::new(harness.routes());
    client.update_goal(of("copy", direction("loss", GoalDirection::Higher))).await.unwrap();

    for _ in 0..2 {
        harness.restore_settings("copy", settings.clone()).await.unwrap();
        let goals = harness.goals("copy").await;
        let found: Vec<_> =
            goals.iter().map(|goal| (goal.name.as_str(), goal.direction(), goal.primary)).collect();
        let expected = [("acc", GoalDirection::Higher, true), ("loss", GoalDirection::Higher, false)];
        assert_eq!(found, expected);
    }
    // The definition of the run was kept under the choice of people.
    let forget = of("copy", direction("acc", GoalDirection::Unspecified));
    let goal = client.update_goal(forget).await.unwrap().into_inner().goal.unwrap();
    assert_eq!(goal.direction(), GoalDirection::Lower);

    let mut wrong = settings;
    wrong.metric_goals[0].set.as_mut().unwrap().direction = 9;
    wrong_field(harness.restore_settings("copy", wrong).await, "settings.metric_goals.direction");
    harness.end().await;
}

/// A project gets more goals than the limit if runs define them at the same time.
#[tokio::test]
async fn a_backup_with_too_many_goals_is_restored_as_far_as_there_is_room() {
    let harness = Harness::new().await;
    let names: Vec<String> = (0..=limits::METRIC_GOALS).map(|number| format!("m{number}")).collect();
    let mut batch = Batch::default();
    for name in &names[..limits::METRIC_GOALS - 1] {
        metric_goal_put(&mut batch, Project(0), name, &MetricGoal::default());
    }
    harness.store.commit(batch).await.unwrap();
    let goal = |name: &String| backup::MetricGoal { name: name.clone(), ..Default::default() };
    let settings = Settings { metric_goals: names.iter().map(goal).collect(), ..Settings::default() };
    harness.restore_settings("", settings).await.unwrap();
    let found: Vec<String> = harness.goals("").await.into_iter().map(|goal| goal.name).collect();
    assert_eq!(found.len(), limits::METRIC_GOALS);
    assert!(!found.contains(&names[limits::METRIC_GOALS]));
    harness.end().await;
}
