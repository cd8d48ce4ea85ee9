//! Reads all files of a store that is not in use, and reports damage. Changes nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::directory_lock::DirectoryLock;
use super::engine::{REQUIRED_FILES, io_error};
use super::journal::{self, Tail};
use super::manifest::{Damage, DamageKind, KEYSPACES, ListedFile, Manifest, unreadable};
use crate::{Error, Result};

const READ_BYTES: usize = 1 << 20;

/// State of the files of a store.
#[derive(Debug, Default)]
pub struct Inspection {
    pub files: u64,
    pub bytes: u64,
    pub damage: Vec<Damage>,
    /// Bytes of unfinished commits at the end of the journal, as after any crash. The next opening cuts
    /// them off.
    pub unfinished_bytes: u64,
}

/// Reads all files of the store in `directory`. `progress` is called with the number of files read, and
/// with the number of all files.
pub fn inspect(directory: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Inspection> {
    let engine = directory.join("engine");
    if !engine.try_exists().map_err(io_error)? {
        return Err(no_store(directory));
    }
    let _lock = DirectoryLock::acquire_existing(directory)?;
    let mut inspection = Inspection::default();
    for name in REQUIRED_FILES {
        let file = engine.join(name);
        if !file.try_exists().map_err(io_error)? {
            inspection.damage.push(Damage { file, kind: DamageKind::Missing });
        }
    }
    let mut manifests = Vec::new();
    for keyspace in KEYSPACES {
        inspection.files += 1;
        match Manifest::read(&engine.join(keyspace)) {
            Ok(manifest) => manifests.push(manifest),
            Err(Damage { kind: DamageKind::Missing, file }) if file.ends_with("current") => {}
            Err(damage) => inspection.damage.push(damage),
        }
    }
    let listed: Vec<&ListedFile> = manifests.iter().flat_map(Manifest::files).collect();
    let journals = journal::journals(&engine).map_err(io_error)?;
    let total = inspection.files + (listed.len() + journals.len()) as u64;
    for file in listed {
        progress(inspection.files, total);
        inspection.files += 1;
        match checksum(&file.path, &mut inspection.bytes) {
            Ok(found) if found == file.checksum => {}
            Ok(_) => inspection.damage.push(Damage { file: file.path.clone(), kind: DamageKind::Checksum }),
            Err(error) => inspection.damage.push(unreadable(&file.path, error)),
        }
    }
    inspect_journals(&mut inspection, &engine)?;
    progress(total, total);
    Ok(inspection)
}

fn inspect_journals(inspection: &mut Inspection, engine: &Path) -> Result<()> {
    let found = journal::read_all(engine, |path, content, tail| {
        inspection.files += 1;
        inspection.bytes += content.len() as u64;
        match tail {
            Tail::Clean => {}
            Tail::Torn(offset) => inspection.unfinished_bytes = (content.len() - offset) as u64,
            Tail::Synced(offset) => {
                let kind = DamageKind::SyncedCommits { offset };
                inspection.damage.push(Damage { file: path.to_owned(), kind });
            }
        }
        Ok(())
    });
    found.map_err(io_error)
}

fn checksum(path: &Path, bytes: &mut u64) -> std::io::Result<u128> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut hasher = Xxh3::new();
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.digest128());
        }
        hasher.update(&buffer[..read]);
        *bytes += read as u64;
    }
}

/// The error for a directory without a store.
pub(super) fn no_store(directory: &Path) -> Error {
    Error::Settings {
        reason: format!(
            "there is no store in {}: give the directory that contains the directory `engine`",
            directory.display()
        ),
    }
}
