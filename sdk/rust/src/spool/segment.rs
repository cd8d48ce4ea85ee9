//! Segments: the files that records are appended to.
//!
//! A segment is `NNNNNNNN.seg`. The first segment has 256 KiB, later segments have 4 MiB, and a
//! segment with a larger event has room for that event. Numbers increase, and may leave gaps. A
//! segment starts with a header of 64 bytes:
//!
//! | bytes | |
//! |---|---|
//! | 4 | `MTYS` |
//! | 4 | format, 1 |
//! | 16 | producer id at the time of creation |
//! | 4 | number |
//! | 32 | zeros |
//! | 4 | CRC32C of the above |
//!
//! Records follow, then zeros. A mapped segment is written by storing to its memory, which the
//! kernel keeps when the process dies. Where that is unsafe or impossible, the segment is memory
//! of the process that is copied to the file every few milliseconds.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    config::SpoolMode,
    spool::{
        directory,
        producer::ProducerId,
        record::{HEADER_BYTES, Position},
    },
    sys::{
        files,
        region::{Region, RegionWriter},
    },
};

/// Size of the first segment. Most forked children track little, and there may be many.
pub(crate) const FIRST_SEGMENT_BYTES: usize = 256 << 10;
/// Size of later segments without a large event.
pub(crate) const SEGMENT_BYTES: usize = 4 << 20;
const MAGIC: &[u8; 4] = b"MTYS";
const FORMAT: u32 = 1;

/// The file of a segment that was opened.
pub(crate) enum OpenedSegment {
    Valid(Segment),
    /// It has no header and no record: its process was killed while it prepared the file.
    Blank,
    /// It has no valid header, so its records cannot be trusted.
    Damaged,
}

/// A segment that can be read.
pub(crate) struct Segment {
    number: u32,
    region: Arc<Region>,
    /// Present if the memory is copied to it.
    file: Option<File>,
    copied: AtomicUsize,
}

/// A segment with the right to append to it.
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    region: RegionWriter,
}

impl Segment {
    /// Opens a segment that was closed, or that another process left.
    pub(crate) fn open(directory: &Path, number: u32, mode: SpoolMode) -> io::Result<OpenedSegment> {
        let path = directory::segment_path(directory, number);
        let region = match mode {
            SpoolMode::Mapped => Region::map_for_reading(&File::open(path)?)?,
            SpoolMode::Written => Region::copy(&fs::read(path)?)?,
        };
        if is_blank(region.bytes()) {
            return Ok(OpenedSegment::Blank);
        }
        if !is_header(region.bytes(), number) {
            return Ok(OpenedSegment::Damaged);
        }
        let copied = AtomicUsize::new(region.len());
        Ok(OpenedSegment::Valid(Self { number, region: Arc::new(region), file: None, copied }))
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Header and records that are complete.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.region.bytes()
    }

    pub(crate) fn len(&self) -> usize {
        self.region.len()
    }

    /// Copies new records to the file, up to an offset. Does nothing for a mapped segment.
    pub(crate) fn copy_to_file(&self, end: usize) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let copied = self.copied.load(Ordering::Relaxed);
        files::write_at(file, &self.bytes()[copied..end], copied as u64)?;
        self.copied.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// Whether everything published so far survives the process.
    pub(crate) fn is_copied(&self) -> bool {
        self.file.is_none() || self.copied.load(Ordering::Relaxed) == self.bytes().len()
    }

    /// Makes a stored segment an empty one with another number, without giving up its memory. Returns
    /// `None`, with the file unchanged or removable, if it is in use or not mapped for writing.
    ///
    /// The file gets its new name last: until then a process that finds it knows by its old number
    /// that it is not needed.
    pub(crate) fn recycle(
        segment: Arc<Self>,
        directory: &Path,
        number: u32,
        producer: ProducerId,
    ) -> io::Result<Option<SegmentWriter>> {
        let Some(mut segment) = Arc::into_inner(segment) else { return Ok(None) };
        let is_mapped = segment.file.is_none() && segment.len() == SEGMENT_BYTES;
        let Some(region) = Arc::get_mut(&mut segment.region).filter(|_| is_mapped) else { return Ok(None) };
        region.clear();
        let old = directory::segment_path(directory, segment.number);
        segment.number = number;
        let Some(writer) = SegmentWriter::start(segment, producer) else { return Ok(None) };
        fs::rename(old, directory::segment_path(directory, number))?;
        Ok(Some(writer))
    }
}

impl SegmentWriter {
    /// Creates a segment of at least `bytes`: a mapped one if possible, otherwise a written one. An error
    /// means that not even an empty file could be created.
    pub(crate) fn create(
        directory: &Path,
        number: u32,
        producer: ProducerId,
        bytes: usize,
        mode: SpoolMode,
    ) -> io::Result<Self> {
        let path = directory::segment_path(directory, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let mapped = match mode {
            SpoolMode::Mapped => files::reserve(&file, bytes as u64).and_then(|()| Region::map(&file)).ok(),
            SpoolMode::Written => None,
        };
        let (region, file) = match mapped {
            Some(region) => (region, None),
            None => (Region::anonymous(bytes)?, Some(file)),
        };
        let segment = Segment { number, region: Arc::new(region), file, copied: AtomicUsize::new(0) };
        Self::start(segment, producer)
            .ok_or_else(|| io::Error::other("the memory of a new segment is in use"))
    }

    /// Creates a segment of the usual size, with all memory provided now rather than at the first use
    /// of each page. Returns `None` if it cannot have the mode.
    pub(crate) fn prepare(
        directory: &Path,
        number: u32,
        producer: ProducerId,
        mode: SpoolMode,
    ) -> io::Result<Option<Self>> {
        let path = directory::segment_path(directory, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let region = match mode {
            SpoolMode::Mapped => {
                files::reserve(&file, SEGMENT_BYTES as u64).and_then(|()| Region::map(&file))
            }
            SpoolMode::Written => Region::anonymous(SEGMENT_BYTES),
        };
        let Ok(mut region) = region else {
            fs::remove_file(path)?;
            return Ok(None);
        };
        region.touch();
        let file = (mode == SpoolMode::Written).then_some(file);
        let segment = Segment { number, region: Arc::new(region), file, copied: AtomicUsize::new(0) };
        Ok(Self::start(segment, producer))
    }

    fn start(segment: Segment, producer: ProducerId) -> Option<Self> {
        // The segment keeps one reference, so the writer is made before it.
        let Segment { number, region, file, copied } = segment;
        let mut region = RegionWriter::new(region)?;
        region.append(&header(number, producer));
        let segment = Segment { number, region: region.region().clone(), file, copied };
        Some(Self { segment: Arc::new(segment), region })
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Position of the next record.
    #[inline]
    pub(crate) fn end(&self) -> Position {
        // Segments are smaller than 4 GiB.
        Position { segment: self.segment.number, offset: self.region.end() as u32 }
    }

    #[inline]
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.region.has_room(bytes)
    }

    /// Appends a record, if there is room for it.
    #[inline]
    pub(crate) fn append(&mut self, record: &[u8]) -> bool {
        self.region.append(record)
    }

    /// Whether its content is lost with the process until `copy_to_file`.
    pub(crate) fn needs_copying(&self) -> bool {
        self.segment.file.is_some()
    }
}

fn header(number: u32, producer: ProducerId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    header[8..24].copy_from_slice(&producer.bytes());
    header[24..28].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Whether the header is missing, whose first bytes are stored last, and all that would follow it is zero. Records
/// may be left of a segment whose first page is lost.
fn is_blank(bytes: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    is_zero(&bytes[..bytes.len().min(MAGIC.len())]) && is_zero(bytes.get(HEADER_BYTES..).unwrap_or_default())
}

fn is_header(bytes: &[u8], number: u32) -> bool {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return false };
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header.starts_with(MAGIC)
        && header[4..8] == FORMAT.to_le_bytes()
        && header[24..28] == number.to_le_bytes()
        && header[HEADER_BYTES - 4..] == crc.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::spool::record;

    fn open(directory: &TempDir, number: u32, mode: SpoolMode) -> Segment {
        match Segment::open(directory.path(), number, mode).unwrap() {
            OpenedSegment::Valid(segment) => segment,
            OpenedSegment::Blank | OpenedSegment::Damaged => panic!("segment {number} is not valid"),
        }
    }

    fn create(directory: &TempDir, mode: SpoolMode) -> SegmentWriter {
        SegmentWriter::create(directory.path(), 5, ProducerId::new([1; 16]), SEGMENT_BYTES, mode).unwrap()
    }

    #[test]
    fn a_mapped_segment_is_in_its_file_at_every_moment() {
        let directory = TempDir::new().unwrap();
        let mut writer = create(&directory, SpoolMode::Mapped);
        let record = record::time(writer.end(), 1);
        assert!(writer.append(record.bytes()));
        let found = open(&directory, 5, SpoolMode::Mapped);
        assert_eq!(found.bytes()[HEADER_BYTES..][..16], *record.bytes());
        assert_eq!(found.bytes()[HEADER_BYTES + 16..][..8], [0; 8]);
    }

    #[test]
    fn a_written_segment_is_in_its_file_once_it_is_copied() {
        let directory = TempDir::new().unwrap();
        let mut writer = create(&directory, SpoolMode::Written);
        writer.append(record::time(writer.end(), 1).bytes());
        assert!(!writer.segment().is_copied());
        let end = writer.segment().bytes().len();
        writer.segment().copy_to_file(end).unwrap();
        assert!(writer.segment().is_copied());
        let found = open(&directory, 5, SpoolMode::Written);
        assert_eq!(found.bytes(), writer.segment().bytes());
    }

    #[test]
    fn a_recycled_segment_is_empty_and_has_its_new_number() {
        let directory = TempDir::new().unwrap();
        let producer = ProducerId::new([1; 16]);
        let mut writer = create(&directory, SpoolMode::Mapped);
        writer.append(record::time(writer.end(), 1).bytes());
        let segment = writer.segment().clone();
        assert!(
            Segment::recycle(segment.clone(), directory.path(), 6, producer).unwrap().is_none(),
            "in use"
        );
        drop(writer);
        let writer = Segment::recycle(segment, directory.path(), 6, producer).unwrap().unwrap();
        assert_eq!(writer.end(), Position { segment: 6, offset: 64 });
        assert!(!directory::segment_path(directory.path(), 5).exists());
        let found = open(&directory, 6, SpoolMode::Mapped);
        assert!(found.bytes()[HEADER_BYTES..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_file_with_another_number_is_refused() {
        let directory = TempDir::new().unwrap();
        drop(create(&directory, SpoolMode::Mapped));
        let path = |number| directory::segment_path(directory.path(), number);
        fs::rename(path(5), path(6)).unwrap();
        let opened = Segment::open(directory.path(), 6, SpoolMode::Mapped).unwrap();
        assert!(matches!(opened, OpenedSegment::Damaged));
    }
}
