//! The memory of streams that send large runs. A message with such a run has up to 10 MB, and a few messages are in memory
//! until a slow client has read them: in the stream, in the transport, and encoded in the edge. So a few streams send
//! large runs at a time. If others wait, a client that reads nothing loses its stream.

use std::{sync::Arc, time::Duration};

use matyan_access::{CallClient, CallOrigin, Refusal, ShareLimit, SharePermit};
use matyan_proto::runs::v1::Run;
use parking_lot::Mutex;

use super::{
    error::{Error, Result},
    held_streams::{HeldStream, HeldStreams, InTransport},
    stream::{MESSAGES_IN_FLIGHT, MESSAGES_IN_TRANSPORT, ResponseStream},
};

/// Bytes of params, and of names and contexts of series, above which a run is large.
const LARGE_RUN_BYTES: usize = 256 << 10;

/// Number of series above which a run is large.
const LARGE_SERIES: usize = 1_000;

/// Streams that send large runs at a time. One client may have three.
const STREAMS: usize = 4;

/// Large runs in memory in all streams.
const RUNS: usize = STREAMS * RUNS_OF_STREAM;

/// Large runs in memory in a stream, one of them encoded twice in the edge.
const RUNS_OF_STREAM: usize = MESSAGES_IN_FLIGHT + 2;

/// Large runs that the transport and the edge may have.
const RUNS_IN_TRANSPORT: usize = MESSAGES_IN_TRANSPORT + 2;

/// Longest time for which a stream waits until others have been read.
const WAIT: Duration = Duration::from_secs(60);

/// The streams that send large runs. Clones share their state.
#[derive(Clone)]
pub(crate) struct LargeRuns {
    room: ShareLimit<CallClient>,
    streams: HeldStreams,
}

/// The stream of a client that may read large runs.
pub(crate) type LargeRunStream<T> = HeldStream<T, (), RoomInTransport>;

type Room = SharePermit<CallClient>;

fn is_large(run: &Run) -> bool {
    let names = || run.series.iter().map(|info| info.name.len() + info.context.len()).sum::<usize>();
    run.series.len() > LARGE_SERIES || run.params.len() > LARGE_RUN_BYTES || names() > LARGE_RUN_BYTES
}

/// Room that is held until the transport drops the stream, or informs its client of the end.
type RoomInTransport = Arc<Mutex<Option<Room>>>;

impl InTransport for RoomInTransport {
    fn is_held(&self) -> bool {
        self.lock().is_some()
    }
}

impl Default for LargeRuns {
    fn default() -> Self {
        Self { room: ShareLimit::new("large runs", RUNS), streams: HeldStreams::default() }
    }
}

impl LargeRuns {
    /// Starts a stream, whose work takes room before it sends a large run.
    pub(crate) fn stream<T: Send + 'static>(
        &self,
        origin: CallOrigin,
        start: impl FnOnce(LargeRunRoom) -> ResponseStream<T>,
    ) -> LargeRunStream<T> {
        let CallOrigin { client, answer } = origin;
        let in_transport = RoomInTransport::default();
        let room =
            LargeRunRoom { all: self.clone(), client, in_stream: None, in_transport: in_transport.clone() };
        self.streams.hold(start(room), (), in_transport, answer)
    }
}

/// The room of a stream for large runs, which it holds until it ends.
pub(crate) struct LargeRunRoom {
    all: LargeRuns,
    client: Option<CallClient>,
    in_stream: Option<Room>,
    in_transport: RoomInTransport,
}

impl LargeRunRoom {
    /// Whether a run can be sent now. Takes room for large runs if there is some.
    pub(crate) fn is_enough_for(&mut self, run: &Run) -> bool {
        !is_large(run) || self.in_stream.is_some() || self.try_take()
    }

    fn try_take(&mut self) -> bool {
        let taken = self.all.room.try_admit(self.client.as_ref(), const { RUNS_OF_STREAM as u32 });
        taken.map(|taken| self.keep(taken)).is_ok()
    }

    /// Waits for room. The caller holds no large run until then.
    pub(crate) async fn take(&mut self) -> Result<()> {
        let count = const { RUNS_OF_STREAM as u32 };
        let taking = self.all.room.admit_many_within(WAIT, self.client.clone(), count);
        // Streams of others do not help a client that has its share.
        let client = self.client.as_ref();
        let has_share = || client.is_none_or(|client| !self.all.room.is_beyond_share(client, count));
        let taken = self.all.streams.drop_unread_while(has_share, taking).await;
        self.keep(taken.map_err(|refusal| {
            Error::Waiting(match refusal {
                Refusal::Full => "the memory for large runs is taken by answers that are read slowly",
                Refusal::ClientFull => "the answers to your other calls with large runs are read slowly",
            })
        })?);
        Ok(())
    }

    fn keep(&mut self, mut taken: Room) {
        *self.in_transport.lock() = Some(taken.split(RUNS_IN_TRANSPORT));
        self.in_stream = Some(taken);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use matyan_proto::runs::v1::SeriesInfo;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::server::{held_streams::UNREAD, stream::Streams};

    /// A stream that sends numbers once it has room.
    fn numbers(large_runs: &LargeRuns, streams: &Streams, client: Option<&str>) -> LargeRunStream<u32> {
        numbers_for(large_runs, streams, origin(client))
    }

    fn origin(client: Option<&str>) -> CallOrigin {
        CallOrigin { client: client.map(CallClient::new), ..CallOrigin::default() }
    }

    fn numbers_for(large_runs: &LargeRuns, streams: &Streams, origin: CallOrigin) -> LargeRunStream<u32> {
        large_runs.stream(origin, |mut room| {
            streams.respond(async move |sender| {
                room.take().await?;
                for number in 0..100 {
                    sender.send(number).await?;
                }
                Ok(())
            })
        })
    }

    #[test]
    fn rule_45_a_run_is_large_by_its_params_and_its_series() {
        let with_series = |count: usize, context: usize| {
            let info = SeriesInfo { context: "x".repeat(context), ..SeriesInfo::default() };
            Run { series: vec![info; count], ..Run::default() }
        };
        assert!(!is_large(&with_series(LARGE_SERIES, 100)));
        assert!(is_large(&with_series(LARGE_SERIES + 1, 0)));
        assert!(is_large(&with_series(LARGE_SERIES, 1_000)));
        assert!(is_large(&Run { params: vec![0; LARGE_RUN_BYTES + 1].into(), ..Run::default() }));
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_a_stream_of_large_runs_that_is_not_read_makes_room_for_others() {
        let large_runs = LargeRuns::default();
        let streams = Streams::default();
        let mut unread: Vec<_> = (0..STREAMS).map(|_| numbers(&large_runs, &streams, None)).collect();
        sleep(Duration::from_secs(1)).await;
        for stream in &mut unread {
            // As the transport does, which then waits for its client.
            assert_eq!(stream.next().await.unwrap().unwrap(), 0);
        }
        let start = Instant::now();
        let mut waiting = numbers(&large_runs, &streams, None);
        assert_eq!(waiting.next().await.unwrap().unwrap(), 0);
        assert!(start.elapsed() >= UNREAD);
        for mut stream in unread {
            assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        }
        let read: Vec<_> = waiting.map(Result::unwrap).collect().await;
        assert_eq!(read.len(), 99);
        assert!(
            large_runs.room.try_admit(None, u32::try_from(RUNS).unwrap()).is_ok(),
            "all room is given back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_clients_that_read_nothing_do_not_keep_the_room() {
        let large_runs = LargeRuns::default();
        let streams = Streams::default();
        for number in 0..10 {
            let origin = origin(Some(&number.to_string()));
            let answer = origin.answer.clone();
            let mut stream = numbers_for(&large_runs, &streams, origin);
            assert_eq!(stream.next().await.unwrap().unwrap(), 0);
            // As the edge does, which drops an answer that is given up.
            tokio::spawn(async move {
                answer.given_up().await;
                drop(stream);
            });
        }
        let read: Vec<_> = numbers(&large_runs, &streams, Some("reader")).collect().await;
        assert_eq!(read.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_only_streams_of_large_runs_make_room_and_not_for_a_client_that_has_its_share() {
        let large_runs = LargeRuns::default();
        let streams = Streams::default();
        let mut small = large_runs.stream(CallOrigin::default(), |_| {
            streams.respond(async move |sender| {
                for number in 0..100 {
                    sender.send(number).await?;
                }
                Ok(())
            })
        });
        let mut other = numbers(&large_runs, &streams, Some("other"));
        let many: Vec<_> = (0..STREAMS).map(|_| numbers(&large_runs, &streams, Some("many"))).collect();
        sleep(Duration::from_secs(1)).await;
        for stream in [&mut small, &mut other] {
            assert_eq!(stream.next().await.unwrap().unwrap(), 0);
        }
        sleep(WAIT - Duration::from_secs(2)).await;
        assert_eq!(other.next().await.unwrap().unwrap(), 1, "the room of others does not help");
        // Fills the room.
        let full: Vec<_> = (0..STREAMS).map(|_| numbers(&large_runs, &streams, None)).collect();
        sleep(2 * UNREAD).await;
        assert_eq!(small.next().await.unwrap().unwrap(), 1, "it holds no room");
        assert_eq!(other.next().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        drop((many, full));
    }

    #[tokio::test(start_paused = true)]
    async fn rule_45_a_client_leaves_room_for_large_runs_to_others() {
        let large_runs = LargeRuns::default();
        let streams = Streams::default();
        let unread: Vec<_> =
            (0..10 * STREAMS).map(|_| numbers(&large_runs, &streams, Some("many"))).collect();
        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        let other: Vec<_> = numbers(&large_runs, &streams, Some("other")).collect().await;
        assert_eq!(other.len(), 100);
        assert!(start.elapsed() < UNREAD);
        drop(unread);
    }
}
