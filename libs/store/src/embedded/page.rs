//! One page of a scan, read from the engine and packed for the caller.
//!
//! Small rows are copied back to back into shared segments: one allocation per segment instead
//! of two per row, and no cached block is kept alive. Segments are small, so a retained row
//! does not pin a megabyte.

use bytes::{Bytes, BytesMut};

use crate::{Key, Page, Range, Scan, Value};

/// Values of at least this size are not copied: the engine gives each its own memory.
pub(super) const SEPARATE_BYTES: usize = 4 << 10;
/// The first segment is small for the many scans that return one or two rows; later segments
/// stay small enough that a cached row pins little memory.
const FIRST_SEGMENT: usize = 1 << 10;
const SEGMENT: usize = 32 << 10;

pub(super) struct PageBuilder {
    scan: Scan,
    rows: Vec<(Key, Value)>,
    bytes: usize,
    segment: BytesMut,
}

/// Limits on how much of a page is read in one call.
#[derive(Clone, Copy)]
pub(super) struct ReadBudget {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl PageBuilder {
    pub(super) fn new(scan: Scan) -> Self {
        Self { scan, rows: Vec::new(), bytes: 0, segment: BytesMut::with_capacity(FIRST_SEGMENT) }
    }

    /// Reads until the page is complete (returns true) or the budget is exhausted (returns
    /// false).
    pub(super) fn read(&mut self, mut rows: fjall::Iter, budget: ReadBudget) -> fjall::Result<bool> {
        while !self.is_full() {
            if self.rows.len() >= budget.rows || self.bytes >= budget.bytes {
                return Ok(false);
            }
            let next = if self.scan.reverse { rows.next_back() } else { rows.next() };
            let Some(row) = next else { return Ok(true) };
            let (key, value) =
                if self.scan.keys_only { (row.key()?, fjall::Slice::default()) } else { row.into_inner()? };
            self.push(&key, value);
        }
        Ok(true)
    }

    /// The part of `range` that is still unread.
    pub(super) fn unread_range(&self, range: &Range) -> Range {
        match self.rows.last() {
            Some((last, _)) if self.scan.reverse => range.before(last),
            Some((last, _)) => range.after(last),
            None => range.clone(),
        }
    }

    pub(super) fn finish(self) -> Page {
        Page { more: self.is_full(), rows: self.rows }
    }

    /// A page holds at least one row if the range has any, even with tiny limits.
    fn is_full(&self) -> bool {
        !self.rows.is_empty() && (self.rows.len() >= self.scan.rows || self.bytes >= self.scan.bytes)
    }

    fn push(&mut self, key: &[u8], value: fjall::Slice) {
        self.bytes += key.len() + value.len();
        let separate = value.len() >= SEPARATE_BYTES;
        let copied = if separate { key.len() } else { key.len() + value.len() };
        if self.segment.capacity() < copied {
            self.segment = BytesMut::with_capacity(copied.max(SEGMENT));
        }
        let key = self.copy(key);
        let value = if separate { Bytes::from_owner(value) } else { self.copy(&value) };
        self.rows.push((key, value));
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.segment.extend_from_slice(bytes);
        self.segment.split().freeze()
    }
}
