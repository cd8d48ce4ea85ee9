//! Artifacts of runs and of logged models, which clients send and read through this server. Bytes are passed on
//! as they arrive.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use matyan_proto::artifacts::v1::{DeleteRequest, ListRequest};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::store_request::Message;
use matyan_proto::ingest::v1::{BlobRef, StoreOpen, StoreRequest};
use matyan_proto::limits::{ARTIFACT_PATH_BYTES, CHUNK_BYTES};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::artifact_path::{
    ArtifactOwner, ArtifactPath, FolderEntry, add_entries, check, end_of_entry, folder_prefix,
};
use crate::batch::{RunBatch, publish_patiently};
use crate::body::Body;
use crate::error::{ErrorCode, MlflowError, Result};
use crate::fields::Fields;
use crate::list_answer::list_answer;
use crate::logged_models;
use crate::names::{check_run_id, encoded_run_id, is_model_id};
use crate::run_view::{RunSnapshot, location_of, no_run, parts_without_metrics};
use matyan_channels::{CALLS_AT_A_TIME, Channels, call_all, is_missing, list_artifacts, missing_resource};

/// An artifact in this server: its run, and its path in the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredArtifact {
    pub(crate) run_id: String,
    pub(crate) path: String,
}

/// Finds the run that holds the files of an owner.
pub(crate) async fn locate(channels: &Channels, artifact: ArtifactPath) -> Result<StoredArtifact> {
    let ArtifactPath { owner, path } = artifact;
    match owner {
        ArtifactOwner::Run(run_id) => Ok(StoredArtifact { run_id, path }),
        ArtifactOwner::Model(model_id) => {
            let run_id = logged_models::holder(channels, &model_id).await?;
            let folder = logged_models::folder(&model_id);
            let path = if path.is_empty() { folder } else { format!("{folder}/{path}") };
            Ok(StoredArtifact { run_id, path })
        }
    }
}

/// Artifacts that are read at a time.
const ARTIFACTS_PER_CALL: usize = 1_000;

/// The most entries of a folder in an answer. Clients of MLflow do not ask for a folder in pages.
const MAX_ENTRIES: usize = 200_000;

/// Reads the artifacts of a run page by page, as far as the entries of a folder need them: all files directly in the
/// folder, and at least one artifact of each of its folders.
struct FolderPages<'c> {
    channels: &'c Channels,
    run_id: &'c str,
    folder: &'c str,
    /// The path after which the next page starts; `None` once the last page has been read.
    after: Option<String>,
}

impl<'c> FolderPages<'c> {
    fn new(channels: &'c Channels, run_id: &'c str, folder: &'c str) -> Self {
        // No path is longer. Clients list each path that they download, because it may be a folder.
        let may_exist = folder_prefix(folder).len() <= ARTIFACT_PATH_BYTES;
        Self { channels, run_id, folder, after: may_exist.then(String::new) }
    }

    /// Adds the entries of the next page; returns false if there is none.
    async fn add_next(&mut self, entries: &mut Vec<FolderEntry>) -> Result<bool> {
        let Some(after) = self.after.take() else { return Ok(false) };
        let path_prefix = folder_prefix(self.folder);
        let request = ListRequest {
            run_id: self.run_id.to_owned(),
            path_prefix: path_prefix.clone(),
            after,
            limit: u32::try_from(ARTIFACTS_PER_CALL).unwrap_or(u32::MAX),
        };
        // The run may not exist: a model without a run gets a run with its first file.
        let page = list_artifacts(self.channels, request).await?;
        let last = page.last().filter(|_| page.len() >= ARTIFACTS_PER_CALL);
        self.after = last.map(|last| end_of_entry(&last.path, &path_prefix));
        let paths = page.iter().map(|artifact| (artifact.path.as_str(), artifact.size));
        add_entries(entries, paths, self.folder);
        Ok(true)
    }
}

/// The entries of a folder, each with a path that starts with `prefix`.
async fn list_folder(channels: &Channels, folder: &StoredArtifact, prefix: &str) -> Result<Vec<Value>> {
    let mut pages = FolderPages::new(channels, &folder.run_id, &folder.path);
    let mut entries = Vec::new();
    while pages.add_next(&mut entries).await? {
        if entries.len() > MAX_ENTRIES {
            return Err(MlflowError::invalid(format!(
                "the folder has more than {MAX_ENTRIES} files and folders: read its files by their paths"
            )));
        }
    }
    let entry = |(name, is_dir, size): FolderEntry| {
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        match size {
            Some(size) => json!({"path": path, "is_dir": is_dir, "file_size": size}),
            None => json!({"path": path, "is_dir": is_dir}),
        }
    };
    Ok(entries.into_iter().map(entry).collect())
}

/// Lists a folder by its path below the root of all artifacts.
pub(crate) async fn list(channels: &Channels, fields: &Fields) -> Result<Value> {
    let path = fields.text("path")?.unwrap_or_default();
    let folder = locate(channels, ArtifactPath::parse_encoded(path)?).await?;
    Ok(list_answer("files", list_folder(channels, &folder, "").await?, None))
}

/// Lists a folder of a run. Paths are relative to the artifacts of the run.
pub(crate) async fn list_of_run(channels: &Channels, fields: &Fields) -> Result<Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let path = fields.text("path")?.unwrap_or_default().trim_matches('/').to_owned();
    check(&path)?;
    let run = RunSnapshot::read(channels, run_id, parts_without_metrics()).await?;
    let location = location_of(channels, run.experiment_id()).await?;
    let folder = StoredArtifact { run_id: run_id.to_owned(), path: path.clone() };
    let mut answer = list_answer("files", list_folder(channels, &folder, &path).await?, None);
    answer["root_uri"] = format!("{location}/{}/artifacts", encoded_run_id(run_id)).into();
    Ok(answer)
}

/// Lists a folder of a logged model.
pub(crate) async fn list_of_model(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?.to_owned();
    let path = fields.text("artifact_directory_path")?.unwrap_or_default().trim_matches('/').to_owned();
    check(&path)?;
    let root_uri = logged_models::artifact_uri(channels, &model_id).await?;
    let artifact = ArtifactPath { owner: ArtifactOwner::Model(model_id), path: path.clone() };
    let folder = locate(channels, artifact).await?;
    let mut answer = list_answer("files", list_folder(channels, &folder, &path).await?, None);
    answer["root_uri"] = root_uri.into();
    Ok(answer)
}

/// Finds the file that a client wants to read.
pub(crate) async fn find(channels: &Channels, fields: &Fields) -> Result<StoredArtifact> {
    let artifact = ArtifactPath::parse(fields.required("path")?)?;
    if artifact.path.is_empty() {
        return Err(MlflowError::invalid("the path names a folder: name a file in it"));
    }
    locate(channels, artifact).await
}

pub(crate) fn check_stored_path(artifact: &StoredArtifact) -> Result<()> {
    if artifact.path.len() > ARTIFACT_PATH_BYTES {
        let message = format!("the path has more than {ARTIFACT_PATH_BYTES} bytes: use a shorter path");
        return Err(MlflowError::invalid(message));
    }
    Ok(())
}

/// Checks that a run exists, before files are stored in it. The run of a model without a run is created.
pub(crate) async fn ensure_run(channels: &Channels, run_id: &str) -> Result<()> {
    match RunSnapshot::read(channels, run_id, parts_without_metrics()).await {
        Ok(_) => Ok(()),
        Err(error) if error.code == ErrorCode::ResourceDoesNotExist && is_model_id(run_id) => {
            logged_models::create_holder(channels, run_id).await
        }
        Err(error) => Err(error),
    }
}

/// Stores a file, and announces it to its run.
pub(crate) async fn upload(
    channels: &Channels,
    fields: &Fields,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value> {
    let artifact = find(channels, fields).await?;
    check_stored_path(&artifact)?;
    ensure_run(channels, &artifact.run_id).await?;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let size = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let open = StoreOpen {
        run_id: artifact.run_id.clone(),
        artifact_path: artifact.path.clone(),
        content_type: content_type.clone(),
        size,
    };
    let stored = store(channels, open, body).await?;
    let mut batch = RunBatch::default();
    let size = Some(stored.1);
    let path = artifact.path;
    let reference = BlobRef { key: stored.0, path, content_type, size, content_hash: Bytes::new() };
    batch.add(Kind::BlobRef(reference), None);
    publish_patiently(channels, &artifact.run_id, batch).await?;
    Ok(json!({}))
}

/// Sends a file to the blob store; returns its key and its size.
async fn store(channels: &Channels, open: StoreOpen, body: Body) -> Result<(String, u64)> {
    // Capacity of one, so that the pace of the blob store slows down the client.
    let (pieces, requests) = mpsc::channel(1);
    let mut client = channels.ingest();
    let storing = client.store(ReceiverStream::new(requests));
    let sending = send(open, body, pieces);
    tokio::pin!(storing, sending);
    let answer = tokio::select! {
        answer = &mut storing => answer,
        sent = &mut sending => match sent {
            Ok(()) => storing.await,
            // Dropping the call discards the incomplete file.
            Err(BodyInterrupted) => {
                return Err(MlflowError::new(ErrorCode::BadRequest, "the body ended early: send the file again"));
            }
        },
    };
    let answer = answer?.into_inner();
    Ok((answer.key, answer.size))
}

/// The client disconnected before the end of its body.
struct BodyInterrupted;

/// Passes a body on in pieces. The channel is closed only if the body is complete.
async fn send(
    open: StoreOpen,
    body: Body,
    pieces: mpsc::Sender<StoreRequest>,
) -> Result<(), BodyInterrupted> {
    let mut messages = std::pin::pin!(messages(open, body));
    while let Some(message) = messages.next().await {
        if pieces.send(StoreRequest { message: Some(message?) }).await.is_err() {
            // The frontier has already answered, and its answer is the result.
            return std::future::pending().await;
        }
    }
    Ok(())
}

fn messages(open: StoreOpen, body: Body) -> impl Stream<Item = Result<Message, BodyInterrupted>> {
    let chunks = body.into_data_stream().flat_map(|data| {
        let pieces = match data {
            Ok(data) => split(data).map(|piece| Ok(Message::Chunk(piece))).collect(),
            Err(_) => vec![Err(BodyInterrupted)],
        };
        stream::iter(pieces)
    });
    // An error ends the sending, so the end mark is only reached after a complete body.
    stream::iter([Ok(Message::Open(open))]).chain(chunks).chain(stream::iter([Ok(Message::Done(true))]))
}

fn split(mut data: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!data.is_empty()).then(|| data.split_to(data.len().min(CHUNK_BYTES))))
}

/// Deletes a file, or all files of a folder or of a run. A missing file counts as deleted, because clients repeat
/// requests.
pub(crate) async fn delete(channels: &Channels, fields: &Fields) -> Result<Value> {
    let StoredArtifact { run_id, path } =
        locate(channels, ArtifactPath::parse(fields.required("path")?)?).await?;
    if !path.is_empty() {
        delete_path(channels, &run_id, path).await?;
        return Ok(json!({}));
    }
    let mut pages = FolderPages::new(channels, &run_id, "");
    let mut entries = Vec::new();
    while pages.add_next(&mut entries).await? {
        let deletions = entries.drain(..).map(|(path, ..)| delete_path(channels, &run_id, path));
        call_all(CALLS_AT_A_TIME, deletions).await?;
    }
    Ok(json!({}))
}

async fn delete_path(channels: &Channels, run_id: &str, path: String) -> Result<()> {
    let request = DeleteRequest { run_id: run_id.to_owned(), path };
    match channels.artifacts().delete(request).await {
        Ok(_) => Ok(()),
        Err(status) if missing_resource(&status).as_deref() == Some("artifact") => Ok(()),
        Err(status) if is_missing(&status) => Err(no_run(run_id)),
        Err(status) => Err(status.into()),
    }
}
