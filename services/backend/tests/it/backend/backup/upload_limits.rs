//! Restores respect the limits of uploads.

use matyan_blob::UploadLimits;

use super::*;

fn blob_of(size: u64) -> Vec<pb::WriteBlobRequest> {
    let blob = pb::Blob { path: "model.bin".into(), size, ..Default::default() };
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

#[tokio::test]
async fn rule_57_a_restored_blob_respects_the_limits_of_uploads() {
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    let empty = RunContent { head, pieces: Vec::new(), blobs: Vec::new() };
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
