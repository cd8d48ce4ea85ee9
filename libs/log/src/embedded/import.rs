//! Import of a log in the format before segments: a fjall database in `engine/`, with one keyspace
//! for each topic and one for metadata.
//!
//! ```text
//! meta         "format"                  1 byte: 1
//! meta         "identity"                16 bytes
//! meta         "ingestion-partitions"    u32, little-endian
//! meta         "first/" + keyspace       first offset, and a number of bytes; u64, little-endian
//! {topic}-0    offset, u64, big-endian   u8 1, i64 appended_us, u64 number of bytes, then the body as in `record`
//! ```
//!
//! Identity and offsets are kept, so positions in the store stay valid. An interrupted import is
//! repeated, because `state` is its last step. Afterwards a file named `engine` takes the place of
//! the directory: an earlier version would otherwise create an empty log there.

use std::{fs, io, path::Path, sync::Arc};

use bytes::{Buf, Bytes};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::{
    Deps, Settings, TOPICS,
    appender::{AppendError, Appender},
    record,
    segments::Segments,
    state::{FirstOffsets, StateFile},
    topic, unavailable,
};
use crate::{Error, NewRecord, Record, Result, Topic};

const MARKER: &str = "This log consists of files in the directories next to this one. The program that reports an error about \
                      this file is too old for it: use a newer version.\n";

/// Bytes of records that are written together.
const GROUP_BYTES: usize = 4 << 20;

/// Imports the log in `engine/`. Returns false if there is none.
pub(super) fn import(log: &Path, deps: &Deps) -> Result<bool> {
    let path = log.join("engine");
    if !path.is_dir() {
        return Ok(false);
    }
    tracing::info!("importing the log of an earlier version");
    let database = Database::builder(&path).worker_threads(1).open().map_err(unreadable)?;
    let meta = open_keyspace(&database, "meta")?;
    let [format] = meta_row(&meta, "format")?;
    let partitions = u32::from_le_bytes(meta_row(&meta, "ingestion-partitions")?);
    if format != 1 || partitions != 1 {
        return Err(Error::corrupt(format!(
            "`{}` has format {format} and {partitions} partitions, but this program imports only format 1 with one partition",
            path.display()
        )));
    }
    let identity = meta_row(&meta, "identity")?;
    let mut first = FirstOffsets::default();
    for (topic, first) in TOPICS.into_iter().zip(&mut first) {
        let name = format!("{}-0", topic::directory_name(topic));
        let row = format!("first/{name}");
        if meta.contains_key(&row).map_err(unreadable)? {
            let row: [u8; 16] = meta_row(&meta, &row)?;
            *first = (&row[..]).get_u64_le();
        }
        let segments =
            Segments::create(log.join(topic::directory_name(topic)), identity, deps.disk.clone(), *first);
        let segments = Arc::new(segments.map_err(unwritable)?);
        let bytes = Settings::default().segment_bytes as u32;
        copy(topic, &open_keyspace(&database, &name)?, *first, Appender::new(segments, *first, bytes))?;
    }
    StateFile::create(&*deps.disk, log, &identity, first).map_err(unwritable)?;
    Ok(true)
}

/// Deletes an imported database, and puts a file in its place.
pub(super) fn replace_imported(log: &Path) -> io::Result<()> {
    let path = log.join("engine");
    if path.is_file() {
        return Ok(());
    }
    for directory in [&path, &log.join("engine.new")] {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
    }
    fs::write(path, MARKER)
}

fn copy(topic: Topic, records: &Keyspace, first: u64, mut appender: Appender) -> Result<()> {
    let mut group: Vec<Record> = Vec::new();
    let mut bytes = 0;
    let mut count = 0;
    for row in records.range(first.to_be_bytes()..) {
        let (key, value) = row.into_inner().map_err(unreadable)?;
        bytes += value.len();
        let record = decode(&key, Bytes::from_owner(value))
            .ok_or_else(|| Error::corrupt("a record of the log of an earlier version is damaged"))?;
        // Records of one group have one time and no gaps.
        if !group.last().is_some_and(|last| {
            last.offset + 1 == record.offset && last.appended_us == record.appended_us && bytes < GROUP_BYTES
        }) {
            write(&mut appender, std::mem::take(&mut group))?;
            bytes = 0;
        }
        group.push(record);
        count += 1;
    }
    write(&mut appender, group)?;
    tracing::info!(?topic, records = count, "imported records");
    appender.close().map_err(append_failed)
}

fn write(appender: &mut Appender, group: Vec<Record>) -> Result<()> {
    let Some(Record { offset, appended_us, .. }) = group.first() else { return Ok(()) };
    let appended_us = *appended_us;
    appender.skip_to(*offset);
    let records: Vec<_> = group
        .into_iter()
        .map(|Record { key, value, headers, .. }| NewRecord { key, value, headers })
        .collect();
    appender.append(records.iter(), appended_us).map_err(append_failed)
}

fn decode(offset: &[u8], mut value: Bytes) -> Option<Record> {
    let offset = u64::from_be_bytes(offset.try_into().ok()?);
    if value.try_get_u8().ok()? != 1 {
        return None;
    }
    let appended_us = value.try_get_i64_le().ok()?;
    let _bytes_before = value.try_get_u64_le().ok()?;
    record::decode_body(offset, appended_us, value)
}

fn open_keyspace(database: &Database, name: &str) -> Result<Keyspace> {
    database.keyspace(name, KeyspaceCreateOptions::default).map_err(unreadable)
}

fn meta_row<const BYTES: usize>(meta: &Keyspace, name: &str) -> Result<[u8; BYTES]> {
    let row = meta.get(name).map_err(unreadable)?;
    let row = row.and_then(|row| (*row).try_into().ok());
    row.ok_or_else(|| Error::corrupt(format!("its row `{name}` is missing or malformed")))
}

fn unreadable(source: fjall::Error) -> Error {
    Error::Corrupt {
        reason: "the log of an earlier version cannot be imported; start that version once to repair it"
            .into(),
        source: Some(Arc::new(source)),
    }
}

fn unwritable(source: io::Error) -> Error {
    unavailable(
        "failed to import the log of an earlier version: check that the disk has space for a copy of it",
        source,
    )
}

fn append_failed(error: AppendError) -> Error {
    match error {
        AppendError::Temporary(source) | AppendError::Fatal(source) => unwritable(source),
    }
}

#[cfg(test)]
mod tests;
