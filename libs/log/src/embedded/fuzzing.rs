//! The reader of segments, which reads whatever a damaged disk returns, for the fuzz targets.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::{
    disk::SystemDisk,
    record::{Encoder, Seed},
    segment::{START, Segment},
};
use crate::{NewRecord, Record};

const IDENTITY: [u8; 16] = [7; 16];

/// Encodes records as a segment has them after its head, each in its own group. Their offsets count from 0.
pub fn encoded_records(records: &[NewRecord]) -> Vec<u8> {
    let seed = Seed::new(&IDENTITY, 0);
    let mut content = Vec::new();
    for (offset, record) in (0..).zip(records) {
        let start = START + content.len() as u32;
        let mut group = Vec::new();
        Encoder { out: &mut group, seed, start, appended_us: 1 }.push(offset, record);
        content.append(&mut group);
    }
    content
}

/// Opens a segment with this content after its head, as a log does after a crash, and reads its records. `None`
/// if it is refused because it is damaged. The directory is for this file only.
pub fn read_segment(directory: &Path, content: &[u8]) -> io::Result<Option<Vec<Record>>> {
    let path = directory.join(format!("{:020}.log", 0));
    if !path.exists() {
        Segment::create(&SystemDisk, directory, &IDENTITY, 0, 0)?;
    }
    let file = File::options().write(true).open(&path)?;
    file.set_len(START.into())?;
    file.write_all_at(content, START.into())?;
    let segment = Segment::open(&path, &IDENTITY, 0, 0).map_err(io::Error::other)?;
    let Ok(end) = segment.recover(&SystemDisk) else { return Ok(None) };
    segment.read(0, end, usize::MAX).map(Some).map_err(io::Error::other)
}
