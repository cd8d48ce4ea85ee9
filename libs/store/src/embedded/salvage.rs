//! Copies everything that can be read in a damaged store to a new one.
//!
//! The rows are read from the tables and journals themselves, because fjall stops at the first damaged
//! block, and changes what it opens. The newest version of each row wins, by its sequence number. If the
//! newest version cannot be read, the row is lost, or has an older value: the losses say where.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use super::Settings;
use super::directory_lock::DirectoryLock;
use super::engine::{Engine, io_error};
use super::inspection::no_store;
use crate::{Error, Result};
use source::{RowSources, RowValue};

/// Size of one write to the new store.
const WRITE_BYTES: usize = 1 << 20;

/// Part of a store that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", file.display())]
pub struct Loss {
    pub file: PathBuf,
    pub kind: LossKind,
}

#[derive(Debug, thiserror::Error)]
pub enum LossKind {
    #[error("{reason}; all of its rows are missing, or have older values")]
    Table { reason: String },
    #[error("{count} blocks of rows cannot be read; their rows are missing, or have older values")]
    Blocks { count: u64 },
    #[error("{count} large values cannot be read; their rows are missing")]
    Values { count: u64 },
    #[error("{bytes} bytes at byte {offset} cannot be read; {commits} are missing", commits = count_of(*commits))]
    Commits {
        offset: usize,
        bytes: usize,
        /// None if the number is not known.
        commits: Option<u64>,
    },
    #[error("{reason}; all files in the directory were read, so some deleted rows may be back")]
    Manifest { reason: String },
}

fn count_of(count: Option<u64>) -> String {
    match count {
        Some(1) => "1 commit".to_owned(),
        Some(count) => format!("{count} commits"),
        None => "the commits in them".to_owned(),
    }
}

/// Result of copying a damaged store.
#[derive(Debug, Default)]
pub struct Salvage {
    /// Rows in the new store.
    pub rows: u64,
    /// Size of their keys and values.
    pub bytes: u64,
    pub losses: Vec<Loss>,
}

/// Copies the readable rows of the store in `from` to a new store in `to`, which must be empty or
/// missing. `progress` is called with the number of rows copied.
pub fn salvage(from: &Path, to: &Path, mut progress: impl FnMut(u64)) -> Result<Salvage> {
    let engine = from.join("engine");
    if !engine.try_exists().map_err(io_error)? {
        return Err(no_store(from));
    }
    check_empty(to)?;
    let _source_lock = DirectoryLock::acquire_existing(from)?;
    let _lock = DirectoryLock::acquire(to)?;
    let mut salvage = Salvage::default();
    let mut sources = RowSources::open(&engine, &mut salvage.losses)?;
    let target = Engine::open(to, &Settings::default())?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    for (key, value) in sources.rows() {
        let value = match value {
            RowValue::Inline(value) => value,
            RowValue::InFile(reference) => match sources.blobs.read(&key, &reference) {
                Some(value) => value,
                None => continue,
            },
        };
        salvage.rows += 1;
        bytes += key.len() + value.len();
        rows.push((key, value));
        if bytes >= WRITE_BYTES {
            salvage.bytes += bytes as u64;
            bytes = 0;
            target.write_rows(std::mem::take(&mut rows))?;
            progress(salvage.rows);
        }
    }
    salvage.bytes += bytes as u64;
    target.write_rows(rows)?;
    progress(salvage.rows);
    sources.report(&mut salvage.losses);
    target.close(to)?;
    Ok(salvage)
}

fn check_empty(directory: &Path) -> Result<()> {
    let is_empty = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(io_error(error)),
    };
    if is_empty {
        return Ok(());
    }
    Err(Error::Settings {
        reason: format!("{} is not empty: give a directory that does not exist", directory.display()),
    })
}

#[cfg(test)]
mod tests;
