//! Files that the server has written itself, and which a damaged disk may have changed: segments of the log,
//! journals and manifests of the store, and unfinished uploads.

use std::{io::Write, sync::LazyLock};

use bytes::BufMut;
use matyan_log::{
    NewRecord,
    embedded::fuzzing::{encoded_records, read_segment},
};
use matyan_store::embedded::fuzzing::{JournalPart, journal_parts, listed_files};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes after the key in the description of an unfinished upload.
const DESCRIPTION_BYTES: usize = 8 + 2 + 5;

/// The largest number of items of a batch that is made from arbitrary bytes.
const WRAPPED_ITEMS: u32 = 8;

/// The directory of the segment, which every input replaces.
static SEGMENTS: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new().expect("the temporary directory is writable"));

/// A segment of the log: after a crash, only records that were written are read, in their order.
pub(crate) fn log_segment(bytes: &[u8]) {
    let read = read_segment(SEGMENTS.path(), bytes).expect("the segment can be written and read");
    let Some(records) = read else { return };
    assert!(records.is_sorted_by(|one, next| one.offset < next.offset), "{records:?}");
    for record in records {
        assert_eq!(record.value, value(record.offset));
    }
}

/// The value of every record at an offset.
fn value(offset: u64) -> String {
    format!("value {offset}")
}

/// A journal: batches and unreadable bytes cover it from its start, the batches in the order of their commits. The
/// bytes are also read as the content of a batch, whose checksum is right, so that mutations reach the items.
pub(crate) fn store_journal(bytes: &[u8]) {
    check_journal(bytes);
    for items in 0..=WRAPPED_ITEMS {
        check_journal(&batch(items, 1, bytes));
    }
}

fn check_journal(journal: &[u8]) {
    let parts = journal_parts(journal);
    assert!(parts.first().is_none_or(|first| first.start == 0), "{parts:?}");
    assert!(parts.is_sorted_by(|one, next| one.start < next.start), "{parts:?}");
    let sequences: Vec<u64> = parts.iter().filter_map(|part| part.sequence).collect();
    assert!(sequences.is_sorted_by(|one, next| one < next), "{parts:?}");
    let ends = parts.iter().skip(1).map(|part| part.start).chain([journal.len()]);
    for (JournalPart { start, item_bytes, .. }, end) in parts.iter().zip(ends) {
        assert!(start + item_bytes <= end, "{parts:?}");
    }
}

/// A manifest whose first byte is the size of its section of tables: every file that it lists takes some of
/// its bytes.
pub(crate) fn store_manifest(bytes: &[u8]) {
    let Some((size, sections)) = bytes.split_first() else { return };
    let (tables, blob_files) = sections.split_at(usize::from(*size).min(sections.len()));
    if let Some(files) = listed_files(tables, blob_files) {
        assert!(files * size_of::<u64>() <= sections.len(), "{files} files");
    }
}

/// A file that is uploaded in parts. If it has a description, the description is its end.
pub(crate) fn unfinished_upload(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("the temporary directory is writable");
    file.write_all(bytes).expect("the temporary directory has room");
    let described = matyan_blob::fs::upload_description(&file).expect("the file can be read");
    if let Some((key, size)) = described {
        let end = usize::try_from(size).expect("the parts are in the file") + key.as_str().len();
        assert_eq!(end + DESCRIPTION_BYTES, bytes.len(), "{key}");
    }
}

/// A batch of a journal, with the right checksum.
fn batch(items: u32, sequence: u64, content: &[u8]) -> Vec<u8> {
    let mut batch = vec![1];
    batch.put_u32_le(items);
    batch.put_u64_le(sequence);
    batch.put_slice(content);
    batch.put_u8(3);
    batch.put_u64_le(xxh3_64(content));
    batch.put_slice(b"FJL\x03");
    batch
}

fn put_item(content: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // An uncompressed value of the second keyspace.
    content.put_slice(&[2, 0, 0]);
    content.put_u64_le(1);
    content.put_u16_le(u16::try_from(key.len()).expect("a short key"));
    for _length in 0..2 {
        content.put_u32_le(u32::try_from(value.len()).expect("a short value"));
    }
    content.put_slice(key);
    content.put_slice(value);
}

pub(crate) fn segments() -> Vec<Vec<u8>> {
    let record = |offset: u64| {
        let headers = vec![("content-type".to_owned(), "application/json".into())];
        NewRecord { key: "run".into(), value: value(offset).into(), headers }
    };
    let records: Vec<NewRecord> = (0..5).map(record).collect();
    vec![
        encoded_records(&records),
        encoded_records(&records[..1]),
        [encoded_records(&records), vec![0; 512]].concat(),
    ]
}

pub(crate) fn journals() -> Vec<Vec<u8>> {
    let mut content = Vec::new();
    put_item(&mut content, b"key", b"value");
    put_item(&mut content, b"", &[7; 100]);
    // A clear of the keyspace.
    let mut cleared = vec![4];
    cleared.put_u64_le(1);
    let journal = [batch(2, 5, &content), batch(1, 6, &cleared), vec![0; 64]].concat();
    vec![journal, content, cleared]
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let file = |id: u64| {
        let mut file = Vec::new();
        file.put_u64_le(id);
        file.put_u8(0);
        file.put_u128_le(7);
        file
    };
    // A level with one run of two tables, and one blob file.
    let mut tables = vec![1, 1];
    tables.put_u32_le(2);
    for id in [1, 2] {
        tables.put_slice(&file(id));
        tables.put_u64_le(id);
    }
    let mut blob_files = Vec::new();
    blob_files.put_u32_le(1);
    blob_files.put_slice(&file(3));
    let size = u8::try_from(tables.len()).expect("few tables");
    vec![[vec![size], tables, blob_files].concat(), vec![]]
}

pub(crate) fn unfinished_uploads() -> Vec<Vec<u8>> {
    let key = b"run/checkpoints/last.pt";
    let mut file = b"the parts".to_vec();
    let size = file.len() as u64;
    file.put_slice(key);
    file.put_u64(size);
    file.put_u16(u16::try_from(key.len()).expect("a short key"));
    file.put_slice(b"open!");
    vec![file, b"only parts".to_vec()]
}
