//! `matyan uploads`: lists and removes uploads in parts that were begun in a directory of blobs, and neither
//! completed nor aborted. Needs no server, and works next to one, which notices within ten minutes. Buckets
//! have their own commands and lifecycle rules.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use matyan_blob::{MultipartUploads, UrlSigner, fs::FsBlobs};
use tokio::runtime::Builder;

use crate::wire::clock;

const UPLOADS_EXAMPLES: &str = "\
Examples:
  matyan uploads ls --dir /srv/matyan/blobs
  matyan uploads rm --dir /srv/matyan/blobs 0b2ff0dd9c0f4d2c8f3d0c7e8f6f6a51

An upload counts for its project with its whole size, and expires when it has been silent for a week. A client whose upload was
removed begins it again.";

#[derive(Debug, Subcommand)]
pub(crate) enum UploadsCommand {
    /// List open uploads in parts: id, size in bytes, and key
    #[command(after_help = UPLOADS_EXAMPLES)]
    Ls {
        #[command(flatten)]
        directory: BlobDirectory,
    },
    /// Remove open uploads in parts
    #[command(after_help = UPLOADS_EXAMPLES)]
    Rm {
        #[command(flatten)]
        directory: BlobDirectory,
        /// Ids, as listed
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BlobDirectory {
    /// Directory of the blobs: the folder `blobs` of the data directory
    #[arg(long, value_name = "DIR", default_value = "matyan-data/blobs")]
    dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to start the async runtime, or to write the output")]
    SetUp(#[source] io::Error),
    #[error(
        "{} is not a directory of blobs: name one with --dir, such as the folder `blobs` of the data directory",
        .0.display()
    )]
    NoDirectory(PathBuf),
    #[error("there is no open upload `{0}`: `matyan uploads ls` lists them")]
    NoUpload(String),
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
}

pub(super) fn run(command: UploadsCommand) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    let lines = runtime.block_on(async {
        match command {
            UploadsCommand::Ls { directory } => list(&directory.open()?).await,
            UploadsCommand::Rm { directory, ids } => remove(&directory.open()?, ids).await,
        }
    })?;
    let mut out = io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(Error::SetUp)
}

impl BlobDirectory {
    fn open(self) -> Result<FsBlobs, Error> {
        // Opening would create it.
        if !self.dir.join("format").exists() {
            return Err(Error::NoDirectory(self.dir));
        }
        // No URL is signed here.
        let signer = UrlSigner::new(&[], Duration::ZERO, clock::now_us());
        Ok(FsBlobs::open(&self.dir, signer, clock::now_us())?)
    }
}

async fn list(blobs: &FsBlobs) -> Result<Vec<String>, Error> {
    let mut open = blobs.sweep_uploads().await?;
    open.sort_by(|one, other| (&one.key, &one.id).cmp(&(&other.key, &other.id)));
    Ok(open.iter().map(|upload| format!("{}  {:>15}  {}", upload.id, upload.size, upload.key)).collect())
}

async fn remove(blobs: &FsBlobs, ids: Vec<String>) -> Result<Vec<String>, Error> {
    let mut open = blobs.sweep_uploads().await?;
    let mut chosen = Vec::new();
    // A mistyped id removes nothing.
    for id in ids {
        let index = open.iter().position(|upload| upload.id == id).ok_or(Error::NoUpload(id))?;
        chosen.push(open.swap_remove(index));
    }
    let mut removed = Vec::new();
    for upload in chosen {
        blobs.abort(&upload).await?;
        removed.push(format!("removed {} of {}", upload.id, upload.key));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use matyan_blob::BlobKey;

    use super::*;

    #[tokio::test]
    async fn open_uploads_are_listed_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = || BlobDirectory { dir: root.path().join("blobs") };
        assert!(matches!(directory().open(), Err(Error::NoDirectory(_))));
        let signer = UrlSigner::new(b"secret", Duration::from_secs(1), clock::now_us());
        let server = FsBlobs::open(&directory().dir, signer, clock::now_us()).unwrap();
        let key = |key: &str| BlobKey::new(key).unwrap();
        let kept = server.begin(&key(".projects/team/r/a.bin"), "", 7).await.unwrap();
        let removed = server.begin(&key("r/b.bin"), "", 12).await.unwrap();

        let blobs = directory().open().unwrap();
        let line = |id: &str, size: u64, key: &str| format!("{id}  {size:>15}  {key}");
        let lines = [line(&kept, 7, ".projects/team/r/a.bin"), line(&removed, 12, "r/b.bin")];
        assert_eq!(list(&blobs).await.unwrap(), lines);
        remove(&blobs, vec![removed.clone()]).await.unwrap();
        assert_eq!(list(&server).await.unwrap(), lines[..1]);
        assert!(matches!(remove(&blobs, vec![removed]).await, Err(Error::NoUpload(_))));
    }
}
