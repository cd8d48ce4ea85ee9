//! Metric series: their points are written as blocks, folded into chunks, summarized in a
//! pyramid, and read back as one sequence.
//!
//! The life of a point: `WrittenPoints` collects the points of an applied transaction, or `WrittenRows` if they
//! are rows of the same series, and encodes them as blocks, which are ordered by time. `Fold` turns the blocks
//! of a run into chunks, which are ordered by series, and builds the pyramid over the full ones. `RunSeries`
//! reads folded and unfolded points alike. Each file that stores something describes its format at the top.
//!
//! Values are stored exactly, to the bit; steps, epochs, and times are integers. Deliberately
//! absent: object series, the names of series (callers keep the `MetricHeader`s and the rows by
//! name), and the scheduling of folds beyond `UnfoldedBlocks::is_due`.

mod series_rows;

mod block;
mod chunk;
mod curve;
mod fold;
mod fold_row;
mod garbage;
mod header;
mod points;
mod pyramid;
mod read;
mod summary;

#[cfg(test)]
pub(crate) mod generate;

mod cohort_values;
pub(crate) mod column;
mod packed;
pub(crate) mod wire;

pub use block::{BLOCK_BYTES, Block, WrittenPoints, WrittenRows};
pub use cohort_values::{COHORT_RUNS, MetricStatistic};
pub(crate) use cohort_values::{CohortColumn, CohortRuns, MetricValues};
pub use curve::Stamps;
pub use fold::{
    Fold, FoldStatus, LiveRow, Removal, StepRemoval, StoredBlocks, UnfoldedBlocks, fold_run,
    remove_folded_steps,
};
pub use garbage::garbage_clear;
pub use header::MetricHeader;
pub use matyan_proto::ABSENT;
pub use points::{Point, Points, StepRange};
pub use pyramid::exponent_for;
pub(crate) use read::hiding_series;
pub use read::{PointScan, RunSeries, Sampling, SeriesView, evenly_spaced, folded_summaries};
pub use series_rows::RunRef;
pub use summary::Summary;
pub use wire::FormatError;

#[cfg(test)]
mod tests;
