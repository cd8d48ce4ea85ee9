//! The artifacts of a copy.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    mem,
};

use matyan_proto::{
    artifacts::v1::{
        Artifact, GetRequest, ListRequest, artifact_service_client::ArtifactServiceClient,
        get_response::Message,
    },
    published::v1::PublishedRun,
};
use tonic::Code;

use super::{Error, RunCopy, client, file_error, notice, run_error};
use crate::client::Failure;

/// The artifacts of a run that a copy has.
#[derive(Clone, Debug)]
pub(super) enum Artifacts {
    All,
    /// Artifacts with these paths.
    Only(HashSet<String>),
}

impl Artifacts {
    fn contain(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(paths) => paths.contains(path),
        }
    }

    pub(super) fn are_none(&self) -> bool {
        matches!(self, Self::Only(paths) if paths.is_empty())
    }

    pub(super) fn are_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// Missing artifacts that a notice names.
const NAMED_ARTIFACTS: usize = 10;

/// Writes the wanted artifacts that are still stored.
pub(super) async fn write(
    copy: &mut RunCopy<'_>,
    wanted: &Artifacts,
    published: &mut PublishedRun,
) -> Result<(), Error> {
    let request = ListRequest { run_id: copy.run_id.to_owned(), ..ListRequest::default() };
    let answer = client!(ArtifactServiceClient, copy.channel.clone()).list(request).await;
    let mut messages = answer.map_err(run_error(copy.run_id))?.into_inner();
    while let Some(message) = messages.message().await? {
        let own = message.artifacts.into_iter().filter(|artifact| wanted.contain(&artifact.path));
        published.artifacts.extend(own);
    }
    let mut missing = Vec::new();
    for mut artifact in mem::take(&mut published.artifacts) {
        // Its own name might be a path out of the folder, or of a page that browsers run.
        let name = format!("artifacts/{}.bin", copy.next_artifact());
        match write_content(copy, &name, &artifact).await? {
            Some(bytes) => {
                artifact.size = Some(bytes);
                artifact.uri = name;
                published.artifacts.push(artifact);
            }
            None => {
                if missing.is_empty() {
                    super::check_not_deleted(copy).await?;
                }
                missing.push(artifact.path);
            }
        }
    }
    if !missing.is_empty() {
        copy.progress.suspend(|| notice(left_out(&missing)));
    }
    Ok(())
}

fn left_out(missing: &[String]) -> String {
    let named = missing.iter().take(NAMED_ARTIFACTS).map(String::as_str).collect::<Vec<_>>().join(", ");
    let others = match missing.len().saturating_sub(NAMED_ARTIFACTS) {
        0 => String::new(),
        count => format!(" and {count} others"),
    };
    format!("matyan: the copy leaves out artifacts that are no longer stored: {named}{others}")
}

/// Writes the content of an artifact, and returns its number of bytes; `None`: it is not stored any more.
async fn write_content(
    copy: &mut RunCopy<'_>,
    name: &str,
    artifact: &Artifact,
) -> Result<Option<u64>, Error> {
    let path = copy.shared_path(name);
    let mut file = File::create_new(&path).map_err(file_error(&path))?;
    let write = |chunk: &[u8]| file.write_all(chunk).map_err(file_error(&path));
    match read_content(copy, &artifact.path, write).await {
        Ok(bytes) => {
            copy.file_done(bytes);
            Ok(Some(bytes))
        }
        Err(Failure::Server(status)) if status.code() == Code::NotFound => {
            fs::remove_file(&path).map_err(file_error(&path))?;
            Ok(None)
        }
        Err(Failure::Server(status)) => {
            let error = Error::from(status);
            Err(Error::Message(format!("failed to copy the artifact {}: {error}", artifact.path)))
        }
        Err(Failure::Client(error)) => Err(error),
    }
}

/// Reads the content of an artifact, and returns its number of bytes.
async fn read_content(
    copy: &RunCopy<'_>,
    path: &str,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Failure> {
    let request =
        GetRequest { run_id: copy.run_id.to_owned(), path: path.to_owned(), ..GetRequest::default() };
    let mut messages = client!(ArtifactServiceClient, copy.channel.clone()).get(request).await?.into_inner();
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        if let Some(Message::Chunk(chunk)) = message.message {
            bytes += chunk.len() as u64;
            write(&chunk)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_artifacts_are_named() {
        let missing = |count: usize| (0..count).map(|at| format!("a{at}")).collect::<Vec<_>>();
        assert!(left_out(&missing(2)).ends_with(": a0, a1"));
        assert!(left_out(&missing(NAMED_ARTIFACTS + 3)).ends_with("a9 and 3 others"));
    }
}
