//! The positions up to which the files of a run are read. They are kept as a named document of the server, so
//! that a restarted follower continues there, on any machine.
//!
//! The document is written before its run begins, so that the run is found again, and then once the points before the
//! positions are durable. If the process is killed before that, some points are sent again, which changes nothing: every
//! point and object has the step that it has in its file.

use std::collections::BTreeMap;

use matyan_channels::Channels;
use matyan_proto::{
    documents::v1::{GetRequest, WriteRequest},
    limits::NAMED_DOCUMENT_BYTES,
};
use matyan_tfrecord::Plugins;
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

/// The kind of the documents.
const KIND: &str = "tensorboard-position";

/// Number of bytes at the start of a file by which the file is recognized. They contain the time of the
/// file's creation.
pub(crate) const HEAD_BYTES: usize = 32;

/// The positions of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunPosition {
    /// The positions by the names of the files.
    pub(crate) files: BTreeMap<String, FilePosition>,
    #[serde(default)]
    pub(crate) plugins: Plugins,
    /// True once the run has its name and its experiment, which people may change afterwards.
    #[serde(default)]
    pub(crate) is_begun: bool,
    /// True if the run was finished because it did not grow, and has not grown since.
    #[serde(default)]
    pub(crate) is_finished: bool,
    /// True if the writer has said how the run ended.
    #[serde(default)]
    pub(crate) has_outcome: bool,
}

/// The content of the document under the id that a run would have if it began with a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum PositionDocument {
    /// The file is a further one of another run, which is found by this file when its first file is gone.
    Further {
        run_id: String,
    },
    First(RunPosition),
}

/// The position in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilePosition {
    /// Bytes that are read.
    pub(crate) offset: u64,
    /// The first bytes of the file, in hexadecimal digits; empty while they are not read.
    #[serde(default)]
    pub(crate) head: String,
}

impl FilePosition {
    /// Whether a file of this size with these first bytes is the file that was read, longer or not.
    pub(crate) fn is_of(&self, size: u64, head: &str) -> bool {
        size >= self.offset && (self.head.is_empty() || self.head == head)
    }
}

/// Finds the run that has a file, by the id of a run that begins with it. Returns the id of the run and its position, the
/// start if it is unreadable; `None` if no run has the file.
pub(crate) async fn find(
    channels: &Channels,
    id_of_file: String,
) -> Result<Option<(String, RunPosition)>, Status> {
    match load(channels, &id_of_file).await? {
        None => Ok(None),
        Some(PositionDocument::First(position)) => Ok(Some((id_of_file, position))),
        Some(PositionDocument::Further { run_id }) => {
            let position = match load(channels, &run_id).await? {
                Some(PositionDocument::First(position)) => position,
                _ => RunPosition::default(),
            };
            Ok(Some((run_id, position)))
        }
    }
}

async fn load(channels: &Channels, name: &str) -> Result<Option<PositionDocument>, Status> {
    let request = GetRequest { kind: KIND.to_owned(), name: name.to_owned() };
    match channels.documents().get(request).await {
        Ok(response) => {
            let content = response.into_inner().document.unwrap_or_default().content;
            let unreadable = PositionDocument::First(RunPosition::default());
            Ok(Some(serde_json::from_slice(&content).unwrap_or(unreadable)))
        }
        Err(status) if status.code() == Code::NotFound && !is_about_project(&status) => Ok(None),
        Err(status) => Err(status),
    }
}

/// Whether a project does not exist, rather than a document in it.
fn is_about_project(status: &Status) -> bool {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.metadata.get("resource").is_some_and(|it| it == "project"))
}

/// Writes the start as the position of a run, unless there is a position.
pub(crate) async fn begin(channels: &Channels, run_id: &str) -> Result<(), Status> {
    write_first(channels, run_id, PositionDocument::First(RunPosition::default())).await
}

/// Writes that a file is a further one of a run, unless this is known, or a run has begun with the file.
pub(crate) async fn add_file(channels: &Channels, id_of_file: &str, run_id: &str) -> Result<(), Status> {
    write_first(channels, id_of_file, PositionDocument::Further { run_id: run_id.to_owned() }).await
}

/// Writes a document, unless another follower of the directory, or this one, has written it before.
async fn write_first(channels: &Channels, name: &str, document: PositionDocument) -> Result<(), Status> {
    match write(channels, name, &document, Some(0)).await {
        Err(status) if status.code() == Code::Aborted => Ok(()),
        written => written,
    }
}

/// Writes the position of a run. A position that is too large is not written: then a restart reads the run again.
pub(crate) async fn save(channels: &Channels, run_id: &str, position: &RunPosition) -> Result<(), Status> {
    write(channels, run_id, &PositionDocument::First(position.clone()), None).await
}

async fn write(
    channels: &Channels,
    name: &str,
    document: &PositionDocument,
    if_updated_us: Option<i64>,
) -> Result<(), Status> {
    let content = serde_json::to_vec(document).map_err(|error| Status::internal(error.to_string()))?;
    if content.len() > NAMED_DOCUMENT_BYTES {
        return Ok(());
    }
    let request = WriteRequest {
        kind: KIND.to_owned(),
        name: name.to_owned(),
        content: content.into(),
        if_updated_us,
        deletes: false,
    };
    channels.documents().write(request).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_or_truncated_file_is_another_file() {
        let position = FilePosition { offset: 100, head: "aa".to_owned() };
        assert!(position.is_of(100, "aa") && position.is_of(200, "aa"));
        assert!(!position.is_of(99, "aa"), "truncated");
        assert!(!position.is_of(200, "bb"), "replaced");
        assert!(FilePosition::default().is_of(0, ""));
    }

    #[test]
    fn positions_of_other_versions_are_read() {
        let text = r#"{"files": {"f": {"offset": 3}}, "new": 1}"#;
        let PositionDocument::First(position) = serde_json::from_str(text).unwrap() else {
            panic!("the file is the first one");
        };
        assert_eq!(position.files["f"], FilePosition { offset: 3, head: String::new() });
        assert!(!position.is_begun);
    }
}
