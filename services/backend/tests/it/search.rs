//! Tests of searches through the generated client, each over runs in its own embedded store.

mod harness;
mod naive;
mod observed_store;

mod align;
mod charts;
mod export;
mod groups;
mod large;
mod large_params;
mod list_walks;
mod metric_columns;
mod paging;
mod random;
mod short_snapshots;
mod streaming;
mod table_changes;
mod table_contents;
mod table_sharing;
mod vectors;
mod walks;
