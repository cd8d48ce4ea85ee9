//! Tables of runs in memory: the values that lists are sorted and grouped by, so that a page costs
//! the page wherever it is in a list.
//!
//! A table belongs to a project and has parts: the `roster` of its runs, a `column` for each value,
//! a `match_set` for each query, an `order` for each sort order. A part is read from the indexes when
//! a request first needs it. From then on the change feed of the store says which runs to read again,
//! so a table needs no notice from other processes, and a new process starts without one. A table
//! proposes runs, like an index; their documents decide.
//!
//! Deliberately absent: tables on disk. After a restart, a table is read from the indexes in a second.

mod memory;
mod roster;
mod run_value;

mod column;
mod equal_runs;
mod match_set;
mod names_digest;
mod order;
mod run_table;

mod eviction;
mod run_tables;

mod column_reader;
mod match_reader;
mod roster_reader;

mod add_column;
mod group_equal_runs;
mod sliced_sort;
mod sort_runs;
mod table_work;

mod open_table;
mod refresh;

mod group;
mod page;

pub use roster::MAX_TABLE_BYTES;

pub(crate) use {
    group::{GroupNumber, GroupQuery, GroupRow, GroupStart},
    match_set::TableQuery,
    page::{PageStart, Selection, TablePage},
    run_tables::RunTables,
    run_value::{RunValue, SortKey, ValueSource},
};

/// Memory of all tables, unless a setting says otherwise.
pub(crate) const MAX_BYTES: usize = 256 << 20;
