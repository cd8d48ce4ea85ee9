//! Series: the points of metrics, written as blocks, folded into chunks, summed up in a pyramid, and read back as one.
//!
//! A point's way: `Written` collects those of an applied transaction and makes `Block`s of them, which lie by time. `Fold` turns
//! the blocks of a run into chunks, which lie by series, and builds the pyramid over the full ones. `RunSeries` reads what
//! is folded and what is not as if there were no difference. Each file that stores something says its format on top.
//!
//! Values of points are kept to the bit; steps, epochs and times are whole numbers. Deliberately absent: object series, names
//! of series (callers keep `Header`s and the rows by name), and when to fold beyond `Unfolded::is_due`.

mod stored;

mod block;
mod chunk;
mod fold;
mod garbage;
mod header;
mod points;
mod pyramid;
mod read;
mod summary;

#[cfg(test)]
mod generate;

mod column;
mod packed;
mod wire;

pub use block::{BLOCK_BYTES, Block, Written};
pub use fold::{Fold, Folding, Live, Unfolded, fold_run};
pub use garbage::garbage_clear;
pub use header::Header;
pub use packed::ABSENT;
pub use points::{Point, Points, StepRange};
pub use pyramid::exponent_for;
pub use read::{PointScan, RunSeries, Sampling, SeriesView};
pub use stored::RunPlace;
pub use summary::Summary;
pub use wire::Malformed;

#[cfg(test)]
mod tests;
