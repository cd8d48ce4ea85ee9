//! Memory of a segment that one writer appends to while others read what it has published.
//!
//! The memory is a shared mapping of a file, or anonymous memory that is written to a file later.
//! Bytes are written once: a writer only touches bytes after the published end, and readers only
//! get bytes before it, so that neither needs a lock. The first four bytes of what is appended
//! are stored last, with release ordering. After a crash they are therefore either zero, or
//! everything that follows them is complete.

#![expect(unsafe_code, reason = "readers and the writer share memory that may be mapped from a file")]

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// Assumed size of a page. No machine has smaller pages, and touching a page more than once is harmless.
const PAGE: usize = 4096;

/// The memory. Its first `published` bytes are complete.
pub(crate) struct Region {
    memory: MmapRaw,
    is_writable: bool,
    published: AtomicUsize,
}

/// The only writer of a region.
pub(crate) struct RegionWriter {
    region: Arc<Region>,
    end: usize,
}

impl Region {
    /// Maps a file that this process owns and whose space is allocated. All of it counts as
    /// published; `RegionWriter::new` starts over.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        Ok(Self::published(MmapOptions::new().map_raw(file)?, true))
    }

    /// Maps a file that another process left, which may be read-only.
    pub(crate) fn map_for_reading(file: &File) -> io::Result<Self> {
        Ok(Self::published(MmapOptions::new().map_raw_read_only(file)?, false))
    }

    /// Allocates zeroed memory without a file.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let memory = MmapRaw::from(MmapOptions::new().len(len).map_anon()?);
        Ok(Self { memory, is_writable: true, published: AtomicUsize::new(0) })
    }

    /// Copies the content of a file whose mapping is unsafe, such as one on a network.
    pub(crate) fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut memory = MmapOptions::new().len(bytes.len().max(1)).map_anon()?;
        memory[..bytes.len()].copy_from_slice(bytes);
        Ok(Self::published(MmapRaw::from(memory), false))
    }

    fn published(memory: MmapRaw, is_writable: bool) -> Self {
        let published = AtomicUsize::new(memory.len());
        Self { memory, is_writable, published }
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Everything that is published.
    pub(crate) fn bytes(&self) -> &[u8] {
        let published = self.published.load(Ordering::Acquire);
        // SAFETY: the memory has at least `published` bytes, which nothing in this process changes
        // while `self` is borrowed: a writer writes after them, and `clear` needs `&mut self`. The
        // file is in a directory of mode 0700 whose lock this process holds, so no other process
        // changes it either.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), published) }
    }

    /// Zeroes the memory for another use.
    pub(crate) fn clear(&mut self) {
        let used = if self.is_writable { *self.published.get_mut() } else { 0 };
        // SAFETY: `used` bytes are inside of the memory, and `&mut self` excludes readers and,
        // because it has an `Arc`, a writer.
        unsafe { self.memory.as_mut_ptr().write_bytes(0, used) };
        *self.published.get_mut() = 0;
    }

    /// Makes the kernel provide every page now, so that no append waits for one.
    pub(crate) fn touch(&mut self) {
        let len = if self.is_writable { self.memory.len() } else { 0 };
        for offset in (0..len).step_by(PAGE) {
            // SAFETY: the offset is inside of the memory, which is zero and has no reader or writer.
            unsafe { self.memory.as_mut_ptr().add(offset).write_volatile(0) };
        }
    }
}

impl RegionWriter {
    /// Starts to write at the start of zeroed memory. Returns `None` if it is read-only, or
    /// has a reader or writer already.
    pub(crate) fn new(mut region: Arc<Region>) -> Option<Self> {
        let memory = Arc::get_mut(&mut region).filter(|memory| memory.is_writable)?;
        *memory.published.get_mut() = 0;
        Some(Self { region, end: 0 })
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Offset of the next record.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.region.memory.len() - self.end >= len
    }

    /// Appends and publishes bytes, whose number is a multiple of eight. Returns false if they
    /// do not fit.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return false };
        if !self.has_room(bytes.len()) || !bytes.len().is_multiple_of(8) {
            return false;
        }
        // SAFETY: the bytes from `end` on fit into the memory, are not published, and belong to
        // this writer, which is the only one. `end` is a multiple of eight and a mapping starts
        // at a page, so the head is aligned.
        unsafe {
            let target = self.region.memory.as_mut_ptr().add(self.end);
            target.add(4).copy_from_nonoverlapping(rest.as_ptr(), rest.len());
            AtomicU32::from_ptr(target.cast()).store(u32::from_le_bytes(*head).to_le(), Ordering::Release);
        }
        self.end += bytes.len();
        self.region.published.store(self.end, Ordering::Release);
        true
    }
}

/// A small file that is changed in place, and needs no descriptor for that.
pub(crate) struct FileMapping(MmapMut);

impl FileMapping {
    /// Maps a file that this process owns and whose space is allocated.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the file is in a directory of mode 0700 whose lock this process holds, so that
        // only this mapping changes it.
        Ok(Self(unsafe { MmapMut::map_mut(file)? }))
    }

    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        let target = self.0.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
        target.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_exactly_what_is_published() {
        let mut writer = RegionWriter::new(Arc::new(Region::anonymous(32).unwrap())).unwrap();
        let region = writer.region().clone();
        assert!(region.bytes().is_empty());
        assert!(writer.append(&[1; 24]));
        assert_eq!(region.bytes(), [1; 24]);
        assert!(!writer.append(&[2; 16]), "only eight bytes are free");
        assert!(!writer.append(&[2; 7]), "not a multiple of eight");
        assert!(writer.append(&[2; 8]));
        assert_eq!(region.bytes()[24..], [2; 8]);
    }

    #[test]
    fn memory_that_is_in_use_gets_no_second_writer() {
        let writer = RegionWriter::new(Arc::new(Region::anonymous(64).unwrap())).unwrap();
        assert!(RegionWriter::new(writer.region().clone()).is_none());
    }

    #[test]
    fn cleared_memory_is_zero() {
        let mut writer = RegionWriter::new(Arc::new(Region::anonymous(64).unwrap())).unwrap();
        writer.append(&[7; 40]);
        let mut region = writer.region().clone();
        drop(writer);
        Arc::get_mut(&mut region).unwrap().clear();
        let mut writer = RegionWriter::new(region).unwrap();
        writer.append(&[1; 8]);
        assert_eq!(writer.region().bytes(), [1; 8]);
    }
}
