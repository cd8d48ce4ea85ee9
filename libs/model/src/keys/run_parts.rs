//! Keys of everything under a run number: (p, 3, run number, part, …), and of its chunks that
//! are to be cleared later.

use std::ops::Bound;

use foundationdb_tuple::Bytes as TupleBytes;
use matyan_store::{Key, Range, Result};

use super::{RunRow, SeriesKind, Space, after_prefix, corrupt, index::clip_range, run, subtree, tail};
use crate::ids::{Project, RunNumber, SeriesNumber};

/// Every row under a run number. The document and the index rows are elsewhere.
pub fn run_rows(project: Project, number: RunNumber) -> Range {
    subtree(super::project(project, Space::Run, (number.0,)))
}

pub fn writing(project: Project, number: RunNumber) -> Key {
    run(project, number, RunRow::Writing, ())
}

pub fn block(project: Project, number: RunNumber, sequence: u64) -> Key {
    run(project, number, RunRow::Block, (sequence,))
}

/// Blocks in the order in which they were applied; the tail is (sequence: u64).
pub fn blocks(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::Block, ()))
}

/// The blocks from sequence `first` up to but excluding `end`.
pub fn blocks_between(project: Project, number: RunNumber, first: u64, end: u64) -> Range {
    Range::new(block(project, number, first), block(project, number, end))
}

pub fn fold(project: Project, number: RunNumber) -> Key {
    run(project, number, RunRow::Fold, ())
}

pub fn series_header(project: Project, number: RunNumber, series: SeriesNumber) -> Key {
    run(project, number, RunRow::SeriesHeader, (series.0,))
}

/// The tail is (series: u32).
pub fn series_headers(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::SeriesHeader, ()))
}

/// The value is the series number. The key holds the digest of the context's canonical text.
pub fn series_by_name(
    project: Project,
    number: RunNumber,
    kind: SeriesKind,
    name: &str,
    context_digest: &[u8; 16],
) -> Key {
    run(project, number, RunRow::SeriesByName, (kind as u16, name, TupleBytes::from(&context_digest[..])))
}

/// All series with this name, in any context; the tail is (context digest: bytes).
pub fn series_of_name(project: Project, number: RunNumber, kind: SeriesKind, name: &str) -> Range {
    subtree(run(project, number, RunRow::SeriesByName, (kind as u16, name)))
}

/// The tail is (name: String, context digest: bytes).
pub fn series_names(project: Project, number: RunNumber, kind: SeriesKind) -> Range {
    subtree(run(project, number, RunRow::SeriesByName, (kind as u16,)))
}

/// The series with names between two bounds.
pub fn series_names_within(
    project: Project,
    number: RunNumber,
    kind: SeriesKind,
    low: Bound<&str>,
    high: Bound<&str>,
) -> Range {
    let key = |name| run(project, number, RunRow::SeriesByName, (kind as u16, name));
    clip_range(series_names(project, number, kind), low.map(key), high.map(key))
}

pub fn series_summary(project: Project, number: RunNumber, series: SeriesNumber) -> Key {
    run(project, number, RunRow::SeriesSummary, (series.0,))
}

/// The tail is (series: u32).
pub fn series_summaries(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::SeriesSummary, ()))
}

pub fn chunk_entry(project: Project, number: RunNumber, series: SeriesNumber, first_step: i64) -> Key {
    run(project, number, RunRow::ChunkList, (series.0, first_step))
}

/// The name in a key of `series_names`.
pub fn decode_series_name(range: &Range, key: &Key) -> Result<String> {
    let (name, _digest): (String, TupleBytes<'_>) = tail(&range.start, key)?;
    Ok(name)
}

/// The name and the context digest in a key of `series_names`.
pub fn decode_series_context(range: &Range, key: &Key) -> Result<(String, [u8; 16])> {
    let (name, digest): (String, TupleBytes<'_>) = tail(&range.start, key)?;
    Ok((name, digest.as_ref().try_into().map_err(|_| corrupt(key))?))
}

/// Chunks in the order of their steps; the tail is (first step: i64).
pub fn chunk_list(project: Project, number: RunNumber, series: SeriesNumber) -> Range {
    subtree(run(project, number, RunRow::ChunkList, (series.0,)))
}

/// The chunk lists of all series of a run; the tail is (series: u32, first step: i64).
pub fn chunk_lists(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::ChunkList, ()))
}

pub fn chunk(project: Project, number: RunNumber, series: SeriesNumber, chunk: u64) -> Key {
    run(project, number, RunRow::Chunk, (series.0, chunk))
}

/// The tail is (chunk: u64).
pub fn chunks(project: Project, number: RunNumber, series: SeriesNumber) -> Range {
    subtree(run(project, number, RunRow::Chunk, (series.0,)))
}

/// Pages are numbered by step, so their numbers may be negative.
pub fn pyramid_page(project: Project, number: RunNumber, series: SeriesNumber, level: u8, page: i64) -> Key {
    run(project, number, RunRow::Pyramid, (series.0, u16::from(level), page))
}

/// One level of the pyramid of a series, by step; the tail is (page: i64).
pub fn pyramid_level(project: Project, number: RunNumber, series: SeriesNumber, level: u8) -> Range {
    subtree(run(project, number, RunRow::Pyramid, (series.0, u16::from(level))))
}

/// The whole pyramid of a series; the tail is (level: u16, page: i64).
pub fn pyramid(project: Project, number: RunNumber, series: SeriesNumber) -> Range {
    subtree(run(project, number, RunRow::Pyramid, (series.0,)))
}

pub fn garbage(project: Project, due_us: i64, number: RunNumber, series: SeriesNumber, chunk: u64) -> Key {
    super::project(project, Space::Garbage, (due_us, number.0, series.0, chunk))
}

/// Garbage that is due before `now_us`; the tail is (due: i64, number: u64, series: u32, chunk:
/// u64), after `garbage_prefix`.
pub fn garbage_due(project: Project, now_us: i64) -> Range {
    Range::new(garbage_prefix(project), super::project(project, Space::Garbage, (now_us,)))
}

pub fn garbage_prefix(project: Project) -> Key {
    super::project(project, Space::Garbage, ())
}

pub fn params_piece(project: Project, number: RunNumber, piece: u32) -> Key {
    run(project, number, RunRow::Params, (piece,))
}

pub fn params(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::Params, ()))
}

pub fn object_header(project: Project, number: RunNumber, series: SeriesNumber) -> Key {
    run(project, number, RunRow::ObjectHeader, (series.0,))
}

/// The tail is (series: u32).
pub fn object_headers(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::ObjectHeader, ()))
}

pub fn object(project: Project, number: RunNumber, series: SeriesNumber, step: i64) -> Key {
    run(project, number, RunRow::Object, (series.0, step))
}

/// The tail is (step: i64).
pub fn objects(project: Project, number: RunNumber, series: SeriesNumber) -> Range {
    subtree(run(project, number, RunRow::Object, (series.0,)))
}

pub fn terminal_piece(project: Project, number: RunNumber, line: i64, piece: u32) -> Key {
    run(project, number, RunRow::TerminalLine, (line, piece))
}

/// All pieces of one line; the tail is (piece: u32).
pub fn terminal_line(project: Project, number: RunNumber, line: i64) -> Range {
    subtree(run(project, number, RunRow::TerminalLine, (line,)))
}

/// The tail is (line: i64, piece: u32).
pub fn terminal_lines(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::TerminalLine, ()))
}

pub fn log_record_piece(project: Project, number: RunNumber, sequence: u64, piece: u32) -> Key {
    run(project, number, RunRow::LogRecord, (sequence, piece))
}

/// The tail is (sequence: u64, piece: u32).
pub fn log_records(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::LogRecord, ()))
}

pub fn log_record_seen(project: Project, number: RunNumber, digest: &[u8; 16]) -> Key {
    run(project, number, RunRow::LogRecordSeen, (TupleBytes::from(&digest[..]),))
}

pub fn artifact(project: Project, number: RunNumber, path: &str) -> Key {
    run(project, number, RunRow::Artifact, (path,))
}

/// The tail is (path: String).
pub fn artifacts(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::Artifact, ()))
}

/// The artifacts whose paths start with a text; the tail is the same as in `artifacts`.
pub fn artifacts_with_prefix(project: Project, number: RunNumber, prefix: &str) -> Range {
    let end = match after_prefix(prefix) {
        Some(after) => artifact(project, number, &after),
        None => artifacts(project, number).end,
    };
    Range::new(artifact(project, number, prefix), end)
}

pub fn origin(project: Project, number: RunNumber) -> Key {
    run(project, number, RunRow::Origin, ())
}

pub fn series_edit(project: Project, number: RunNumber, id: &[u8; 16]) -> Key {
    run(project, number, RunRow::SeriesEdit, (TupleBytes::from(&id[..]),))
}

pub fn run_note(project: Project, number: RunNumber, note: &str) -> Key {
    run(project, number, RunRow::Note, (note,))
}

/// The tail is (note id: String).
pub fn run_notes(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::Note, ()))
}
