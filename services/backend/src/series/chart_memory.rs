//! The memory of charts, of all calls together. A chart with many pixels takes megabytes from when it is
//! read until its client has taken it, and clients may be slow.

use std::sync::Arc;

use matyan_model::series::Summary;
use matyan_proto::series::v1::{BandsRequest, BucketsRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    bands::{BUCKET_BYTES, VALUE_BYTES, largest_group},
    charts::bucket_columns,
    run_reader::batch_size,
    select,
};
use crate::stream::{MESSAGE_BYTES, MESSAGES_IN_FLIGHT};

/// Memory of all charts.
const TOTAL_BYTES: usize = 256 << 20;

/// Memory is taken in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of a number in a message.
const NUMBER_BYTES: usize = 10;

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct ChartMemory(Arc<Semaphore>);

impl Default for ChartMemory {
    fn default() -> Self {
        Self::new(TOTAL_BYTES)
    }
}

impl ChartMemory {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PIECE_BYTES)))
    }

    /// Waits for the memory of a call. No call needs more than there is.
    pub(super) async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        self.0.clone().acquire_many_owned(pieces).await.expect("the semaphore is never closed")
    }
}

/// The memory of a call that asks for series in buckets, at most.
pub(super) fn of_buckets(request: &BucketsRequest) -> usize {
    let pixels = request.pixels as usize;
    let columns = bucket_columns(request.columns());
    // Each bucket has a number, and three columns count values that are not finite.
    let columns = columns.len().min(BUCKET_COLUMNS) + 3 + if request.axis.is_some() { 2 } else { 0 };
    let bucket = columns * NUMBER_BYTES;
    let series: usize = request.runs.iter().map(select::series_count).sum();
    read_at_a_time(series, pixels) * (size_of::<Summary>() + bucket) + in_flight(pixels * bucket)
}

/// The memory of a call that asks for bands, at most.
pub(super) fn of_bands(request: &BandsRequest) -> usize {
    let pixels = request.pixels as usize;
    let series = largest_group(request);
    read_at_a_time(series, pixels) * size_of::<Summary>()
        + series * pixels * VALUE_BYTES
        + pixels * BUCKET_BYTES
        + in_flight(pixels * BAND_COLUMNS * NUMBER_BYTES)
}

/// Kinds of columns of buckets: a request may name one several times.
const BUCKET_COLUMNS: usize = 11;

/// Columns of a band.
const BAND_COLUMNS: usize = 7;

/// Buckets that are read before they are sent.
fn read_at_a_time(series: usize, pixels: usize) -> usize {
    batch_size(pixels).min(series) * pixels
}

/// Messages that wait for the client, if each is larger than usual by a series.
fn in_flight(series_bytes: usize) -> usize {
    MESSAGES_IN_FLIGHT * (MESSAGE_BYTES + series_bytes)
}

#[cfg(test)]
mod tests {
    use matyan_proto::{
        limits,
        series::v1::{BucketColumn, RunSelection, SeriesGroup},
    };

    use super::*;

    fn selection(series: usize) -> RunSelection {
        RunSelection { numbers: vec![0; series], ..RunSelection::default() }
    }

    #[test]
    fn no_call_needs_more_than_there_is() {
        let columns = [BucketColumn::Mean as i32; 1_000].to_vec();
        for (series, pixels) in [(1, limits::POINTS_PER_SERIES), (limits::SERIES_PER_CALL, 60)] {
            let (runs, pixels) = (vec![selection(series)], pixels as u32);
            let bytes = of_buckets(&BucketsRequest {
                runs: runs.clone(),
                pixels,
                columns: columns.clone(),
                axis: Some(Default::default()),
                ..BucketsRequest::default()
            });
            assert!(bytes < TOTAL_BYTES / 2, "{bytes} for {series} series of {pixels} buckets");
        }
        for (series, pixels) in [(20, limits::POINTS_PER_SERIES), (1 << 20, 2)] {
            let groups = vec![SeriesGroup { runs: vec![selection(series)] }];
            let request = BandsRequest { groups, pixels: pixels as u32, ..BandsRequest::default() };
            let bytes = of_bands(&request);
            assert!(bytes < TOTAL_BYTES, "{bytes} for {series} series of {pixels} buckets");
        }
    }

    #[tokio::test]
    async fn charts_wait_for_the_memory_of_others() {
        let memory = ChartMemory::new(4 * PIECE_BYTES);
        let first = memory.take(3 * PIECE_BYTES).await;
        let mut second = Box::pin(memory.take(PIECE_BYTES + 1));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
    }
}
