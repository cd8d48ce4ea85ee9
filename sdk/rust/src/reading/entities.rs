//! Calls about everything but the data of runs: the server, experiments, tags, and artifacts.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::{
    io::{self, Write as _},
    path::Path,
};

use object_store_http::Method;
use tempfile::NamedTempFile;

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

    /// Content of an artifact, read while it arrives.
    pub fn artifact(&self, run_id: &str, path: &str) -> Result<BlockingBody, HttpError> {
        let run = segment(run_id);
        self.open(RestRequest::get(format!("{REST}/runs/{run}/artifacts/download/")).query("path", path))
    }

    /// All artifacts of a run as a ZIP file, read while it arrives.
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
        let failed = |source| HttpError::File { path: path.to_owned(), source };
        let mut partial = partial_file(path).map_err(failed)?;
        let mut length = 0;
        for piece in self {
            let piece = piece?;
            partial.write_all(&piece).map_err(failed)?;
            length += piece.len() as u64;
        }
        partial.persist(path).map_err(|error| failed(error.error))?;
        Ok(length)
    }
}

/// Creates a file next to `path` under a name that nobody else can know, so that it follows no link. It
/// is removed unless it is renamed.
fn partial_file(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = tempfile::Builder::new();
    name.prefix(".matyan-").suffix(".part");
    // Readable by others, as far as the umask allows it, unlike other temporary files.
    #[cfg(unix)]
    name.permissions(PermissionsExt::from_mode(0o666));
    name.tempfile_in(directory)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rule_74_a_download_writes_through_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.pt");
        let other = directory.path().join("other");
        fs::write(&other, "kept").unwrap();
        // Names that a process could be known to use.
        for number in 0..10 {
            let name = format!(".model.pt.{}-{number}.part", std::process::id());
            std::os::unix::fs::symlink(&other, directory.path().join(name)).unwrap();
        }
        let mut partial = partial_file(&path).unwrap();
        partial.write_all(b"new").unwrap();
        assert!(!path.exists());
        partial.persist(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&other).unwrap()), (b"new".into(), b"kept".into()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other), "as readable as any other file");
    }
}
