//! The parsers of files of the engine, which read whatever a damaged disk returns, for the fuzz targets.

use std::path::Path;

use super::journal::{Item, Piece, items, pieces};
use super::manifest::Manifest;

/// A part of a journal: a batch that verifies, or bytes that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalPart {
    pub start: usize,
    /// `None` if the bytes are not a batch.
    pub sequence: Option<u64>,
    /// Size of the keys and values of the batch.
    pub item_bytes: usize,
}

/// Parses a journal.
pub fn journal_parts(journal: &[u8]) -> Vec<JournalPart> {
    let part = |piece| match piece {
        Piece::Batch { start, sequence, .. } => {
            let (_, items) = items(&journal[start..]);
            let item_bytes = items.map(|Item { key, value, .. }| key.len() + value.len()).sum();
            JournalPart { start, sequence: Some(sequence), item_bytes }
        }
        Piece::Unreadable { range } => JournalPart { start: range.start, sequence: None, item_bytes: 0 },
    };
    pieces(journal).map(part).collect()
}

/// Parses the sections of a manifest. Returns the number of the files that they list; `None` if they are
/// malformed.
pub fn listed_files(tables: &[u8], blob_files: &[u8]) -> Option<usize> {
    Some(Manifest::of_sections(Path::new(""), tables, blob_files)?.files().count())
}
