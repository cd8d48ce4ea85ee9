//! Calls about everything but the data of runs: the server, experiments, tags, and artifacts.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use object_store_http::Method;

use super::{
    backend::{BackendClient, text_members},
    wait::BlockingBody,
};
use crate::http::{HttpError, JsonText, RestRequest, segment};

const REST: &str = "/api/v1/rest";

impl BackendClient {
    /// Version and component of the server.
    pub fn version(&self) -> Result<JsonText, HttpError> {
        self.send(RestRequest::get(format!("{REST}/version/")))
    }

    /// Name and description of the project.
    pub fn project(&self) -> Result<JsonText, HttpError> {
        self.send(RestRequest::get(format!("{REST}/projects/")))
    }

    /// Lists experiments, archived ones included.
    pub fn experiments(&self) -> Result<JsonText, HttpError> {
        self.send(RestRequest::get(format!("{REST}/experiments/")))
    }

    /// Creates an experiment. A name that is in use is refused with status 409.
    pub fn create_experiment(&self, name: &str) -> Result<JsonText, HttpError> {
        let members = text_members(&[("name", Some(name))]);
        self.send(RestRequest::json(Method::POST, format!("{REST}/experiments/"), members))
    }

    /// Deletes an experiment by id. Its runs stay.
    pub fn delete_experiment(&self, id: &str) -> Result<JsonText, HttpError> {
        self.send(RestRequest::new(Method::DELETE, format!("{REST}/experiments/{}/", segment(id))))
    }

    /// Lists tags, archived ones included.
    pub fn tags(&self) -> Result<JsonText, HttpError> {
        self.send(RestRequest::get(format!("{REST}/tags/")))
    }

    /// Creates a tag. A name that is in use is refused with status 409.
    pub fn create_tag(
        &self,
        name: &str,
        color: Option<&str>,
        description: Option<&str>,
    ) -> Result<JsonText, HttpError> {
        let members = text_members(&[("name", Some(name)), ("color", color), ("description", description)]);
        self.send(RestRequest::json(Method::POST, format!("{REST}/tags/"), members))
    }

    /// Content of an artifact, as it arrives.
    pub fn artifact(&self, run_id: &str, path: &str) -> Result<BlockingBody, HttpError> {
        let run = segment(run_id);
        self.open(RestRequest::get(format!("{REST}/runs/{run}/artifacts/download/")).query("path", path))
    }

    /// All artifacts of a run as a ZIP file, as it arrives.
    pub fn artifacts_zip(&self, run_id: &str) -> Result<BlockingBody, HttpError> {
        self.open(RestRequest::get(format!("{REST}/runs/{}/artifacts/download-all/", segment(run_id))))
    }
}

impl BlockingBody {
    /// Returns the whole content.
    pub fn into_bytes(self) -> Result<Vec<u8>, HttpError> {
        let mut content = Vec::new();
        for piece in self {
            content.extend_from_slice(&piece?);
        }
        Ok(content)
    }

    /// Writes the content to a file and returns its length. The file appears when it is complete;
    /// until then the content is in a hidden file next to it, which is removed after an error.
    ///
    /// ```no_run
    /// # fn download(backend: &matyan_sdk::reading::BackendClient) -> Result<(), matyan_sdk::http::HttpError> {
    /// backend.artifact("run", "model.pt")?.save("model.pt".as_ref())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn save(self, path: &Path) -> Result<u64, HttpError> {
        let partial = partial_path(path);
        let failed = |source| HttpError::File { path: path.to_owned(), source };
        let saved = self.write(&partial, path).and_then(|length| {
            fs::rename(&partial, path).map_err(failed)?;
            Ok(length)
        });
        if saved.is_err() {
            // It may not exist, and the first error is the one to report.
            drop(fs::remove_file(&partial));
        }
        saved
    }

    fn write(self, partial: &Path, path: &Path) -> Result<u64, HttpError> {
        let failed = |source| HttpError::File { path: path.to_owned(), source };
        let mut file = File::create(partial).map_err(failed)?;
        let mut length = 0;
        for piece in self {
            let piece = piece?;
            file.write_all(&piece).map_err(failed)?;
            length += piece.len() as u64;
        }
        Ok(length)
    }
}

/// A name that no other download of this machine uses.
fn partial_path(path: &Path) -> PathBuf {
    static DOWNLOADS: AtomicU64 = AtomicU64::new(0);
    let number = DOWNLOADS.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.part", std::process::id()))
}
