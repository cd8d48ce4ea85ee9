//! The memory of charts, of all calls together. A chart with many pixels takes megabytes from when it is
//! read until its client has taken it. Clients may be slow, but a client that reads nothing while others
//! wait loses its chart. A long list of series takes the same memory in the same way, but only once it has been read,
//! because its size is not known before.

use std::sync::Arc;

use matyan_access::RequestAnswer;
use matyan_model::series::Summary;
use matyan_proto::{
    runs::v1::SeriesInfo,
    series::v1::{BandsRequest, BucketsRequest},
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    bands::{BUCKET_BYTES, VALUE_BYTES, largest_group},
    charts::bucket_columns,
    run_reader::batch_size,
    select,
};
use crate::server::{
    held_streams::{HeldStream, HeldStreams},
    stream::{MESSAGE_BYTES, MESSAGES_IN_FLIGHT, MESSAGES_IN_TRANSPORT, ResponseStream},
};

/// Memory of all charts.
const TOTAL_BYTES: usize = 256 << 20;

/// Memory is taken in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;

/// Lists of series up to this size take no memory, and so do not wait.
const SMALL_LIST_BYTES: usize = 256 << 10;

/// Bytes of a number in a message.
const NUMBER_BYTES: usize = 10;

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct ChartMemory {
    pieces: Arc<Semaphore>,
    charts: HeldStreams,
}

impl Default for ChartMemory {
    fn default() -> Self {
        Self::new(TOTAL_BYTES)
    }
}

impl ChartMemory {
    fn new(bytes: usize) -> Self {
        Self { pieces: Arc::new(Semaphore::new(bytes / PIECE_BYTES)), charts: HeldStreams::default() }
    }

    /// Waits for the memory of a call. No call needs more than there is.
    pub(super) async fn take(&self, bytes: ChartBytes) -> ChartShare {
        let count = u32::try_from(pieces(bytes.total)).unwrap_or(u32::MAX);
        let taking = self.pieces.clone().acquire_many_owned(count);
        let mut taken = self.charts.drop_unread_until(taking).await.expect("the semaphore is never closed");
        let in_transport = pieces(bytes.in_transport).min(taken.num_permits());
        let in_transport = taken.split(in_transport).expect("the call has taken more");
        ChartShare { pieces: taken, in_transport }
    }

    /// Holds the memory of a chart until its client has read the last message, or others get it.
    pub(super) fn hold<T: Send + 'static>(
        &self,
        memory: ChartShare,
        messages: ResponseStream<T>,
        answer: RequestAnswer,
    ) -> ChartStream<T> {
        let ChartShare { pieces, in_transport } = memory;
        self.charts.hold(messages, pieces, in_transport, answer)
    }
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE_BYTES)
}

/// The memory that a call needs, at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChartBytes {
    total: usize,
    /// Part of it that the transport may hold: it cannot be dropped there.
    in_transport: usize,
}

/// The memory that a call has taken.
pub(super) struct ChartShare {
    pieces: OwnedSemaphorePermit,
    in_transport: OwnedSemaphorePermit,
}

/// The stream of a chart that a client reads.
pub(crate) type ChartStream<T> = HeldStream<T, OwnedSemaphorePermit, OwnedSemaphorePermit>;

/// The memory of a call that asks for series in buckets, at most.
pub(super) fn of_buckets(request: &BucketsRequest) -> ChartBytes {
    let pixels = request.pixels as usize;
    let columns = bucket_columns(request.columns());
    // Each bucket has a number, and three columns count values that are not finite.
    let columns = columns.len().min(BUCKET_COLUMNS) + 3 + if request.axis.is_some() { 2 } else { 0 };
    let bucket = columns * NUMBER_BYTES;
    let series: usize = request.runs.iter().map(select::series_count).sum();
    ChartBytes::new(read_at_a_time(series, pixels) * (size_of::<Summary>() + bucket), pixels * bucket)
}

/// The memory of a call that asks for bands, at most.
pub(super) fn of_bands(request: &BandsRequest) -> ChartBytes {
    let pixels = request.pixels as usize;
    let series = largest_group(request);
    let work = read_at_a_time(series, pixels) * size_of::<Summary>()
        + series * pixels * VALUE_BYTES
        + pixels * BUCKET_BYTES;
    ChartBytes::new(work, pixels * BAND_COLUMNS * NUMBER_BYTES)
}

/// The memory of a list of series that has been read.
pub(super) fn of_list(series: &[SeriesInfo]) -> ChartBytes {
    let bytes: usize = series.iter().map(|info| size_of::<SeriesInfo>() + info.encoded_len()).sum();
    let total = if bytes > SMALL_LIST_BYTES { bytes.min(TOTAL_BYTES) } else { 0 };
    ChartBytes { total, in_transport: total.min(MESSAGES_IN_TRANSPORT * MESSAGE_BYTES) }
}

/// Kinds of columns of buckets: a request may name one several times.
const BUCKET_COLUMNS: usize = 11;

/// Columns of a band.
const BAND_COLUMNS: usize = 7;

/// Buckets that are read before they are sent.
fn read_at_a_time(series: usize, pixels: usize) -> usize {
    batch_size(pixels).min(series) * pixels
}

impl ChartBytes {
    /// Returns the bytes of the work, and of messages that wait for the client, each of which may exceed the
    /// usual size by one series.
    fn new(work: usize, series: usize) -> Self {
        let message = MESSAGE_BYTES + series;
        Self { total: work + MESSAGES_IN_FLIGHT * message, in_transport: MESSAGES_IN_TRANSPORT * message }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use matyan_proto::{
        limits,
        series::v1::{BucketColumn, RunSelection, SeriesGroup},
    };
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::server::{
        held_streams::{UNREAD, UNREAD_CHECK},
        stream::Streams,
    };

    fn selection(series: usize) -> RunSelection {
        RunSelection { numbers: vec![0; series], ..RunSelection::default() }
    }

    #[test]
    fn no_call_needs_more_than_there_is() {
        let columns = [BucketColumn::Mean as i32; 1_000].to_vec();
        for (series, pixels) in [(1, limits::POINTS_PER_SERIES), (limits::SERIES_PER_CALL, 60)] {
            let runs = vec![selection(series)];
            let pixels = pixels as u32;
            let bytes = of_buckets(&BucketsRequest {
                runs: runs.clone(),
                pixels,
                columns: columns.clone(),
                axis: Some(Default::default()),
                ..BucketsRequest::default()
            });
            assert!(bytes.total < TOTAL_BYTES / 2, "{bytes:?} for {series} series of {pixels} buckets");
        }
        for (series, pixels) in [(20, limits::POINTS_PER_SERIES), (1 << 20, 2)] {
            let groups = vec![SeriesGroup { runs: vec![selection(series)] }];
            let request = BandsRequest { groups, pixels: pixels as u32, ..BandsRequest::default() };
            let bytes = of_bands(&request);
            assert!(bytes.total < TOTAL_BYTES, "{bytes:?} for {series} series of {pixels} buckets");
        }
    }

    #[test]
    fn only_long_lists_of_series_need_memory() {
        let info = SeriesInfo { name: "x".repeat(100), ..SeriesInfo::default() };
        assert_eq!(of_list(&vec![info.clone(); 100]).total, 0);
        let long = of_list(&vec![info; 10_000]);
        assert!(long.total > 10_000 * 100 && long.total < TOTAL_BYTES / 2, "{long:?}");
        assert!(long.in_transport < long.total, "{long:?}");
    }

    /// A call of this many pieces. The transport may hold one of them.
    fn of_pieces(pieces: usize) -> ChartBytes {
        ChartBytes { total: pieces * PIECE_BYTES, in_transport: PIECE_BYTES }
    }

    #[tokio::test(start_paused = true)]
    async fn a_chart_that_is_not_read_is_dropped_if_others_wait() {
        let memory = ChartMemory::new(6 * PIECE_BYTES);
        let streams = Streams::default();
        let chart = async |sent: u32| {
            let messages = streams.respond(async move |sender| {
                sleep(UNREAD_CHECK).await;
                for number in 0..sent {
                    sender.send(number).await?;
                }
                sender.wait(std::future::pending::<()>()).await
            });
            memory.hold(memory.take(of_pieces(2)).await, messages, RequestAnswer::default())
        };
        let [mut unread, mut waiting, mut read] = [chart(9).await, chart(2).await, chart(9).await];
        // As the transport does, which then waits for its client.
        assert!(futures::poll!(unread.next()).is_pending());
        for number in 0..2 {
            assert_eq!(waiting.next().await.unwrap().unwrap(), number);
        }
        sleep(2 * UNREAD).await;
        assert_eq!(unread.next().await.unwrap().unwrap(), 0, "no call waits for memory");
        assert_eq!(memory.pieces.available_permits(), 0);
        let reading = async {
            for number in 0..4 {
                assert_eq!(read.next().await.unwrap().unwrap(), number);
                sleep(UNREAD * 9 / 10).await;
            }
        };
        let taking = async {
            let start = Instant::now();
            drop(memory.take(of_pieces(1)).await);
            assert!(start.elapsed() >= UNREAD);
        };
        tokio::join!(reading, taking);
        assert_eq!(memory.pieces.available_permits(), 1, "the transport has what it has taken");
        let ended = unread.next().await.unwrap().unwrap_err();
        assert_eq!(ended.code(), tonic::Code::Aborted);
        assert!(unread.next().await.is_none());
        assert_eq!(memory.pieces.available_permits(), 2);
        assert!(futures::poll!(waiting.next()).is_pending(), "its client has read everything");
    }

    #[tokio::test]
    async fn charts_wait_for_the_memory_of_others() {
        let memory = ChartMemory::new(4 * PIECE_BYTES);
        let first = memory.take(of_pieces(3)).await;
        let mut second = Box::pin(memory.take(of_pieces(2)));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
    }
}
