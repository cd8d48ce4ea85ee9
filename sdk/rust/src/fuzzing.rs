//! Readers of the files of a spool, for the fuzz targets: they read whatever a damaged disk returns.

use std::io;

use crate::{
    batch::{self, BatchEncoder},
    spool::record::{self, HEADER_BYTES, Point, Position, Record},
    upload::manifest::Manifest,
};

/// The position that follows `offset` bytes after the header of the first segment.
fn position(offset: usize) -> Position {
    Position { segment: 1, offset: (HEADER_BYTES + offset) as u32 }
}

/// Encodes one record of each kind, as a segment has them after its header.
pub fn encoded_records() -> Vec<u8> {
    let point = Point { series: 3, value: 0.5, step: -5, time: 7, epoch: None };
    let mut content = Vec::new();
    content.extend(record::time(position(0), 1_000).bytes());
    content.extend(record::point(position(content.len()), &point).bytes());
    content.extend(record::point_with_epoch(position(content.len()), &point, 2).bytes());
    content.extend(record::event(position(content.len()), 9, b"\x08\x02"));
    content.extend(record::drop(position(content.len()), 4).bytes());
    content
}

/// Reads the records of a segment as they are sent, and returns the bytes that they take. The bytes after a segment's
/// end are searched for lost records.
pub fn read_records(content: &[u8]) -> usize {
    let mut batch = BatchEncoder::default();
    let mut offset = 0;
    loop {
        let rest = content.get(offset..).unwrap_or_default();
        match record::read(position(offset), rest) {
            Ok(Some((found, length))) => {
                read_event(&found, &mut batch);
                offset += length;
            }
            Ok(None) => {
                // Whether records follow decides what is reported.
                let _is_damaged = record::is_followed(position(offset), rest);
                return offset;
            }
            Err(record::DamagedRecord) => return offset,
        }
    }
}

/// Reads a record whose checksum is right.
pub fn read_sealed_record(kind: u8, payload: &[u8]) {
    let sealed = record::sealed(position(0), kind, payload);
    if let Ok(Some((found, length))) = record::read(position(0), &sealed) {
        assert_eq!(length, sealed.len().next_multiple_of(8));
        read_event(&found, &mut BatchEncoder::default());
    }
}

fn read_event(found: &Record<'_>, batch: &mut BatchEncoder) {
    if let Record::Event { event, .. } = found {
        let first_line = i64::from(batch::is_terminal_line(event));
        batch.add_event(event, first_line, 0);
    }
}

/// Reads the manifest of an upload, and returns the manifest as this version writes it.
pub fn read_manifest(text: &[u8]) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Manifest::parse(text)?)?)
}
