//! The lists of files of fjall's keyspaces, read without fjall.
//!
//! fjall deletes every table and blob file that its manifest does not list, and does not verify the manifest. So it is
//! verified before fjall opens it. Integers are in little-endian:
//!
//! ```text
//! current       id of the manifest u64, xxh3 of its file u128, 0 u8
//! v{id}         an archive (sfa) with the sections:
//!   tables      levels u8, each: runs u8, each: tables u32, each: id u64, 0 u8, xxh3 of the file u128, sequence number u64
//!   blob_files  files u32, each: id u64, 0 u8, xxh3 of the file u128
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_128;

/// Directories of the keyspaces in an engine: the names of keyspaces, and the rows.
pub(super) const KEYSPACES: [&str; 2] = ["keyspaces/0", "keyspaces/1"];
/// Directory of the keyspace with the rows.
pub(super) const ROWS: &str = KEYSPACES[1];

/// Damage to a file of a store.
#[derive(Debug, thiserror::Error)]
#[error("{} {kind}", file.display())]
pub struct Damage {
    pub file: PathBuf,
    pub kind: DamageKind,
}

#[derive(Debug, thiserror::Error)]
pub enum DamageKind {
    #[error("is missing")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("does not match its checksum")]
    Checksum,
    #[error("is malformed")]
    Malformed,
    #[error("is damaged at byte {offset}, within commits that had been synced")]
    SyncedCommits { offset: usize },
}

/// A file that a manifest lists.
#[derive(Debug)]
pub(super) struct ListedFile {
    pub(super) path: PathBuf,
    pub(super) checksum: u128,
    /// Added to the sequence numbers in the file.
    pub(super) sequence: u64,
}

#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) tables: Vec<ListedFile>,
    pub(super) blob_files: Vec<ListedFile>,
}

impl Manifest {
    /// Reads and verifies the manifest of the keyspace in a directory.
    pub(super) fn read(keyspace: &Path) -> Result<Self, Damage> {
        let current = keyspace.join("current");
        let content = read(&current)?;
        let Some((id, checksum)) = parse_current(&content) else {
            return Err(Damage { file: current, kind: DamageKind::Malformed });
        };
        let file = keyspace.join(format!("v{id}"));
        let content = read(&file)?;
        if xxh3_128(&content) != checksum {
            return Err(Damage { file, kind: DamageKind::Checksum });
        }
        Self::parse(keyspace, &file, &content).ok_or(Damage { file, kind: DamageKind::Malformed })
    }

    fn parse(keyspace: &Path, file: &Path, content: &[u8]) -> Option<Self> {
        let archive = sfa::Reader::new(file).ok()?;
        let section = |name: &[u8]| {
            let entry = archive.toc().section(name)?;
            let (_, rest) = content.split_at_checked(usize::try_from(entry.pos()).ok()?)?;
            rest.get(..usize::try_from(entry.len()).ok()?)
        };
        Self::of_sections(keyspace, section(b"tables")?, section(b"blob_files")?)
    }

    /// Parses the sections of the manifest of the keyspace in a directory.
    pub(super) fn of_sections(keyspace: &Path, tables: &[u8], blob_files: &[u8]) -> Option<Self> {
        let mut tables = tables;
        let mut blob_files = blob_files;
        let mut manifest = Self::default();
        for _level in 0..tables.try_get_u8().ok()? {
            for _run in 0..tables.try_get_u8().ok()? {
                for _table in 0..tables.try_get_u32_le().ok()? {
                    let mut table = parse_file(&mut tables, &keyspace.join("tables"))?;
                    table.sequence = tables.try_get_u64_le().ok()?;
                    manifest.tables.push(table);
                }
            }
        }
        for _file in 0..blob_files.try_get_u32_le().ok()? {
            manifest.blob_files.push(parse_file(&mut blob_files, &keyspace.join("blobs"))?);
        }
        Some(manifest)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &ListedFile> {
        self.tables.iter().chain(&self.blob_files)
    }
}

fn parse_current(content: &[u8]) -> Option<(u64, u128)> {
    let mut rest = content;
    let id = rest.try_get_u64_le().ok()?;
    let checksum = rest.try_get_u128_le().ok()?;
    Some((id, checksum))
}

fn parse_file(rest: &mut &[u8], directory: &Path) -> Option<ListedFile> {
    let id = rest.try_get_u64_le().ok()?;
    let _kind_of_checksum = rest.try_get_u8().ok()?;
    let checksum = rest.try_get_u128_le().ok()?;
    Some(ListedFile { path: directory.join(id.to_string()), checksum, sequence: 0 })
}

fn read(file: &Path) -> Result<Vec<u8>, Damage> {
    fs::read(file).map_err(|error| unreadable(file, error))
}

/// The damage that an error of the file system means.
pub(super) fn unreadable(file: &Path, error: io::Error) -> Damage {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => DamageKind::Missing,
        _ => DamageKind::Unreadable(error),
    };
    Damage { file: file.to_owned(), kind }
}
