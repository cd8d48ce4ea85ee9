//! Runs created during their restore: the restore must not modify them.

use super::*;

/// The new run's records come from the same producers as the archive's, and must not be taken
/// for repeats.
#[tokio::test]
async fn a_run_created_during_its_restore_is_not_modified() {
    let harness = Harness::new().await;
    fill(&harness, "r").await;
    more(&harness, "r", 1..6).await;
    harness.applied().await;
    let before = read(&harness, "r").await;
    let other = Harness::new().await;
    client(&other).begin_run(begin(&before, SOURCE)).await.unwrap();
    client(&other).write_run(futures::stream::iter(messages(&before, SOURCE))).await.unwrap();
    more(&other, "r", 1..4).await;
    other.applied().await;
    let made = read(&other, "r").await;
    assert_eq!(counted(&made, "numbered"), 3, "{made:?}");
    let (code, reason, _) = failure(client(&other).finish_run(end(&before, None, SOURCE)).await);
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    more(&other, "r", 4..5).await;
    other.applied().await;
    assert_eq!(counted(&read(&other, "r").await, "numbered"), 4, "the run continues undisturbed");
    other.end().await;
    harness.end().await;
}

/// Counts the points of the series with this name.
fn counted(read: &RunContent, name: &str) -> usize {
    let points = |piece: &pb::Piece| match &piece.content {
        Some(Content::Points(points)) if points.name == name => points.steps.len(),
        _ => 0,
    };
    read.pieces.iter().map(points).sum()
}

fn blob_messages(position: u64, chunks: &[&'static [u8]]) -> Vec<pb::WriteBlobRequest> {
    let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let blob = pb::Blob { path: "model.bin".into(), content_type: "text/plain".into(), size };
    let run_id = "r".into();
    let source = SOURCE.into();
    let first = pb::WriteBlobRequest { run_id, source, blob: Some(blob), position, ..Default::default() };
    let chunk = |chunk: &&'static [u8]| pb::WriteBlobRequest { chunk: (*chunk).into(), ..Default::default() };
    std::iter::once(first).chain(chunks.iter().map(chunk)).collect()
}

/// More than is buffered ahead of the reader.
const LARGE: &[u8] = &[b'x'; 64 << 10];

async fn blob(harness: &Harness) -> Vec<u8> {
    let request = pb::ReadBlobRequest { run_id: "r".into(), path: "model.bin".into() };
    all(client(harness).read_blob(request).await.unwrap())
        .await
        .iter()
        .flat_map(|it| it.chunk.to_vec())
        .collect()
}

#[tokio::test]
async fn blobs_of_a_run_created_during_its_restore_are_not_modified() {
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    let empty = RunContent { head, pieces: Vec::new(), blobs: Vec::new() };
    let other = Harness::new().await;
    client(&other).begin_run(begin(&empty, SOURCE)).await.unwrap();
    let written =
        client(&other).write_blob(futures::stream::iter(blob_messages(1, &[b"old"]))).await.unwrap();
    assert_eq!(written.into_inner().position, 1);
    // The run is created while the second upload is in progress: all but the last chunk has
    // been read.
    let mut chunks = blob_messages(2, &[LARGE, b"the last"]);
    let last = chunks.pop();
    overtaken_by_a_new_run(&other, chunks, last).await;
    // The staged restore was discarded, so it accepts no more writes.
    let (code, _, _) =
        failure(client(&other).write_blob(futures::stream::iter(blob_messages(2, &[b"x"]))).await);
    assert_eq!(code, Code::FailedPrecondition);
    other.end().await;
}

/// An empty blob has no last chunk, only an end.
#[tokio::test]
async fn rule_36_an_empty_blob_does_not_replace_the_blob_of_a_run_created_meanwhile() {
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    let empty = RunContent { head, pieces: Vec::new(), blobs: Vec::new() };
    let other = Harness::new().await;
    client(&other).begin_run(begin(&empty, SOURCE)).await.unwrap();
    overtaken_by_a_new_run(&other, blob_messages(1, &[]), None).await;
    other.end().await;
}

/// Uploads a blob of a restore. The run is created before the last message, or the end of the stream.
async fn overtaken_by_a_new_run(
    other: &Harness,
    chunks: Vec<pb::WriteBlobRequest>,
    last: Option<pb::WriteBlobRequest>,
) {
    let (last_requested, is_last_requested) = tokio::sync::oneshot::channel();
    let (made, is_made) = tokio::sync::oneshot::channel();
    let last = futures::stream::once(async move {
        last_requested.send(()).unwrap();
        is_made.await.unwrap();
        last
    });
    let last = futures::StreamExt::filter_map(last, futures::future::ready);
    let requests = futures::StreamExt::chain(futures::stream::iter(chunks), last);
    let make = async {
        is_last_requested.await.unwrap();
        other.create(&["r"]).await;
        other.put_blob("r/model.bin", b"new").await;
        made.send(()).unwrap();
    };
    let mut writing = client(other);
    let (written, ()) = tokio::join!(writing.write_blob(requests), make);
    let (code, reason, _) = failure(written);
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    assert_eq!(blob(other).await, b"new");
}

/// Covers a run created between two calls.
#[tokio::test]
async fn nothing_is_written_to_a_run_created_during_its_restore() {
    let piece = pb::Piece { content: Some(Content::Line(pb::TerminalLine { number: 1, text: "x".into() })) };
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    let one = RunContent { head, pieces: vec![piece], blobs: Vec::new() };
    let other = Harness::new().await;
    client(&other).begin_run(begin(&one, SOURCE)).await.unwrap();
    other.create(&["r"]).await;
    other.put_blob("r/model.bin", b"new").await;
    let written = client(&other).write_blob(futures::stream::iter(blob_messages(1, &[b"old"]))).await;
    assert_eq!(failure(written).0, Code::AlreadyExists);
    assert_eq!(blob(&other).await, b"new");
    other.end().await;
}
