//! The journal of cuts: which records make up each batch.
//!
//! A batch is never stored. Its cut is, before it is sent for the first time, and the same records
//! always make the same bytes. So a process that sends a spool again, this one or another, sends
//! exactly the batches that the server may already have, and the server recognizes them by producer
//! and sequence.
//!
//! That only holds as long as the kernel keeps the written bytes. After a power failure the journal may
//! be older than the batches that were sent, so it names the boot in which it was started, and a journal
//! of another boot is not continued: its producer is replaced.
//!
//! The file `cuts` has a fixed size that is reserved when the spool is created, so that a full disk
//! cannot prevent sending, which frees space. It is a header of 64 bytes and a ring of slots of 64
//! bytes; the cut with sequence n is in slot n modulo 256. Far fewer batches are unacknowledged at any time.
//!
//! | bytes of the header | |
//! |---|---|
//! | 4 | `MTYC` |
//! | 4 | format, 1 |
//! | 16 | producer id |
//! | 4, 4 | segment and offset at which the first batch starts |
//! | 16 | boot in which the journal was started, zeros if it is unknown |
//! | 4 | zeros |
//! | 4 | CRC32C of the above |
//! | 8 | the last acknowledged sequence, which is overwritten in place |
//!
//! | bytes of a slot | |
//! |---|---|
//! | 8 | sequence, from 1 |
//! | 4, 4, 4 | segment and offset of the first record; size of the dictionary before the batch |
//! | 4, 4, 4 | the same after the batch |
//! | 8 | number that is added to the steps of terminal lines; the least if it was not known, and there are none |
//! | 4 | number of events and points |
//! | 16 | zeros |
//! | 4 | CRC32C of the above |

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::SpoolMode,
    spool::{
        producer::ProducerId,
        record::{HEADER_BYTES, Position},
    },
    sys::{files, process, region::FileMapping},
};

/// Name of the file.
pub(crate) const FILE: &str = "cuts";
/// The same before it is complete.
pub(crate) const NEW_FILE: &str = "cuts.new";
const MAGIC: &[u8; 4] = b"MTYC";
const FORMAT: u32 = 1;
const ENTRY_BYTES: usize = 64;
const SLOTS: u64 = 256;
/// The first line of a cut that has none.
const UNKNOWN_LINE: i64 = i64::MIN;
/// Offset of the acknowledged sequence.
const ACKNOWLEDGED: u64 = 56;

/// A place between two records, with the size of the dictionary there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    pub(crate) series: u32,
}

/// The records of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) sequence: u64,
    pub(crate) start: Mark,
    pub(crate) end: Mark,
    /// Number that is added to the steps of terminal lines, because the run had lines before. Absent
    /// if it was not known, and the batch has no lines.
    pub(crate) first_line: Option<i64>,
    pub(crate) items: u32,
}

/// The journal of one spool.
pub(crate) struct Cuts {
    file: JournalFile,
    acknowledged: u64,
}

/// The file of a journal.
enum JournalFile {
    /// Needs no descriptor.
    Mapped(FileMapping),
    /// Where mapping is unsafe, or the file was made by another process.
    Open(File),
}

/// Content of a journal that was found.
pub(crate) struct RecordedCuts {
    pub(crate) cuts: Cuts,
    /// Whether the machine is known not to have been started again since the journal was.
    pub(crate) is_of_this_boot: bool,
    /// Everything before is acknowledged.
    pub(crate) start: Mark,
    /// Cuts that are not acknowledged, in order and without gaps.
    pub(crate) unacknowledged: Vec<Cut>,
    /// Number that was added to terminal lines last, if it was known.
    pub(crate) first_line: Option<i64>,
}

impl RecordedCuts {
    /// Whether no batch was cut, as far as the journal knows.
    pub(crate) fn is_blank(&self) -> bool {
        self.cuts.acknowledged() == 0 && self.unacknowledged.is_empty()
    }
}

impl Mark {
    /// The start of a spool whose first segment has this number.
    pub(crate) fn at_segment(segment: u32) -> Self {
        Self { position: Position { segment, offset: HEADER_BYTES as u32 }, series: 0 }
    }
}

impl Cuts {
    /// Starts a journal for a producer that has sent nothing. Without a journal, nothing may be sent: the
    /// next process would start with the first sequence, and the server would take its batches for
    /// repeats.
    pub(crate) fn create(directory: &Path, producer: ProducerId, start: Position) -> io::Result<()> {
        let new = directory.join(NEW_FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new)?;
        let mut image = vec![0; ENTRY_BYTES * (SLOTS as usize + 1)];
        image[..4].copy_from_slice(MAGIC);
        image[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        image[8..24].copy_from_slice(&producer.bytes());
        image[24..28].copy_from_slice(&start.segment.to_le_bytes());
        image[28..32].copy_from_slice(&start.offset.to_le_bytes());
        image[32..48].copy_from_slice(&process::boot().unwrap_or_default());
        let crc = crc32c::crc32c(&image[..52]);
        image[52..56].copy_from_slice(&crc.to_le_bytes());
        // Where space cannot be reserved, writing does it.
        files::reserve(&file, image.len() as u64).ok();
        files::write_at(&file, &image, 0)?;
        // The journal replaces the journal of an earlier producer in one step.
        std::fs::rename(new, path(directory))
    }

    /// Reads the journal of a producer. Returns `None` if it is missing, damaged, or belongs to another
    /// one: the sent batches are then unknown. It is mapped if the mode says so.
    pub(crate) fn open(
        directory: &Path,
        producer: ProducerId,
        mode: SpoolMode,
    ) -> io::Result<Option<RecordedCuts>> {
        let image = match std::fs::read(path(directory)) {
            Ok(image) => image,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let file = OpenOptions::new().read(true).write(true).open(path(directory))?;
        let Some(header) = image.first_chunk::<ENTRY_BYTES>() else { return Ok(None) };
        let is_valid = header.starts_with(MAGIC)
            && u32_at(header, 4) == FORMAT
            && header[8..24] == producer.bytes()
            && u32_at(header, 52) == crc32c::crc32c(&header[..52]);
        if !is_valid {
            return Ok(None);
        }
        let is_of_this_boot = process::boot().is_some_and(|boot| header[32..48] == boot);
        let acknowledged = u64_at(header, ACKNOWLEDGED as usize);
        let slot = |sequence: u64| {
            let offset = ENTRY_BYTES * (1 + (sequence % SLOTS) as usize);
            let bytes = image.get(offset..)?.first_chunk()?;
            read_cut(bytes).filter(|cut| cut.sequence == sequence)
        };
        let last = slot(acknowledged);
        let start = match (acknowledged, last) {
            (0, _) => {
                let position = Position { segment: u32_at(header, 24), offset: u32_at(header, 28) };
                Mark { position, series: 0 }
            }
            (_, Some(cut)) => cut.end,
            (_, None) => return Ok(None),
        };
        let unacknowledged: Vec<Cut> = (acknowledged + 1..).map_while(slot).collect();
        let first_line = unacknowledged.last().copied().or(last).and_then(|cut| cut.first_line);
        let file = match mode {
            SpoolMode::Mapped => FileMapping::new(&file).map_or(JournalFile::Open(file), JournalFile::Mapped),
            SpoolMode::Written => JournalFile::Open(file),
        };
        let cuts = Self { file, acknowledged };
        Ok(Some(RecordedCuts { cuts, is_of_this_boot, start, unacknowledged, first_line }))
    }

    /// The last sequence that is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Records a cut. Its batch may be sent afterwards.
    pub(crate) fn record(&mut self, cut: &Cut) -> io::Result<()> {
        self.file.write_at(&write_cut(cut), ENTRY_BYTES as u64 * (1 + cut.sequence % SLOTS))
    }

    /// Records that every batch up to this sequence is stored by the server.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> io::Result<()> {
        self.acknowledged = sequence;
        self.file.write_at(&sequence.to_le_bytes(), ACKNOWLEDGED)
    }
}

impl JournalFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Mapped(mapping) => mapping.write_at(bytes, offset as usize),
            Self::Open(file) => files::write_at(file, bytes, offset),
        }
    }
}

/// Whether a server has confirmed a part of the data in a directory. It may have done so if the
/// journal is damaged or missing.
pub(crate) fn are_acknowledged(directory: &Path, producer: ProducerId) -> io::Result<bool> {
    let found = Cuts::open(directory, producer, SpoolMode::Written)?;
    Ok(found.is_none_or(|found| {
        found.cuts.acknowledged() > 0 || found.start.position.offset > HEADER_BYTES as u32
    }))
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

fn write_cut(cut: &Cut) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&cut.sequence.to_le_bytes());
    for (offset, mark) in [(8, cut.start), (20, cut.end)] {
        bytes[offset..offset + 4].copy_from_slice(&mark.position.segment.to_le_bytes());
        bytes[offset + 4..offset + 8].copy_from_slice(&mark.position.offset.to_le_bytes());
        bytes[offset + 8..offset + 12].copy_from_slice(&mark.series.to_le_bytes());
    }
    bytes[32..40].copy_from_slice(&cut.first_line.unwrap_or(UNKNOWN_LINE).to_le_bytes());
    bytes[40..44].copy_from_slice(&cut.items.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..ENTRY_BYTES - 4]);
    bytes[ENTRY_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_cut(bytes: &[u8; ENTRY_BYTES]) -> Option<Cut> {
    let mark = |offset| Mark {
        position: Position { segment: u32_at(bytes, offset), offset: u32_at(bytes, offset + 4) },
        series: u32_at(bytes, offset + 8),
    };
    let cut = Cut {
        sequence: u64_at(bytes, 0),
        start: mark(8),
        end: mark(20),
        first_line: Some(u64_at(bytes, 32).cast_signed()).filter(|first| *first != UNKNOWN_LINE),
        items: u32_at(bytes, 40),
    };
    let crc = crc32c::crc32c(&bytes[..ENTRY_BYTES - 4]);
    (u32_at(bytes, ENTRY_BYTES - 4) == crc).then_some(cut)
}

fn u32_at(bytes: &[u8; ENTRY_BYTES], offset: usize) -> u32 {
    bytes[offset..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8; ENTRY_BYTES], offset: usize) -> u64 {
    bytes[offset..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const PRODUCER: ProducerId = ProducerId::new([3; 16]);

    fn cut(sequence: u64) -> Cut {
        let mark = |offset: u64| Mark {
            position: Position { segment: 1, offset: (64 + 32 * offset) as u32 },
            series: offset as u32,
        };
        // The first batches were cut before the number was known.
        let first_line = (sequence > 2).then_some(-1);
        Cut { sequence, start: mark(sequence - 1), end: mark(sequence), first_line, items: 1 }
    }

    fn journal(directory: &TempDir, sequences: u64) -> Cuts {
        let start = Mark::at_segment(1).position;
        Cuts::create(directory.path(), PRODUCER, start).unwrap();
        let mut cuts = open(directory).unwrap().cuts;
        for sequence in 1..=sequences {
            cuts.record(&cut(sequence)).unwrap();
        }
        cuts
    }

    fn open(directory: &TempDir) -> Option<RecordedCuts> {
        Cuts::open(directory.path(), PRODUCER, SpoolMode::Mapped).unwrap()
    }

    #[test]
    fn what_is_not_acknowledged_is_found_again() {
        let directory = TempDir::new().unwrap();
        let mut cuts = journal(&directory, 5);
        let found = open(&directory).unwrap();
        assert_eq!(found.start, Mark::at_segment(1));
        assert_eq!(found.unacknowledged, (1..=5).map(cut).collect::<Vec<_>>());
        cuts.acknowledge(3).unwrap();
        let found = open(&directory).unwrap();
        assert_eq!(found.start, cut(3).end);
        assert_eq!(found.cuts.acknowledged(), 3);
        assert_eq!(found.unacknowledged, [cut(4), cut(5)]);
    }

    #[test]
    fn the_file_does_not_grow() {
        let directory = TempDir::new().unwrap();
        let mut cuts = journal(&directory, 10);
        let size = || std::fs::metadata(path(directory.path())).unwrap().len();
        let before = size();
        for sequence in 11..2_000 {
            cuts.acknowledge(sequence - 10).unwrap();
            cuts.record(&cut(sequence)).unwrap();
        }
        assert_eq!(size(), before);
        let found = open(&directory).unwrap();
        assert_eq!(found.unacknowledged, (1_990..2_000).map(cut).collect::<Vec<_>>());
    }

    #[test]
    fn a_torn_cut_was_never_sent() {
        let directory = TempDir::new().unwrap();
        let mut cuts = journal(&directory, 2);
        cuts.file.write_at(&write_cut(&cut(3))[..32], ENTRY_BYTES as u64 * 4).unwrap();
        assert_eq!(open(&directory).unwrap().unacknowledged, [cut(1), cut(2)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_journal_knows_whether_the_machine_was_started_again() {
        let directory = TempDir::new().unwrap();
        drop(journal(&directory, 1));
        assert!(open(&directory).unwrap().is_of_this_boot);
        let mut image = std::fs::read(path(directory.path())).unwrap();
        for boot in [[0; 16], [7; 16]] {
            image[32..48].copy_from_slice(&boot);
            let crc = crc32c::crc32c(&image[..52]);
            image[52..56].copy_from_slice(&crc.to_le_bytes());
            std::fs::write(path(directory.path()), &image).unwrap();
            let found = open(&directory).unwrap();
            assert!(!found.is_of_this_boot);
            assert_eq!(found.unacknowledged, [cut(1)]);
        }
    }

    #[test]
    fn the_journal_of_another_producer_is_refused() {
        let directory = TempDir::new().unwrap();
        journal(&directory, 1);
        let other = ProducerId::new([4; 16]);
        assert!(Cuts::open(directory.path(), other, SpoolMode::Mapped).unwrap().is_none());
    }
}
