//! Restore of a backup from before the log lost its tail.

use matyan_log::{LogWriter as _, Topic};
use matyan_model::{
    keys::LogTopic,
    position::{AppliedPosition, LogState, applied_put, log_put},
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
    const LOST: u64 = 10;
    let harness = Harness::with_untrimmed_log().await;
    harness.log("run", [create()]).await;
    track(&harness, "run", &[1.0]).await;
    harness.applied().await;
    let (mut content, cut) = (read(&harness, "run").await, cut(&project(&harness).await));
    // At the time of the backup, the log was longer than it is now.
    let at = content.head.cursor.as_mut().and_then(|cursor| cursor.position.as_mut()).unwrap();
    at.offset += LOST;
    let partition = at.partition;

    let mut harness = Harness::with_log_of(harness).await;
    let info = harness.log.describe(Topic::Ingestion).await.unwrap();
    let (identity, partitions) = (Some(info.identity), info.partitions.len() as u32);
    let state = LogState { number: 0, identity, partitions, first_number: None };
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
    // Its offset is one that the lost records had.
    track(&harness, "run", &[2.0]).await;
    harness.applied().await;
    assert_eq!(steps(&read(&harness, "run").await), [0, 1]);
    harness.end().await;
}
