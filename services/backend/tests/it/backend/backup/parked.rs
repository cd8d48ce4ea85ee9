//! Backup and restore of runs with parked items, and of runs in quarantine.

use matyan_proto::admin::v1::{ListParkedItemsRequest, ParkRunRequest, ResumeRunRequest};
use matyan_store::Store as _;

use super::*;

fn parked(content: &RunContent) -> Vec<pb::ParkedItem> {
    let items = content.pieces.iter().filter_map(|piece| match &piece.content {
        Some(Content::Parked(item)) => Some(item.clone()),
        _ => None,
    });
    items.collect()
}

fn lines(content: &RunContent) -> Vec<i64> {
    let lines = content.pieces.iter().filter_map(|piece| match &piece.content {
        Some(Content::Line(line)) => Some(line.number),
        _ => None,
    });
    lines.collect()
}

async fn park(harness: &Harness) {
    let request = ParkRunRequest { run_id: "r".into(), reason: "why".into() };
    AdminServiceClient::new(harness.routes()).park_run(request).await.unwrap();
}

async fn resume(harness: &Harness) {
    let request = ResumeRunRequest { run_id: "r".into() };
    AdminServiceClient::new(harness.routes()).resume_run(request).await.unwrap();
    harness.applied().await;
}

async fn parked_total(harness: &Harness) -> u64 {
    let request = ListParkedItemsRequest::default();
    let listed =
        AdminServiceClient::new(harness.routes()).list_parked_items(request).await.unwrap().into_inner();
    assert_eq!(listed.items.len() as u64, listed.total);
    listed.total
}

/// A run in quarantine with an item that could not be applied and two parked records.
async fn fill_parked(harness: &Harness) {
    harness.log("r", [create(), line(0, "applied"), undecodable()]).await;
    harness.applied().await;
    park(harness).await;
    harness.log("r", [line(1, "parked")]).await;
    track(harness, "r", &[1.0]).await;
    harness.applied().await;
}

/// The offsets of the other log mean nothing here, and are used again.
#[tokio::test]
async fn rule_36_parked_records_are_restored_where_the_log_is_another_one() {
    let harness = Harness::new().await;
    let other = Harness::new().await;
    fill_parked(&harness).await;
    let before = read(&harness, "r").await;
    let cut = cut(&project(&harness).await);
    let kinds: Vec<_> = parked(&before).iter().map(|item| item.record.is_some()).collect();
    assert_eq!((lines(&before), kinds), (vec![0], vec![false, true, true]));
    put(&other, &before, Some(&cut)).await;
    assert_eq!(visible(&read(&other, "r").await).head, visible(&before).head);
    other.log("r", [line(2, "parked later")]).await;
    other.applied().await;
    let again = read(&other, "r").await;
    assert_eq!((lines(&again), parked(&again).len(), parked_total(&other).await), (vec![0], 4, 4));
    assert_eq!(parked(&again)[..3], parked(&before));

    // A restore of a restore.
    let third = Harness::new().await;
    put(&third, &again, None).await;
    for harness in [&harness, &other, &third] {
        resume(harness).await;
        harness.log("r", [line(3, "later")]).await;
        harness.applied().await;
    }
    for (harness, expected) in
        [(&harness, vec![0, 1, 3]), (&other, vec![0, 1, 2, 3]), (&third, vec![0, 1, 2, 3])]
    {
        let after = read(harness, "r").await;
        assert_eq!(lines(&after), expected);
        assert_eq!(
            (after.head.quarantine.clone(), parked(&after).len(), parked_total(harness).await),
            (None, 1, 1)
        );
        let points = joined(after.pieces).into_iter().filter_map(|piece| match piece.content {
            Some(Content::Points(points)) => Some(points.values),
            _ => None,
        });
        assert_eq!(points.collect::<Vec<_>>(), [[1.0]]);
    }
    for harness in [harness, other, third] {
        harness.end().await;
    }
}

/// The log contains the parked records, and later ones.
#[tokio::test]
async fn rule_36_parked_records_are_applied_once_after_a_restore_and_a_replay() {
    for filtered in [false, true] {
        let harness = Harness::with_untrimmed_log().await;
        fill_parked(&harness).await;
        let before = read(&harness, "r").await;
        let cut = cut(&project(&harness).await);
        let cut = pb::Cut { filtered, ..cut };
        harness.log("r", [line(2, "after the backup")]).await;
        harness.applied().await;
        let mut harness = Harness::with_log_of(harness).await;
        let request = pb::RestoreProjectRequest { cut: Some(cut.clone()), ..Default::default() };
        assert!(client(&harness).restore_project(request).await.unwrap().into_inner().cut_taken);
        put(&harness, &before, Some(&cut)).await;
        harness.start_workers().await;
        harness.applied().await;
        assert_eq!(parked(&read(&harness, "r").await).len(), 4);
        resume(&harness).await;
        let after = read(&harness, "r").await;
        assert_eq!(
            (lines(&after), parked(&after).len(), parked_total(&harness).await),
            (vec![0, 1, 2], 1, 1)
        );
        harness.end().await;
    }
}

/// Parked items of an interrupted restore disappear with it.
#[tokio::test]
async fn an_abandoned_restore_leaves_no_parked_items() {
    let harness = Harness::new().await;
    let other = Harness::new().await;
    fill_parked(&harness).await;
    let before = read(&harness, "r").await;
    client(&other).begin_run(begin(&before, &[6; 32])).await.unwrap();
    client(&other).write_run(futures::stream::iter(messages(&before, &[6; 32]))).await.unwrap();
    assert_eq!(parked_total(&other).await, 3);
    put(&other, &before, None).await;
    let snapshot = other.store.snapshot().await.unwrap();
    let project = matyan_model::ids::Project::default();
    let dead = matyan_model::run::dead_runs_list(snapshot.as_ref(), project).await.unwrap();
    assert_eq!(dead.len(), 1);
    while !matyan_model::run::sweep_step(&*other.store, project, dead[0]).await.unwrap() {}
    assert_eq!(parked_total(&other).await, 3);
    resume(&other).await;
    assert_eq!((lines(&read(&other, "r").await), parked_total(&other).await), (vec![0, 1], 1));
    other.end().await;
    harness.end().await;
}
