//! Long lists that a client reads page by page: the values that they are sorted by, the cursors that
//! continue them, and runs that an index lists.

mod cursor;
mod indexed_runs;
mod term;

pub(crate) use {
    cursor::{Cursor, GroupToken, MAX_VALUES, request_digest},
    indexed_runs::{ActivityHours, IndexedRuns, LinkedRuns, PageEnd},
    term::{ALLOCATION, HexText, TEXT_BYTES, Term, TermRef, compare, hex_text},
};
