//! One client's stream. A single task reads batches, hands them to the pipeline and sends acknowledgements, so that nothing
//! is shared and every wait stands in one `select!`. It stops reading while too much is under way: that is the backpressure.
//!
//! The stream ends when the client has ended it or is gone, when the client breaks the protocol, when the server stops, or
//! when the log could not be written for the hold time. In all cases but the last, what was read is appended and acknowledged
//! first, also when nobody listens any more: a client that will not send again loses as little as possible.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use matyan_log::Position;
use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{self as pb, stream_request::Message},
};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use crate::{
    Shared,
    compose::{Arrival, Composer},
    convert::{Caller, Open, traceparent},
    error::{Error, Result},
    pipeline::{Appended, Pipeline},
    record::Author,
};

/// Answers with rejections that wait for a client to take them; then it is not read. All others are merged.
const WAITING_ANSWERS: usize = 16;

type Answers = mpsc::Sender<Result<pb::StreamResponse, Status>>;

/// Starts the task of a stream, which the frontier owns.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    caller: Caller,
    requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Send + Unpin + 'static,
    answers: Answers,
) -> Result<()> {
    let _counted = shared.begin()?;
    let task = run(shared.clone(), caller, requests, answers);
    shared.calls.spawn(task);
    Ok(())
}

async fn run(
    shared: Arc<Shared>,
    caller: Caller,
    mut requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin,
    answers: Answers,
) {
    let _counted = Counted::new(shared.metrics.streams.clone());
    let ended = match open(&shared, &mut requests).await {
        Ok(Some(open)) => Session::new(shared.clone(), caller, open).run(requests, &answers).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        // Fails only if the client is gone.
        answers.send(Err(error.into())).await.ok();
    }
}

/// A stream that is open, however it ends.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The first message; `None` if there is none.
async fn open(
    shared: &Shared,
    requests: &mut (impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin),
) -> Result<Option<Open>> {
    let request = tokio::select! {
        () = shared.stopping.cancelled() => return Err(Error::Stopping),
        request = requests.next() => request,
    };
    match request {
        None | Some(Err(_)) => Ok(None),
        Some(Ok(pb::StreamRequest { message: Some(Message::Open(open)) })) => {
            Open::parse(open, || (shared.new_id)()).map(Some)
        }
        Some(Ok(_)) => Err(Error::field("open", "has to come first")),
    }
}

struct Session {
    shared: Arc<Shared>,
    /// Always there between two steps; taken while it works.
    composer: Option<Composer>,
    pipeline: Pipeline,
    /// A batch that waits, as it came, for its share of what all streams may hold: decoded it takes several times as much.
    waiting: Option<Waiting>,
    /// What is to be sent to the client.
    outbox: VecDeque<pb::StreamResponse>,
    trace: Option<bytes::Bytes>,
    /// The sequence that comes next.
    expected: u64,
    /// Up to here everything is durable.
    durable: u64,
    durable_position: Option<LogPosition>,
    /// Set once no more is read, with how the stream will end.
    end: Option<Result<()>>,
    client_is_gone: bool,
}

struct Waiting {
    arrival: Arrival,
    share: Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>,
}

impl Session {
    fn new(shared: Arc<Shared>, caller: Caller, open: Open) -> Self {
        let Open { run, producer, series, acknowledged } = open;
        let pipeline = Pipeline::new(shared.clone(), &caller.project, run.as_str());
        let trace = caller.trace.clone();
        let composer = Composer::new(shared.settings.format, Author { run, producer, caller }, series);
        Self {
            shared,
            composer: Some(composer),
            pipeline,
            waiting: None,
            outbox: VecDeque::new(),
            trace,
            expected: acknowledged + 1,
            durable: acknowledged,
            durable_position: None,
            end: None,
            client_is_gone: false,
        }
    }

    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin,
        answers: &Answers,
    ) -> Result<()> {
        let stopping = self.shared.stopping.clone();
        loop {
            let reads = self.reads();
            tokio::select! {
                biased;
                permit = answers.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => permit.send(Ok(self.outbox.pop_front().expect("it is not empty"))),
                    Err(_) => self.client_gone(),
                },
                appended = self.pipeline.next(), if !self.pipeline.is_empty() => match appended {
                    Ok(appended) => self.acknowledge(appended),
                    Err(error) => self.log_failed(error),
                },
                share = share(&mut self.waiting), if self.waiting.is_some() => self.admit(share).await,
                () = stopping.cancelled(), if self.end.is_none() => self.end = Some(Err(Error::Stopping)),
                request = requests.next(), if reads => self.take(request).await,
                // Nothing is under way, and no more is read.
                else => return self.end.unwrap_or(Ok(())),
            }
        }
    }

    fn reads(&self) -> bool {
        self.end.is_none()
            && self.waiting.is_none()
            && self.pipeline.has_room()
            && self.outbox.len() < WAITING_ANSWERS
    }

    fn client_gone(&mut self) {
        self.client_is_gone = true;
        self.outbox.clear();
        self.end.get_or_insert(Ok(()));
    }

    /// What is durable is still acknowledged, and nothing else.
    fn log_failed(&mut self, error: Error) {
        self.pipeline.clear();
        self.waiting = None;
        self.end = Some(Err(error));
    }

    async fn take(&mut self, request: Option<Result<pb::StreamRequest, Status>>) {
        let taken = match request {
            // The client has ended the stream, or its connection is gone.
            None | Some(Err(_)) => return self.end = Some(Ok(())),
            Some(Ok(request)) => match request.message {
                Some(Message::Batch(batch)) => self.take_batch(batch).await,
                Some(Message::Open(_)) | None => {
                    Err(Error::field("batch", "is all that may follow the first message"))
                }
            },
        };
        if let Err(error) = taken {
            self.end = Some(Err(error));
        }
    }

    async fn take_batch(&mut self, batch: pb::StreamBatch) -> Result<()> {
        let (sequence, expected) = (batch.sequence, self.expected);
        if sequence == 0 {
            return Err(Error::field("sequence", "is 0: it counts from 1"));
        }
        if sequence > expected {
            return Err(Error::OutOfSequence(format!("batch {sequence} came, and {expected} was expected")));
        }
        if sequence <= self.durable {
            self.answer(self.durable, Vec::new(), 0);
            return Ok(());
        }
        if sequence < expected {
            // It is under way, and will be acknowledged.
            return Ok(());
        }
        let trace = match batch.traceparent.is_empty() {
            true => self.trace.clone(),
            false => traceparent(batch.traceparent.as_bytes()),
        };
        let arrival = Arrival::new(&self.shared, sequence, trace, batch.batch);
        let bytes = arrival.bytes();
        match self.shared.share_now(bytes) {
            Some(share) => self.append(arrival, share).await,
            None => {
                let shared = self.shared.clone();
                let share = Box::pin(async move { shared.share(bytes).await });
                self.waiting = Some(Waiting { arrival, share });
                Ok(())
            }
        }
    }

    async fn admit(&mut self, share: OwnedSemaphorePermit) {
        let waiting = self.waiting.take().expect("its share was awaited");
        if let Err(error) = self.append(waiting.arrival, share).await {
            self.end = Some(Err(error));
        }
    }

    async fn append(&mut self, arrival: Arrival, share: OwnedSemaphorePermit) -> Result<()> {
        let composer = self.composer.take().expect("it is put back below");
        let (composer, frame) = composer.frame(&self.shared, arrival, self.durable).await;
        self.composer = Some(composer);
        self.pipeline.push(frame?, share);
        self.expected += 1;
        Ok(())
    }

    fn acknowledge(&mut self, appended: Appended) {
        self.durable = appended.sequence;
        self.durable_position = Some(position(&self.shared, appended.position));
        let (rejections, rejected_items) = appended.rejections.into_parts();
        self.answer(appended.sequence, rejections, rejected_items);
    }

    /// Acknowledgements are cumulative: one that waits is replaced, unless it tells of rejections.
    fn answer(&mut self, sequence: u64, rejections: Vec<pb::Rejection>, rejected_items: u32) {
        if self.client_is_gone {
            return;
        }
        if self.outbox.back().is_some_and(|last| last.rejected_items == 0) {
            self.outbox.pop_back();
        }
        let position = self.durable_position;
        self.outbox.push_back(pb::StreamResponse { sequence, position, rejections, rejected_items });
    }
}

async fn share(waiting: &mut Option<Waiting>) -> OwnedSemaphorePermit {
    let waiting = waiting.as_mut().expect("the branch is only taken if something waits");
    waiting.share.as_mut().await
}

pub(crate) fn position(shared: &Shared, position: Position) -> LogPosition {
    let log = shared.settings.log_number.unwrap_or(LogPosition::UNKNOWN_LOG);
    LogPosition { log, partition: position.partition, offset: position.offset }
}
