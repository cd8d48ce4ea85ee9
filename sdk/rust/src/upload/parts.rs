//! Uploads of large files in parts, several at a time. The parts that have arrived are recorded
//! next to the manifest, so that the same process or the next one continues after an interruption.
//!
//! Parts are aligned to powers of two, so that the BLAKE3 hash of the whole file follows from
//! values of its parts, whichever process read them. An upload is only completed if the file has not
//! changed since its first part was read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use futures::{StreamExt as _, stream};
use matyan_value::{
    Map, Value,
    json::{self, JsonStyle},
};
use object_store_http::{Method, header::ETAG};
use serde::{Deserialize, Serialize};

use super::{
    content_file::{FileVersion, TransferError},
    target::UploadTarget,
    transfer::{Artifact, FilePiece, UploadedContent, member_text, put_file},
};
use crate::http::{HttpClient, HttpError, RestRequest, malformed};

const BEGIN: &str = "/api/v1/rest/artifacts/uploads";
const PART: &str = "/api/v1/rest/artifacts/uploads/part";
const COMPLETE: &str = "/api/v1/rest/artifacts/uploads/complete";
const ABORT: &str = "/api/v1/rest/artifacts/uploads/abort";

/// Code of the error of an upload that lacks parts.
const INCOMPLETE: &str = "UPLOAD_INCOMPLETE";

/// Smallest size of a file that is sent in parts.
const MIN_BYTES: u64 = 64 << 20;

/// Most parts of an upload, as in S3. The record of parts is written again after each of them.
const MAX_PARTS: u64 = 10_000;

/// Parts that are sent at the same time.
const PARALLEL: usize = 4;

/// Attempts to send one part before the others are interrupted too.
const ATTEMPTS: u32 = 3;

const PAUSE: Duration = Duration::from_millis(300);

/// Longest id of an upload; ids of S3 and others have some hundred bytes.
const MAX_ID_BYTES: usize = 4 << 10;

/// Longest tag of a part. Each is in the record, which is written again after each part.
const MAX_ETAG_BYTES: usize = 1 << 10;

/// Version of the record of parts.
const FORMAT: u32 = 1;

/// Uploads a file in parts. `None` if it is too small, or the gateway does not support it.
pub(super) async fn upload(
    gateway: &HttpClient,
    artifact: &Artifact<'_>,
    record: &Path,
) -> Result<Option<UploadedContent>, TransferError> {
    let version = artifact.version;
    if version.size < MIN_BYTES {
        return Ok(None);
    }
    let upload = PartedUpload { gateway, artifact, record, size: version.size };
    let mut progress = match Progress::read(record) {
        Some(progress) if progress.file == version => progress,
        outdated => {
            if let Some(outdated) = outdated {
                upload.abort(&outdated).await;
            }
            let Some(progress) = upload.begin(version).await? else { return Ok(None) };
            progress
        }
    };
    match upload.run(&mut progress).await {
        Err(error) if !error.is_temporary() => {
            fs::remove_file(record).map_err(|source| HttpError::File { path: record.to_owned(), source })?;
            upload.abort(&progress).await;
            // The store has discarded the upload or parts of it. The caller tries again, from the
            // start.
            Err(match error {
                TransferError::Request(HttpError::NotFound { message }) => {
                    malformed(COMPLETE, message).into()
                }
                TransferError::Request(HttpError::Refused { code, message, .. })
                    if code.eq_ignore_ascii_case(INCOMPLETE) =>
                {
                    malformed(COMPLETE, message).into()
                }
                error => error,
            })
        }
        outcome => outcome.map(Some),
    }
}

/// The record of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    format: u32,
    file: FileVersion,
    upload_id: String,
    part_bytes: u64,
    is_sequential: bool,
    /// In order; `None` where a part has not arrived.
    parts: Vec<Option<SentPart>>,
}

/// A part that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SentPart {
    etag: String,
    /// Chaining value of BLAKE3, in hexadecimal.
    hash: String,
}

impl Progress {
    fn read(path: &Path) -> Option<Self> {
        let progress: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (progress.format == FORMAT).then_some(progress)
    }

    /// Writes the record off the thread of the senders: it may have megabytes.
    async fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("parts.new");
        tokio::fs::write(&new, serde_json::to_vec(self)?).await?;
        tokio::fs::rename(new, path).await
    }

    fn piece(&self, index: usize) -> FilePiece {
        let offset = index as u64 * self.part_bytes;
        FilePiece { offset, length: self.part_bytes.min(self.file.size - offset) }
    }

    fn missing(&self) -> Vec<usize> {
        (0..self.parts.len()).filter(|index| self.parts[*index].is_none()).collect()
    }

    /// Hash of the whole file. `None` if the record is damaged.
    fn hash(&self) -> Option<[u8; 32]> {
        let values = self.parts.iter().map(|part| {
            let bytes = hex::decode(&part.as_ref()?.hash).ok()?;
            ChainingValue::try_from(bytes.as_slice()).ok()
        });
        let values: Vec<ChainingValue> = values.collect::<Option<_>>()?;
        let (left, right) = split(&values, self.part_bytes, self.file.size)?;
        Some(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }
}

/// Returns the chaining values of the two halves of a tree of at least two parts.
fn split(values: &[ChainingValue], part_bytes: u64, size: u64) -> Option<(ChainingValue, ChainingValue)> {
    let left_bytes = left_subtree_len(size);
    let middle = usize::try_from(left_bytes / part_bytes).ok()?;
    let (left, right) = values.split_at_checked(middle)?;
    Some((join(left, part_bytes, left_bytes)?, join(right, part_bytes, size - left_bytes)?))
}

fn join(values: &[ChainingValue], part_bytes: u64, size: u64) -> Option<ChainingValue> {
    match values {
        [] => None,
        [value] => Some(*value),
        values => {
            let (left, right) = split(values, part_bytes, size)?;
            Some(merge_subtrees_non_root(&left, &right, Mode::Hash))
        }
    }
}

struct PartedUpload<'a> {
    gateway: &'a HttpClient,
    artifact: &'a Artifact<'a>,
    record: &'a Path,
    size: u64,
}

impl PartedUpload<'_> {
    /// `None` if the gateway is older than uploads in parts.
    async fn begin(&self, file: FileVersion) -> Result<Option<Progress>, HttpError> {
        let answer = match self.call(BEGIN, None, []).await {
            Err(
                HttpError::NotFound { .. }
                | HttpError::Unsupported { .. }
                | HttpError::Refused { status: 405, .. },
            ) => return Ok(None),
            answer => answer?,
        };
        let unexpected = || malformed(BEGIN, "an answer that does not describe an upload");
        let upload_id = member_text(&answer, "upload_id").filter(|id| id.len() <= MAX_ID_BYTES);
        let upload_id = upload_id.ok_or_else(unexpected)?;
        let part_bytes = match answer.get("part_bytes") {
            Some(Value::Integer(bytes)) => u64::try_from(*bytes).map_err(|_| unexpected())?,
            _ => return Err(unexpected()),
        };
        // A hash of parts needs at least two of them.
        if !part_bytes.is_power_of_two() || part_bytes < 1 << 20 || part_bytes >= self.size {
            return Err(unexpected());
        }
        let count = self.size.div_ceil(part_bytes);
        if count > MAX_PARTS {
            return Err(unexpected());
        }
        let is_sequential = answer.get("is_sequential") == Some(&Value::Bool(true));
        let parts = vec![None; count as usize];
        let progress = Progress { format: FORMAT, file, upload_id, part_bytes, is_sequential, parts };
        self.save(&progress).await?;
        Ok(Some(progress))
    }

    /// Sends the missing parts, and completes the upload.
    async fn run(&self, progress: &mut Progress) -> Result<UploadedContent, TransferError> {
        let parallel = if progress.is_sequential { 1 } else { PARALLEL };
        let id = progress.upload_id.clone();
        let missing = progress.missing();
        let pieces: Vec<_> = missing.into_iter().map(|index| (index, progress.piece(index))).collect();
        let sending = pieces.into_iter().map(|(index, piece)| {
            let id = id.as_str();
            async move { self.send(id, index, piece).await.map(|part| (index, part)) }
        });
        let mut sending = stream::iter(sending).buffered(parallel);
        while let Some(sent) = sending.next().await {
            let (index, part) = sent?;
            progress.parts[index] = Some(part);
            self.save(progress).await?;
        }
        drop(sending);
        self.complete(progress).await
    }

    /// Sends one part, with some attempts.
    async fn send(&self, id: &str, index: usize, piece: FilePiece) -> Result<SentPart, TransferError> {
        let mut attempt = 1;
        loop {
            match self.send_once(id, index, piece).await {
                Err(error) if error.is_temporary() && attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                sent => return sent,
            }
        }
    }

    async fn send_once(&self, id: &str, index: usize, piece: FilePiece) -> Result<SentPart, TransferError> {
        let number = Value::Integer(i64::try_from(index + 1).unwrap_or(i64::MAX));
        let answer = self.call(PART, Some(id), [("part_number", number)]).await?;
        let target = UploadTarget::read(self.gateway, PART, &answer).await?;
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(piece.offset);
        let (headers, hasher) = put_file(self.gateway, target, self.artifact.file, piece, hasher).await?;
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        if etag.len() > MAX_ETAG_BYTES {
            let reason = format!("a part with a tag of {} bytes", etag.len());
            return Err(malformed(PART, reason).into());
        }
        Ok(SentPart { etag: etag.to_owned(), hash: hex::encode(hasher.finalize_non_root()) })
    }

    async fn complete(&self, progress: &Progress) -> Result<UploadedContent, TransferError> {
        self.artifact.check_unchanged()?;
        let etags = progress.parts.iter().flatten().map(|part| Value::Text(part.etag.clone())).collect();
        self.call(COMPLETE, Some(&progress.upload_id), [("etags", Value::List(etags))]).await?;
        let hash =
            progress.hash().ok_or_else(|| malformed(COMPLETE, "the record of its parts is damaged"))?;
        Ok(UploadedContent { size: self.size, hash })
    }

    /// Frees the space of an upload that is not continued. If this fails, the store does it later.
    async fn abort(&self, progress: &Progress) {
        drop(self.call(ABORT, Some(&progress.upload_id), []).await);
    }

    async fn save(&self, progress: &Progress) -> Result<(), HttpError> {
        progress
            .write(self.record)
            .await
            .map_err(|source| HttpError::File { path: PathBuf::from(self.record), source })
    }

    /// Sends a request that describes the upload.
    async fn call<const N: usize>(
        &self,
        path: &'static str,
        id: Option<&str>,
        more: [(&str, Value); N],
    ) -> Result<Map, HttpError> {
        let mut members = self.artifact.members();
        members.insert("size".to_owned(), Value::Integer(i64::try_from(self.size).unwrap_or(i64::MAX)));
        if let Some(id) = id {
            members.insert("upload_id".to_owned(), Value::Text(id.to_owned()));
        }
        members.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let request = RestRequest::json(Method::POST, path, json::map_text(&members, JsonStyle::STRICT));
        match self.gateway.short_json(&request).await?.parse() {
            Ok(Value::Map(answer)) => Ok(answer),
            _ => Err(malformed(path, "an answer that is not a JSON object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hash of content, computed from parts.
    fn hash_of_parts(content: &[u8], part_bytes: usize) -> [u8; 32] {
        let parts = content.chunks(part_bytes).enumerate().map(|(index, part)| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset((index * part_bytes) as u64).update(part);
            Some(SentPart { etag: String::new(), hash: hex::encode(hasher.finalize_non_root()) })
        });
        let progress = Progress {
            format: FORMAT,
            file: FileVersion { size: content.len() as u64, modified_ns: 0 },
            upload_id: String::new(),
            part_bytes: part_bytes as u64,
            is_sequential: false,
            parts: parts.collect(),
        };
        progress.hash().unwrap()
    }

    #[test]
    fn the_hash_of_a_file_follows_from_its_parts() {
        let content: Vec<u8> = (0..40_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        for size in [1025, 2048, 2049, 3000, 4096, 9_000, 16_384, 16_385, 40_000] {
            let content = &content[..size];
            assert_eq!(hash_of_parts(content, 1024), *blake3::hash(content).as_bytes(), "{size}");
        }
    }

    #[test]
    fn a_damaged_record_begins_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.parts");
        assert_eq!(Progress::read(&path), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(Progress::read(&path), None);
    }
}
