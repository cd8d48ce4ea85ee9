//! A part of an event file, read from disk and decoded.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use matyan_tfrecord::{ChunkEnd, EventContent, Plugins, read_chunk};

use crate::position::{FilePosition, HEAD_BYTES};

/// Bytes of a file that are read at a time, unless a single record is larger.
const CHUNK_BYTES: u64 = 4 << 20;

/// The content of a part of a file.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub(crate) reading: EventContent,
    pub(crate) records: usize,
    /// The position in the file after this part.
    pub(crate) position: FilePosition,
    pub(crate) plugins: Plugins,
    pub(crate) end: ChunkEnd,
    /// Positions of records that were left out.
    pub(crate) damaged: Vec<u64>,
    /// True if the file was replaced or truncated, so that it is read from its start again.
    pub(crate) is_restarted: bool,
}

/// Reads the next part of the first `size` bytes of a file.
pub(crate) fn read_part(
    path: &Path,
    size: u64,
    known: &FilePosition,
    plugins: Plugins,
) -> io::Result<FilePart> {
    let mut file = File::open(path)?;
    let head = read_head(&mut file)?;
    let is_restarted = !known.is_of(size, &head);
    let known = if is_restarted { &FilePosition::default() } else { known };
    let chunk = read_chunk(file, known.offset, size, CHUNK_BYTES)?;
    let mut reading = EventContent::default();
    let mut plugins = plugins;
    for record in &chunk.records {
        reading.add(record, &mut plugins);
    }
    Ok(FilePart {
        reading,
        records: chunk.records.len(),
        position: FilePosition { offset: chunk.next, head },
        plugins,
        end: chunk.end,
        damaged: chunk.damaged,
        is_restarted,
    })
}

/// Whether a file of this size is the file that was read; false if the file cannot be read.
pub(crate) fn is_same_file(path: &Path, size: u64, known: &FilePosition) -> bool {
    let head = File::open(path).and_then(|mut file| read_head(&mut file));
    head.is_ok_and(|head| known.is_of(size, &head))
}

/// The first bytes of a file in hexadecimal digits; empty if there are fewer.
fn read_head(file: &mut File) -> io::Result<String> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(if head.len() == HEAD_BYTES { hex::encode(head) } else { String::new() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use matyan_tfrecord::{
        framed,
        messages::{Event, Summary, SummaryValue},
    };
    use prost::Message as _;

    use super::*;

    fn file(wall_time: f64, steps: std::ops::Range<i64>) -> Vec<u8> {
        let record = |step| {
            let value = SummaryValue { tag: b"loss".to_vec(), number: Some(0.5), ..SummaryValue::default() };
            framed(&Event { wall_time, step, summary: Some(Summary { values: vec![value] }) }.encode_to_vec())
        };
        steps.flat_map(record).collect()
    }

    fn steps(part: &FilePart) -> Vec<i64> {
        part.reading.points.iter().map(|point| point.step).collect()
    }

    #[test]
    fn a_grown_file_is_continued_and_a_replaced_file_restarted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let read = |content: &[u8], known: &FilePosition| {
            fs::write(&path, content).unwrap();
            read_part(&path, content.len() as u64, known, Plugins::default()).unwrap()
        };
        let first = read(&file(1.0, 0..2), &FilePosition::default());
        assert_eq!((steps(&first), first.end, first.is_restarted), (vec![0, 1], ChunkEnd::CaughtUp, false));
        let grown = read(&file(1.0, 0..4), &first.position);
        assert_eq!((steps(&grown), grown.is_restarted), (vec![2, 3], false));
        let truncated = read(&file(1.0, 0..1), &grown.position);
        assert_eq!((steps(&truncated), truncated.is_restarted), (vec![0], true));
        let replaced = read(&file(2.0, 0..9), &grown.position);
        assert_eq!((steps(&replaced).len(), replaced.is_restarted), (9, true));
    }
}
