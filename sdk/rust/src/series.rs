//! A metric series as a caller refers to it.

use std::sync::atomic::{AtomicU64, Ordering};

use matyan_proto::limits;
use matyan_value::Context;

use crate::{error::ArgumentError, spool::dictionary::SeriesNumbers};

/// Name, context and type of the values of a series. It is valid in every process that has it: a
/// forked child defines it again in its own spool at the first use.
pub struct Series {
    name: String,
    context: Context,
    dtype: String,
    /// Its numbers in the spool that used it last: spool (24 bits), series (20), counter (20).
    numbers: AtomicU64,
}

/// Bits of a series number and of a counter number, which are below `limits::SERIES_PER_RUN`.
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const _: () = assert!(limits::SERIES_PER_RUN <= NUMBER_MASK as usize);

impl Series {
    /// Checks the parts against the limits of the server.
    pub(crate) fn new(name: &str, context: Context, dtype: &str) -> Result<Self, ArgumentError> {
        ArgumentError::check_name("name", name, limits::NAME_BYTES)?;
        ArgumentError::check_length("context", context.canonical(), limits::CONTEXT_BYTES)?;
        ArgumentError::check_length("dtype", dtype, limits::DTYPE_BYTES)?;
        Ok(Self { name: name.to_owned(), context, dtype: dtype.to_owned(), numbers: AtomicU64::new(0) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn dtype(&self) -> &str {
        &self.dtype
    }

    /// The series' numbers in the spool that used the series last. Numbers of spools start at 1.
    #[inline]
    pub(crate) fn numbers_in(&self, spool: u32) -> Option<SeriesNumbers> {
        let packed = self.numbers.load(Ordering::Relaxed);
        if packed >> (2 * NUMBER_BITS) != u64::from(spool) {
            return None;
        }
        let series = (packed >> NUMBER_BITS & NUMBER_MASK) as u32;
        Some(SeriesNumbers { series, counter: (packed & NUMBER_MASK) as u32 })
    }

    pub(crate) fn set_numbers(&self, spool: u32, numbers: SeriesNumbers) {
        let packed = u64::from(spool) << (2 * NUMBER_BITS)
            | u64::from(numbers.series) << NUMBER_BITS
            | u64::from(numbers.counter);
        self.numbers.store(packed, Ordering::Relaxed);
    }
}
