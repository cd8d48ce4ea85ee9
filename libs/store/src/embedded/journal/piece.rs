//! The content of a journal: batches that verify, and the bytes between them.
//!
//! The relevant parts of journal format 3, with integers in little-endian:
//!
//! ```text
//! batch   start, items and clears, end
//! start   1, number of items u32, sequence number u64
//! item    2, kind u8, compression u8, keyspace u64, key length u16, length u32, stored length u32, key, stored value
//! clear   4, keyspace u64
//! end     3, xxh3 of all items and clears u64, "FJL" 3
//! ```
//!
//! Batches follow each other without gaps, and only zeros follow the last one. The checksum does not cover
//! the sequence number of a batch. But sequence numbers ascend, because one commit follows another, so a
//! number that is not between the numbers of its neighbors is damage: fjall would take an older version of a
//! row for the newest. Only a number that is too large in the last batch, or too small in the first one,
//! cannot be noticed.

use std::ops::Range;

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_64;

use super::super::commit_mark::{CommitMark, VERSION_KEY};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";

/// A part of a journal.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Piece {
    Batch {
        start: usize,
        sequence: u64,
        /// The mark that the store wrote with the commit.
        mark: Option<CommitMark>,
    },
    /// Bytes up to the next batch that verifies, or up to the end.
    Unreadable { range: Range<usize> },
}

/// All parts of a journal, in order.
pub(in super::super) fn pieces(journal: &[u8]) -> impl Iterator<Item = Piece> {
    let mut parsed = parsed_pieces(journal).peekable();
    let mut last = None;
    std::iter::from_fn(move || {
        let (range, batch) = parsed.next()?;
        let unreadable = Some(Piece::Unreadable { range: range.clone() });
        let Some(Batch { sequence, mark, .. }) = batch else { return unreadable };
        let next = parsed.peek().and_then(|(_, batch)| Some(batch.as_ref()?.sequence));
        if is_misplaced(last, sequence, next) {
            return unreadable;
        }
        last = Some(sequence);
        Some(Piece::Batch { start: range.start, sequence, mark })
    })
}

/// Whether the sequence number of a batch is not between the numbers of its neighbors, unless the number of a
/// neighbor is to blame.
fn is_misplaced(last: Option<u64>, sequence: u64, next: Option<u64>) -> bool {
    let follows_last = |sequence: u64| last.is_none_or(|last| last < sequence);
    !follows_last(sequence) || next.is_some_and(|next| next <= sequence && follows_last(next))
}

/// Batches whose content verifies, and the ranges between them.
fn parsed_pieces(journal: &[u8]) -> impl Iterator<Item = (Range<usize>, Option<Batch>)> {
    let journal = without_padding(journal);
    let mut offset = 0;
    let mut found = None;
    std::iter::from_fn(move || {
        let start = offset;
        let batch = match found.take().or_else(|| Batch::parse(&journal[start..])) {
            Some(batch) => batch,
            None if start == journal.len() => return None,
            None => {
                let next = (start + 1..journal.len())
                    .filter(|at| journal[*at] == START)
                    .find_map(|at| Some((at, Batch::parse(&journal[at..])?)));
                offset = next.as_ref().map_or(journal.len(), |(at, _)| *at);
                found = next.map(|(_, batch)| batch);
                return Some((start..offset, None));
            }
        };
        offset += batch.bytes;
        Some((start..offset, Some(batch)))
    })
}

/// An item of a batch.
pub(in super::super) struct Item<'a> {
    pub(in super::super) kind: u8,
    pub(in super::super) keyspace: u64,
    pub(in super::super) key: &'a [u8],
    pub(in super::super) value: &'a [u8],
}

/// The sequence number and the items of the batch at the start of `batch`, which verifies.
pub(in super::super) fn items(batch: &[u8]) -> (u64, impl Iterator<Item = Item<'_>>) {
    let mut rest = batch;
    rest.advance(size_of::<u8>() + size_of::<u32>());
    let sequence = rest.get_u64_le();
    let items = std::iter::from_fn(move || {
        loop {
            match rest.get_u8() {
                ITEM => return parse_item(&mut rest),
                CLEAR => rest.advance(size_of::<u64>()),
                _ => return None,
            }
        }
    });
    (sequence, items)
}

/// The journal without the space reserved after its last batch.
pub(super) fn without_padding(journal: &[u8]) -> &[u8] {
    let used = journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &journal[..used]
}

/// A batch whose checksum and number of items are correct.
struct Batch {
    bytes: usize,
    sequence: u64,
    mark: Option<CommitMark>,
}

impl Batch {
    fn parse(journal: &[u8]) -> Option<Self> {
        let mut rest = journal;
        if rest.try_get_u8().ok()? != START {
            return None;
        }
        let expected_items = rest.try_get_u32_le().ok()?;
        let sequence = rest.try_get_u64_le().ok()?;
        let content = rest;
        let mut items = 0;
        let mut mark = None;
        loop {
            let read = content.len() - rest.len();
            match rest.try_get_u8().ok()? {
                ITEM => {
                    let item = parse_item(&mut rest)?;
                    if item.key == VERSION_KEY {
                        mark = CommitMark::decode(item.value).or(mark);
                    }
                }
                CLEAR => drop(rest.try_get_u64_le().ok()?),
                END => {
                    let checksum = rest.try_get_u64_le().ok()?;
                    rest = rest.strip_prefix(TRAILER)?;
                    let is_valid = items == expected_items && checksum == xxh3_64(&content[..read]);
                    return is_valid.then(|| Self { bytes: journal.len() - rest.len(), sequence, mark });
                }
                _ => return None,
            }
            items += 1;
        }
    }
}

fn parse_item<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    let kind = rest.try_get_u8().ok()?;
    let _compression = rest.try_get_u8().ok()?;
    let keyspace = rest.try_get_u64_le().ok()?;
    let key_bytes = usize::from(rest.try_get_u16_le().ok()?);
    let _bytes = rest.try_get_u32_le().ok()?;
    let value_bytes = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    let (key, rest_of_item) = rest.split_at_checked(key_bytes)?;
    let (value, rest_of_item) = rest_of_item.split_at_checked(value_bytes)?;
    *rest = rest_of_item;
    Some(Item { kind, keyspace, key, value })
}
