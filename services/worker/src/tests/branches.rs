//! Branches: runs that share points with their parent.

use matyan_model::{
    branch::{branch_get, sharers_page},
    change::changes_list,
    ids::RunId,
    keys::{self, Counter},
    position::cursor_get,
    project::project_count,
    run::sweep_step,
    series_edit::SeriesEditOutcome,
};
use matyan_proto::ingest::v1::{self as pb, event::Kind};
use matyan_store::Batch;

use super::harness::{P, TestEnv, TestRecord, record};

impl TestRecord {
    pub(super) fn branch(self, parent: &str, step: Option<i64>) -> Self {
        let parent_run_id = parent.to_owned();
        self.event(Kind::CreateRun(pb::CreateRun { parent_run_id, parent_step: step, ..Default::default() }))
    }
}

fn at(steps: &[i64], value: f64) -> Vec<(Option<i64>, f64)> {
    steps.iter().map(|step| (Some(*step), value)).collect()
}

impl TestEnv {
    /// A run `p` with points of `a` and `b` at the steps 0, 10, …, 90.
    async fn with_parent() -> Self {
        let env = Self::new().await;
        let steps: Vec<i64> = (0..10).map(|index| index * 10).collect();
        let log = record(0).run("p").create().define(0, &["a", "b"]);
        let log = log.points(0, &at(&steps, 1.0)).points(1, &at(&steps, 2.0));
        env.apply_with(&mut env.writer("p"), vec![log]).await;
        env
    }
}

#[tokio::test]
async fn a_branch_continues_the_series_of_its_parent() {
    let env = TestEnv::with_parent().await;
    // One record: items after the creation find the series of the parent.
    let records = vec![
        record(1).branch("p", Some(35)).define(0, &["a"]).points(0, &[(None, 5.0), (None, 6.0)]),
        record(2).define(0, &["c"]).points(0, &[(None, 7.0)]),
    ];
    let mut writer = env.writer("r");
    env.apply_with(&mut writer, records.clone()).await;
    let check = async || {
        let shared = [(0, 1.0), (10, 1.0), (20, 1.0), (30, 1.0)];
        let own = [(31, 5.0), (32, 6.0)];
        assert_eq!(
            env.points("a").await,
            [&shared[..], &own].concat(),
            "the next step follows the last shared one"
        );
        assert_eq!(env.points("b").await, shared.map(|(step, _)| (step, 2.0)));
        assert_eq!(env.points("c").await, [(0, 7.0)], "a series of its own");
        assert!(env.parked().await.is_empty());
    };
    check().await;
    env.apply(records).await;
    check().await;
    // Another worker takes over.
    env.apply_with(&mut env.writer("r"), vec![record(3).define(0, &["b"]).points(0, &[(None, 8.0)])]).await;
    assert_eq!(env.points("b").await.last(), Some(&(31, 8.0)));
    // A branch with its own points does not get later points of the parent, even at an earlier step.
    let late = record(4)
        .run("p")
        .define(0, &["a", "d"])
        .points(0, &at(&[31, 33, 100], 9.0))
        .points(1, &at(&[0], 9.0));
    env.apply_with(&mut env.writer("p"), vec![late]).await;
    assert_eq!(env.points("a").await.len(), 6);
    assert!(env.points("d").await.is_empty());
    let snapshot = env.store().snapshot().await.unwrap();
    assert_eq!(project_count(&*snapshot, P, Counter::Series).await.unwrap(), 3 + 3);
}

#[tokio::test]
async fn rule_40_a_branch_of_a_damaged_run_parks_only_what_needs_it() {
    let env = TestEnv::with_parent().await;
    env.apply(vec![record(1).branch("p", Some(35))]).await;
    let block = keys::block(P, env.read_run("p").await.unwrap().number, 0);
    let sound = env.store().snapshot().await.unwrap().get(&block).await.unwrap().unwrap();
    let put = async |value: Vec<u8>| {
        let mut batch = Batch::default();
        batch.set(block.clone(), value);
        env.store().commit(batch).await.unwrap();
    };
    put(vec![0xff; 9]).await;
    // The next steps of `a` follow the steps of the parent; `c` is a series of the branch alone.
    let points = record(2).define(0, &["a", "c"]).points(0, &[(None, 5.0)]).points(1, &[(None, 6.0)]);
    env.apply(vec![points]).await;
    let parked = env.parked().await;
    assert!(parked.len() == 1 && parked[0].reason.contains("is corrupt"), "{parked:?}");
    let snapshot = env.store().snapshot().await.unwrap();
    let cursor = cursor_get(&*snapshot, P, &RunId::new("r")).await.unwrap().unwrap();
    assert!(!cursor.is_quarantined);
    put(sound.to_vec()).await;
    assert_eq!(env.points("a").await.len(), 4);
    assert_eq!(env.points("c").await, [(0, 6.0)]);
}

#[tokio::test]
async fn a_branch_shares_everything_without_a_step_and_nothing_after_points_of_its_own() {
    let env = TestEnv::with_parent().await;
    env.apply(vec![record(1).branch("p", None), record(2).define(0, &["b"]).points(0, &at(&[200], 3.0))])
        .await;
    assert_eq!(env.points("a").await.len(), 10);
    let later = record(3).run("p").define(0, &["a"]).points(0, &at(&[100, 110], 9.0));
    env.apply_with(&mut env.writer("p"), vec![later]).await;
    assert_eq!(env.points("a").await.len(), 10, "what the parent logs later is not shared");
    env.apply_with(&mut env.writer("r"), vec![record(4).delete_steps(1, "b", Some(200), Some(201))]).await;
    assert_eq!(env.outcome(1).await, Some(SeriesEditOutcome::Done), "own steps can be deleted");

    let env = TestEnv::with_parent().await;
    let own = record(1).define(0, &["a"]).points(0, &at(&[95], 3.0));
    env.apply(vec![own, record(2).branch("p", None)]).await;
    assert_eq!(env.points("a").await, [(95, 3.0)]);
    assert!(env.read().await.unwrap().props.parent.is_some(), "the parent is shown nevertheless");
}

/// After a crash, the record that created a branch is redelivered, and the client may resend it.
#[tokio::test]
async fn a_branch_is_created_once() {
    let env = TestEnv::with_parent().await;
    let create = record(1).sent(1, 1, 0).branch("p", Some(35));
    env.apply(vec![create.clone()]).await;
    let branch = async || {
        let number = env.read().await.unwrap().number;
        branch_get(&*env.store().snapshot().await.unwrap(), P, number).await.unwrap()
    };
    let before = branch().await;
    let late = record(2).run("p").define(0, &["late"]).points(0, &at(&[0, 60], 4.0));
    env.apply_with(&mut env.writer("p"), vec![late]).await;
    // Another worker reads the same record, the producer resends it, and another producer sends it, too.
    let again = record(5).sent(1, 1, 0).branch("p", Some(90));
    let other = record(6).sent(2, 1, 0).branch("p", Some(90));
    for records in [vec![create.clone()], vec![create, again], vec![other]] {
        env.apply_with(&mut env.writer("r"), records).await;
        assert_eq!(branch().await, before);
        assert_eq!(env.points("a").await.len(), 4);
        assert!(env.points("late").await.is_empty());
    }
    assert!(env.parked().await.is_empty());
    let snapshot = env.store().snapshot().await.unwrap();
    assert_eq!(project_count(&*snapshot, P, Counter::Series).await.unwrap(), 3 + 2);
    assert_eq!(project_count(&*snapshot, P, Counter::Runs).await.unwrap(), 2);
}

#[tokio::test]
async fn a_run_leads_to_the_branches_that_share_a_step() {
    let env = TestEnv::with_parent().await;
    let branch = |id: &'static str, parent, step| record(1).run(id).branch(parent, Some(step));
    for (id, parent, step) in [("r", "p", 35), ("s", "p", 50), ("t", "s", 20)] {
        env.apply_with(&mut env.writer(id), vec![branch(id, parent, step)]).await;
    }
    let number = async |id: &str| env.read_run(id).await.unwrap().number;
    let p = number("p").await;
    let r = number("r").await;
    let s = number("s").await;
    let t = number("t").await;
    let sharers = async |of, step| {
        let range = keys::sharers_from(P, of, step);
        let (mut found, rest) =
            sharers_page(&*env.store().snapshot().await.unwrap(), &range, 100).await.unwrap();
        assert!(rest.is_none());
        found.sort_unstable();
        found
    };
    assert_eq!(sharers(p, i64::MIN).await, [r, s, t]);
    assert_eq!(sharers(p, 35).await, [r, s]);
    assert_eq!(sharers(p, 51).await, []);
    assert_eq!(sharers(s, 20).await, [t]);
    // A deleted run leaves nothing.
    for (id, number) in [("s", s), ("r", r)] {
        env.apply_with(&mut env.writer(id), vec![record(9).run(id).delete()]).await;
        while !sweep_step(env.store(), P, number).await.unwrap() {}
    }
    assert_eq!(sharers(p, i64::MIN).await, [t]);
    // The last rows of a deleted run are cleared with the last of its branches.
    assert_eq!(sharers(s, i64::MIN).await, [t]);
    env.apply_with(&mut env.writer("t"), vec![record(9).run("t").delete()]).await;
    while !sweep_step(env.store(), P, t).await.unwrap() {}
    assert_eq!((sharers(p, i64::MIN).await, sharers(s, i64::MIN).await), (vec![], vec![]));
    let hiding = env.store().snapshot().await.unwrap().get(&keys::hiding_page(P, s, 0)).await.unwrap();
    assert_eq!(hiding, None);
}

#[tokio::test]
async fn changes_say_from_which_step_on_points_have_changed() {
    let env = TestEnv::with_parent().await;
    let records = [
        (
            record(1)
                .run("p")
                .define(0, &["a", "b"])
                .points(0, &at(&[95, 70], 1.0))
                .points(1, &at(&[80], 1.0)),
            70,
        ),
        (record(2).run("p").tag("best"), i64::MAX),
        (record(3).run("p").delete_steps(1, "a", Some(95), None), i64::MIN),
        (record(4).run("p").tag("worst"), i64::MAX),
        (record(5).run("p").delete(), i64::MIN),
    ];
    let mut writer = env.writer("p");
    for (record, first_step) in records {
        env.apply_with(&mut writer, vec![record]).await;
        let snapshot = env.store().snapshot().await.unwrap();
        let (changes, _) = changes_list(&*snapshot, P, None, 100).await.unwrap();
        assert_eq!(changes.last().unwrap().first_step, first_step, "{changes:?}");
    }
}

#[tokio::test]
async fn a_branch_that_cannot_share_is_created_without_shared_points() {
    let env = TestEnv::with_parent().await;
    for depth in 1..=33 {
        let own = format!("r{depth}");
        let parent = format!("r{}", depth - 1);
        let parent = if depth == 1 { "p" } else { &parent };
        env.apply_with(&mut env.writer(&own), vec![record(depth).run(&own).branch(parent, None)]).await;
    }
    let run = async |id: &str| env.read_run(id).await.unwrap();
    assert_eq!(run("r32").await.metrics.len(), 2);
    let last = run("r33").await;
    assert!(last.metrics.is_empty() && last.props.active && last.props.parent.is_some());
    assert!(env.parked().await[0].reason.contains("too many ancestors"), "{:?}", env.parked().await);

    env.apply_with(&mut env.writer("p"), vec![record(40).run("p").branch("p", None)]).await;
    assert_eq!(run("p").await.props.parent, None, "a run is not its own parent");
}

#[tokio::test]
async fn a_branch_has_only_series_with_points_up_to_its_step() {
    let env = TestEnv::with_parent().await;
    let late = record(1).run("p").define(0, &["late"]).points(0, &at(&[50, 60], 4.0));
    env.apply_with(&mut env.writer("p"), vec![late]).await;
    env.apply(vec![
        record(2).branch("p", Some(35)),
        record(3).define(0, &["late"]).points(0, &at(&[40], 5.0)),
    ])
    .await;
    assert_eq!(env.points("late").await, [(40, 5.0)]);
    assert_eq!(env.points("a").await.len(), 4);

    let env = TestEnv::with_parent().await;
    env.apply(vec![record(1).branch("p", Some(-1))]).await;
    let run = env.read().await.unwrap();
    assert!(run.metrics.is_empty() && run.props.parent.is_some());
    env.apply(vec![record(2).define(0, &["a"]).points(0, &at(&[0, 1], 6.0))]).await;
    assert_eq!(env.points("a").await, [(0, 6.0), (1, 6.0)]);
    assert!(env.parked().await.is_empty());
}

#[tokio::test]
async fn a_branch_of_a_branch_keeps_what_is_left_of_its_ancestors() {
    let env = TestEnv::with_parent().await;
    let middle =
        record(1).run("m").branch("p", Some(50)).define(0, &["a"]).points(0, &at(&[60, 70, 80], 3.0));
    env.apply_with(&mut env.writer("m"), vec![middle]).await;
    env.apply(vec![record(2).branch("m", Some(70))]).await;
    let steps = async || env.points("a").await.iter().map(|(step, _)| *step).collect::<Vec<_>>();
    assert_eq!(steps().await, [0, 10, 20, 30, 40, 50, 60, 70]);
    let number = env.read_run("m").await.unwrap().number;
    env.apply_with(&mut env.writer("m"), vec![record(3).run("m").delete()]).await;
    assert_eq!(steps().await, [0, 10, 20, 30, 40, 50], "a deleted run takes its points along");
    while !sweep_step(env.store(), P, number).await.unwrap() {}
    assert_eq!(steps().await, [0, 10, 20, 30, 40, 50]);
}

#[tokio::test]
async fn points_that_a_deleted_branch_had_replaced_stay_hidden() {
    let env = TestEnv::with_parent().await;
    let middle = record(1).run("m").branch("p", Some(50)).define(0, &["a"]);
    let middle = middle.points(0, &at(&[30, 45, 60, 70, 80], 3.0));
    env.apply_with(&mut env.writer("m"), vec![middle]).await;
    env.apply(vec![record(2).branch("m", Some(70))]).await;
    let steps = async || env.points("a").await.iter().map(|(step, _)| *step).collect::<Vec<_>>();
    assert_eq!(steps().await, [0, 10, 20, 30, 45, 60, 70]);
    let number = env.read_run("m").await.unwrap().number;
    env.apply_with(&mut env.writer("m"), vec![record(3).run("m").delete()]).await;
    for is_swept in [false, true] {
        while is_swept && !sweep_step(env.store(), P, number).await.unwrap() {
            assert_eq!(steps().await, [0, 10, 20]);
        }
        assert_eq!(steps().await, [0, 10, 20], "{is_swept}");
        let shared: Vec<i64> = env.points("b").await.iter().map(|(step, _)| *step).collect();
        assert_eq!(shared, [0, 10, 20, 30, 40, 50], "the other series had replaced none");
    }
    assert_eq!(env.read_run("p").await.unwrap().metrics[0].1.len(), 10, "the first run has all its points");
    env.apply(vec![record(4).define(0, &["a"]).points(0, &at(&[15, 80], 4.0))]).await;
    assert_eq!(steps().await, [0, 10, 15, 80]);
}

#[tokio::test]
async fn steps_that_a_branch_shares_cannot_be_deleted_in_it() {
    let env = TestEnv::with_parent().await;
    let records = vec![
        record(1).branch("p", Some(50)).define(0, &["a"]).points(0, &at(&[60, 70, 80], 3.0)),
        record(2).delete_steps(1, "a", Some(50), Some(61)),
        record(3).delete_steps(2, "a", Some(51), Some(61)),
        record(4).delete_steps(3, "b", None, None),
    ];
    env.apply(records).await;
    assert_eq!(env.outcome(1).await, Some(SeriesEditOutcome::SharedSteps));
    assert_eq!(env.outcome(2).await, Some(SeriesEditOutcome::Done));
    let steps: Vec<i64> = env.points("a").await.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 10, 20, 30, 40, 50, 70, 80]);
    assert!(env.points("b").await.is_empty(), "the whole series is gone");
    assert_eq!(env.read().await.unwrap().metrics.len(), 1);
    // Without its own points, the series remains with the shared points.
    env.apply_with(&mut env.writer("r"), vec![record(5).delete_steps(4, "a", Some(51), None)]).await;
    let steps: Vec<i64> = env.points("a").await.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [0, 10, 20, 30, 40, 50]);
    assert_eq!(env.read_run("p").await.unwrap().metrics[1].1.len(), 10, "the parent is as it was");
}

#[tokio::test]
async fn a_branch_waits_for_records_of_its_parent() {
    let env = TestEnv::new().await;
    let parent = (0..50).map(|part| {
        let name = format!("m{part}");
        record(0).run("p").define(0, &[&name]).points(0, &at(&(0..50_000).collect::<Vec<_>>(), 1.0))
    });
    env.append(parent).await;
    env.append([record(0).branch("p", Some(9))]).await;
    let worker = env.work().await;
    env.applied(0, 50).await;
    worker.stop().await.unwrap();
    let metrics = env.read().await.unwrap().metrics;
    assert_eq!(metrics.iter().map(|(_, points)| points.len()).collect::<Vec<_>>(), [10; 50]);
}
