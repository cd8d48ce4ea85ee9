//! The file `state`: the identity of the log, and the offset up to which each topic is trimmed.
//!
//! It has two slots, 4 KiB apart, which are written in turn, so that one of them is valid at any
//! time. Both exist from the creation of the log on: trimming needs no space, also on a full disk.
//! The file is the last step of a creation. Without it, there is no log.
//!
//! ```text
//! "MATYANST", u8 format, 7 zeros, 16 bytes identity, u64 number of the write,
//! for each topic u64 first offset, u32 checksum of all that; integers in little-endian
//! ```

use std::{
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::{Buf, BufMut};
use crc32c::crc32c;

use super::{
    TOPICS,
    disk::{Disk, DiskFile},
    unavailable,
};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"MATYANST";
const FORMAT: u8 = 1;
const FORMAT_AT: usize = 8;
const SLOT_BYTES: usize = 4096;
const CHECKSUM_AT: usize = 40 + 8 * TOPICS.len();

pub(super) type FirstOffsets = [u64; TOPICS.len()];

pub(super) struct StateFile {
    pub(super) identity: [u8; 16],
    disk: Arc<dyn Disk>,
    file: DiskFile,
    slot: Mutex<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Number of the write. Even ones are in the first slot.
    number: u64,
    first: FirstOffsets,
}

impl StateFile {
    pub(super) fn path(log: &Path) -> PathBuf {
        log.join("state")
    }

    /// Creates the file, and with it the log.
    pub(super) fn create(
        disk: &dyn Disk,
        log: &Path,
        identity: &[u8; 16],
        first: FirstOffsets,
    ) -> io::Result<()> {
        let mut content = Vec::with_capacity(2 * SLOT_BYTES);
        for number in 0..2 {
            content.extend(Slot { number, first }.encode(identity));
            content.resize((number as usize + 1) * SLOT_BYTES, 0);
        }
        DiskFile::create(disk, Self::path(log), &content)?;
        Ok(())
    }

    pub(super) fn open(disk: Arc<dyn Disk>, log: &Path) -> Result<Self> {
        let path = Self::path(log);
        let failed = |source| unavailable(&format!("failed to read `{}`", path.display()), source);
        let file = DiskFile::open(path.clone()).map_err(failed)?;
        let mut slots = [[0; CHECKSUM_AT + 4]; 2];
        for (slot, position) in slots.iter_mut().zip([0, SLOT_BYTES]) {
            file.file.read_exact_at(slot, position as u64).map_err(failed)?;
        }
        let newer = slots.iter().find(|slot| slot.starts_with(MAGIC) && slot[FORMAT_AT] > FORMAT);
        if let Some(newer) = newer {
            return Err(Error::corrupt(format!(
                "it has format {}, but this program supports only format {FORMAT}: use the program that wrote it",
                newer[FORMAT_AT]
            )));
        }
        let newest = slots.iter().filter_map(Slot::decode).max_by_key(|(_, slot)| slot.number);
        let (identity, slot) = newest.ok_or_else(|| {
            Error::corrupt(format!(
                "`{}` is damaged: restore the data directory from a backup, or move the log's directory away to continue \
                 without unapplied records",
                path.display()
            ))
        })?;
        Ok(Self { identity, disk, file, slot: Mutex::new(slot) })
    }

    /// Offset up to which a topic is trimmed.
    pub(super) fn first(&self, topic: usize) -> u64 {
        self.slot.lock().expect("no thread panics while holding the state").first[topic]
    }

    /// Records that a topic is trimmed up to an offset, and syncs.
    pub(super) fn set_first(&self, topic: usize, offset: u64) -> Result<()> {
        let mut slot = self.slot.lock().expect("no thread panics while holding the state");
        let mut next = Slot { number: slot.number + 1, ..*slot };
        next.first[topic] = next.first[topic].max(offset);
        let position = (next.number % 2) * SLOT_BYTES as u64;
        // After an error, the next attempt writes the same slot, so the other one stays
        // valid.
        self.disk
            .write(&self.file, &next.encode(&self.identity), position)
            .and_then(|()| self.disk.sync(&self.file))
            .map_err(|source| unavailable("failed to write the file `state`", source))?;
        *slot = next;
        Ok(())
    }
}

impl Slot {
    fn encode(&self, identity: &[u8; 16]) -> Vec<u8> {
        let mut out = Vec::with_capacity(CHECKSUM_AT + 4);
        out.put_slice(MAGIC);
        out.put_u64_le(FORMAT.into());
        out.put_slice(identity);
        out.put_u64_le(self.number);
        for first in &self.first {
            out.put_u64_le(*first);
        }
        out.put_u32_le(crc32c(&out));
        out
    }

    fn decode(bytes: &[u8; CHECKSUM_AT + 4]) -> Option<([u8; 16], Self)> {
        let (content, mut checksum) = bytes.split_at(CHECKSUM_AT);
        if !content.starts_with(MAGIC) || checksum.get_u32_le() != crc32c(content) {
            return None;
        }
        let mut rest = &content[FORMAT_AT + 8..];
        let mut identity = [0; 16];
        rest.copy_to_slice(&mut identity);
        let number = rest.get_u64_le();
        Some((identity, Self { number, first: std::array::from_fn(|_| rest.get_u64_le()) }))
    }
}
