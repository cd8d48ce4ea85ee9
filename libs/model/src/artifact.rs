//! Artifacts: files that a run has uploaded, by path. An upload replaces an earlier one to the
//! same path. The content is not stored here: a row refers to a blob, with its size and hash if
//! the client sent them.

use matyan_store::{Batch, Key, Range, Result, Scan, Snapshot, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber},
    keys, rows,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Artifact {
    /// Blob reference. Together with the project it determines the key in the blob store.
    #[n(0)]
    pub blob_key: String,
    #[n(1)]
    pub content_type: String,
    #[n(2)]
    pub size: Option<u64>,
    /// BLAKE3 of the content.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub hash: Option<[u8; 32]>,
    #[n(4)]
    pub time_us: i64,
}

/// Prefix of uploads that belong to object series. Readers do not see them as artifacts.
const SEQUENCES: &str = "seq/";

pub fn artifact_put(batch: &mut Batch, project: Project, number: RunNumber, path: &str, artifact: &Artifact) {
    batch.set(keys::artifact(project, number, path), rows::encode(artifact));
}

pub async fn artifact_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    path: &str,
) -> Result<Option<Artifact>> {
    rows::get(snapshot, &keys::artifact(project, number, path)).await
}

/// At most `rows` uploads by path, and about one megabyte of them, starting at `range`
/// (`keys::artifacts` for the first page), and the range of the rest. Use `is_sequence_upload` to
/// leave out uploads that are not artifacts to a reader.
pub async fn artifacts_page(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    range: &Range,
    rows: usize,
) -> Result<(Vec<(String, Artifact)>, Option<Range>)> {
    let page = snapshot.scan(range, Scan { rows, ..Scan::default() }).await?;
    let rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
    Ok((decode_rows(&keys::artifacts(project, number), &page.rows)?, rest))
}

/// The ranges of the artifacts whose paths start with `prefix` and come after `after`, unless it is empty. Uploads of
/// sequences are in neither range, so that a reader of some artifacts does not scan all of them.
pub fn artifact_ranges(project: Project, number: RunNumber, prefix: &str, after: &str) -> Vec<Range> {
    let mut range = keys::artifacts_with_prefix(project, number, prefix);
    if !after.is_empty() {
        let rest = range.after(&keys::artifact(project, number, after));
        range.start = range.start.max(rest.start);
    }
    let sequences = keys::artifacts_with_prefix(project, number, SEQUENCES);
    let before_sequences = Range::new(range.start.clone(), range.end.clone().min(sequences.start));
    let after_sequences = Range::new(range.start.max(sequences.end), range.end);
    [before_sequences, after_sequences].into_iter().filter(|range| range.start < range.end).collect()
}

/// All uploads of a run, by path.
pub async fn artifacts_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Vec<(String, Artifact)>> {
    let range = keys::artifacts(project, number);
    decode_rows(&range, &rows::scan_all(snapshot, &range).await?)
}

fn decode_rows(all: &Range, rows: &[(Key, Value)]) -> Result<Vec<(String, Artifact)>> {
    rows.iter()
        .map(|(key, value)| {
            let (path,) = keys::tail(&all.start, key)?;
            Ok((path, rows::decode(key, value)?))
        })
        .collect()
}

pub fn is_sequence_upload(path: &str) -> bool {
    path.starts_with(SEQUENCES)
}
