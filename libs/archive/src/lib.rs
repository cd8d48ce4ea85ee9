//! Archives: the file format of backups. It is format 1 of Matyan 0.3, which the published
//! client reads and writes, extended by files and keys that this client ignores:
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | version, filters, counts; extension: `log`, the log positions of the snapshot |
//! | `entities.jsonl` | experiments, tags, dashboards, apps, reports, notes, one per line |
//! | `studies.jsonl` | extension: studies with their attributes and trials, one part per line |
//! | `project.json`, `tombstones.jsonl` | extension: settings, pinned sequences and goals of metrics; deleted runs |
//! | `runs/{run}/run.json` | properties; extension: tags, names of links, parent, cursor |
//! | `runs/{run}/attrs.json` | params and, as `__blobs__`, artifacts |
//! | `runs/{run}/traces.json`, `contexts.json` | series and their contexts |
//! | `runs/{run}/sequences.jsonl` | one step per line, series by series |
//! | `runs/{run}/producers.jsonl` | extension: progress and dictionary of each producer |
//! | `runs/{run}/parked.jsonl` | extension: items that could not be applied, and records of a run in quarantine |
//! | `runs/{run}/blobs/…`, `blobs.jsonl` | files; extension: content types, and paths that are not valid file names |
//! | `runs/{run}/lost.jsonl` | extension: blobs that the run refers to but that were missing at backup time |
//! | `checksums.sha256` | extension: the SHA-256 of every other file, in the format of `sha256sum -c` |
//!
//! Values that JSON cannot represent have a second form next to it: a value with bytes is
//! stored as hexadecimal CBOR under its key plus `_cbor`, a time that a float cannot hold as
//! microseconds under its key plus `_us`. The folder of a run is named after its id or, if that
//! is not a valid folder name, after the digest of the id.

mod blob_file;
mod checksums;
mod client_blobs;
mod durable;
mod entities;
mod fields;
mod file_in;
mod lines;
mod pack;
mod parked_items;
mod run_files;
mod run_reader;
mod run_step;
mod run_writer;
mod sequences_file;
mod series;
mod studies;
mod studies_file;
#[cfg(test)]
mod tests;

pub mod client_writer;
pub mod reader;
pub mod writer;

pub(crate) use fields::{Fields, JsonObject};
pub use pack::{Interrupt, pack, pack_interruptibly, unpack, unpack_interruptibly};

use std::{io, path::Path, path::PathBuf};

use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const ENTITIES: &str = "entities.jsonl";
pub(crate) const PROJECT: &str = "project.json";
pub(crate) const TOMBSTONES: &str = "tombstones.jsonl";
pub(crate) const STUDIES: &str = "studies.jsonl";
pub(crate) const CHECKSUMS: &str = "checksums.sha256";
/// Runs being written, until the archive is complete.
pub(crate) const PARTS: &str = ".parts";
/// Marker file of an archive that is not complete.
pub(crate) const UNFINISHED: &str = ".unfinished.json";
pub(crate) const RUNS: &str = "runs";
/// In the folder of a run: its blobs.
pub(crate) const BLOBS: &str = "blobs";
/// In the folder of a run: paths of blobs whose files have other names.
pub(crate) const BLOB_LIST: &str = "blobs.jsonl";
/// The key of the artifacts among the params of a run.
pub(crate) const ARTIFACTS: &str = "__blobs__";
/// In the folder of a run: the blobs that could not be read.
pub(crate) const LOST: &str = "lost.jsonl";
/// In the folder of a run: its parked items.
pub(crate) const PARKED: &str = "parked.jsonl";
pub(crate) const VERSION: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {reason}", file.display())]
    Damaged { file: PathBuf, reason: String },
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    NotAnArchive(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn damaged(file: impl Into<PathBuf>, reason: impl Into<String>) -> Error {
    Error::Damaged { file: file.into(), reason: reason.into() }
}

/// Adds the path to an I/O error.
pub(crate) fn file_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::File { path: path.to_owned(), source }
}

/// Returns the name of a run's folder below `runs`.
pub fn run_folder(run_id: &str) -> String {
    let is_plain = !run_id.is_empty()
        && run_id.len() <= 200
        // A leading `~` marks a digest, and a leading dot includes `.` and `..`.
        && !run_id.starts_with(['.', '~'])
        && !run_id.chars().any(|it| it.is_control() || matches!(it, '/' | '\\'));
    if is_plain { run_id.to_owned() } else { digest_name(run_id) }
}

/// Returns the file name for a text that cannot be a file name.
pub(crate) fn digest_name(text: &str) -> String {
    format!("~{}", hex::encode(Sha256::digest(text)))
}
