//! Restores respect the limits of uploads.

use matyan_blob::UploadLimits;

use super::*;

fn blob_of(size: u64) -> Vec<pb::WriteBlobRequest> {
    announced_blob(size, size)
}

/// A blob whose content is not as long as announced.
fn announced_blob(announced: u64, size: u64) -> Vec<pb::WriteBlobRequest> {
    let blob = pb::Blob { path: "model.bin".into(), size: announced, ..Default::default() };
    let first = pb::WriteBlobRequest {
        run_id: "r".into(),
        source: SOURCE.into(),
        blob: Some(blob),
        position: 1,
        ..Default::default()
    };
    let chunk = pb::WriteBlobRequest { chunk: vec![b'x'; size as usize].into(), ..Default::default() };
    vec![first, chunk]
}

fn empty_run() -> RunContent {
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    RunContent { head, pieces: Vec::new(), blobs: Vec::new() }
}

#[tokio::test]
async fn rule_57_a_restored_blob_leaves_space_on_the_disk() {
    let limits = UploadLimits { max_bytes: u64::MAX, ..UploadLimits::default() };
    let harness = Harness::with_upload_limits(limits).await;
    client(&harness).begin_run(begin(&empty_run(), SOURCE)).await.unwrap();
    let free = harness.blobs.disk_space().await.unwrap().free;
    let refused = client(&harness).write_blob(futures::stream::iter(announced_blob(free, 9))).await;
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("`min_free_bytes`"), "{status:?}");
    client(&harness).write_blob(futures::stream::iter(blob_of(9))).await.unwrap();
    harness.end().await;
}

#[tokio::test]
async fn rule_57_a_restored_blob_respects_the_limits_of_uploads() {
    let empty = empty_run();
    let default = UploadLimits::default();
    for limits in
        [UploadLimits { max_bytes: 10, ..default }, UploadLimits { max_project_bytes: 10, ..default }]
    {
        let harness = Harness::with_upload_limits(limits).await;
        client(&harness).begin_run(begin(&empty, SOURCE)).await.unwrap();
        let refused = client(&harness).write_blob(futures::stream::iter(blob_of(11))).await;
        let (code, reason, metadata) = failure(refused);
        assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "TOO_LARGE"), "{limits:?}");
        assert_eq!(metadata, [("limit".to_owned(), "10".to_owned())]);
        client(&harness).write_blob(futures::stream::iter(blob_of(9))).await.unwrap();
        harness.end().await;
    }
}
