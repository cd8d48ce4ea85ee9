//! Restore of a backup from before the log lost its tail.

use matyan_log::{LogInspector as _, Topic};
use matyan_model::{
    keys::LogTopic,
    position::{AppliedPosition, LogState, applied_put, log_get, log_put},
};
use matyan_proto::admin::v1::SkipLostRecordsRequest;
use matyan_store::{Batch, Store as _};

use super::*;

fn steps(content: &RunContent) -> Vec<i64> {
    let points = joined(content.pieces.clone()).into_iter().filter_map(|piece| match piece.content {
        Some(Content::Points(points)) => Some(points.steps),
        _ => None,
    });
    points.flatten().collect()
}

#[tokio::test]
async fn rule_36_positions_from_before_a_lost_tail_hide_no_records() {
    hides_no_records(0).await;
}

/// The archive's store gave the log a number that this store gives it only after the loss.
#[tokio::test]
async fn rule_36_positions_of_a_store_that_counts_differently_hide_no_records() {
    hides_no_records(1).await;
}

/// Restores an archive from before the loss of a tail. In the store of the archive, the log had this number.
async fn hides_no_records(number: u32) {
    const LOST: u64 = 10;
    let harness = Harness::with_untrimmed_log().await;
    harness.log("run", [create()]).await;
    track(&harness, "run", &[1.0]).await;
    harness.applied().await;
    let mut content = read(&harness, "run").await;
    let mut cut = cut(&project(&harness).await);
    // At the time of the backup, the log was longer than it is now.
    let at = content.head.cursor.as_mut().and_then(|cursor| cursor.position.as_mut()).unwrap();
    at.offset += LOST;
    at.log = number;
    cut.log = number;
    cut.applied.iter_mut().for_each(|applied| applied.log = number);
    let partition = at.partition;

    let mut harness = Harness::with_log_of(harness).await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let identity = Some(info.identity);
    let partitions = info.partitions.len() as u32;
    let state = LogState { number: 0, identity, partitions, ..LogState::default() };
    let next = info.partitions[partition as usize].end + LOST;
    let applied = AppliedPosition { next, identity, ..AppliedPosition::default() };
    let mut batch = Batch::default();
    log_put(&mut batch, LogTopic::Ingestion, &state);
    applied_put(&mut batch, LogTopic::Ingestion, partition, &applied);
    harness.store.commit(batch).await.unwrap();
    let request = SkipLostRecordsRequest { partition };
    let skipped = AdminServiceClient::new(harness.routes()).skip_lost_records(request).await.unwrap();
    assert_eq!(skipped.into_inner().records, LOST);

    put(&harness, &content, Some(&cut)).await;
    harness.start_workers().await;
    // The new record has an offset that one of the lost records had.
    track(&harness, "run", &[2.0]).await;
    harness.applied().await;
    assert_eq!(steps(&read(&harness, "run").await), [0, 1]);
    harness.end().await;
}

async fn restore_cut(harness: &Harness, cut: &pb::Cut) {
    let request = pb::RestoreProjectRequest { cut: Some(cut.clone()), ..Default::default() };
    let restored = client(harness).restore_project(request).await.unwrap().into_inner();
    assert!(restored.cut_taken);
}

#[tokio::test]
async fn rule_36_a_restored_store_knows_the_numbers_of_its_log_before_a_lost_tail() {
    let harness = Harness::with_untrimmed_log().await;
    harness.log("run", [create()]).await;
    harness.applied().await;
    let mut harness = Harness::with_log_of(harness).await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let identity = Some(info.identity);
    let partitions = info.partitions.len() as u32;
    let state = LogState { number: 3, identity, partitions, first_number: Some(1), numbering: Some([8; 16]) };
    let mut batch = Batch::default();
    log_put(&mut batch, LogTopic::Ingestion, &state);
    // Each partition has lost its tail, or none of its records were applied.
    for (partition, bounds) in (0..).zip(&info.partitions) {
        let identity = if partition == 0 { identity } else { Some([1; 16]) };
        let (log, next) = if partition == 0 { (3, bounds.end) } else { (0, 7) };
        let applied = AppliedPosition { log, next, identity, ..AppliedPosition::default() };
        applied_put(&mut batch, LogTopic::Ingestion, partition, &applied);
    }
    harness.store.commit(batch).await.unwrap();
    let first = cut(&project(&harness).await);
    assert_eq!(first.applied.iter().map(|applied| applied.log).collect::<Vec<_>>(), [3]);
    for _ in 0..2 {
        harness = Harness::with_log_of(harness).await;
        restore_cut(&harness, &first).await;
        let snapshot = harness.store.snapshot().await.unwrap();
        assert_eq!(log_get(snapshot.as_ref(), LogTopic::Ingestion).await.unwrap(), Some(state));
        assert_eq!(cut(&project(&harness).await), first, "a backup of it has the same positions");
    }
    harness.end().await;
}
