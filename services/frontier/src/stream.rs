//! The stream of one client. A single task reads batches, passes them to the pipeline, and
//! sends acknowledgements, so that nothing is shared and all waits are in one `select!`. It
//! stops reading while too much is in flight, which is the backpressure.
//!
//! The stream ends when the client ends it or disconnects, when the client violates the
//! protocol, when the server stops, when its project is deleted, or when the log cannot be written
//! for the hold time. Except in the last two cases, everything that was read is appended and
//! acknowledged first, even if the client has disconnected: a client that will not resend loses
//! as little as possible.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{self as pb, stream_request::Message},
};
use prometheus::IntGauge;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tonic::Status;

use crate::{
    calls::Calls,
    compose::{Composer, ReceivedBatch},
    convert::{Caller, OpenCommand, traceparent},
    error::{Error, Result},
    ingestion::Ingestion,
    pipeline::{AppendedBatch, Pipeline},
    project_names::KnownProjects,
    record::Author,
};

/// Maximum number of responses waiting for the client to read them. Above it, the client's
/// stream is not read. Only responses with rejections wait; the others are merged.
const WAITING_ANSWERS: usize = 16;

/// Interval at which a stream checks that its project still exists.
const PROJECT_INTERVAL: Duration = Duration::from_secs(30);

type Answers = mpsc::Sender<Result<pb::StreamResponse, Status>>;

/// Spawns the task of a stream, owned by the frontier.
pub(crate) fn spawn(
    ingestion: &Arc<Ingestion>,
    projects: &KnownProjects,
    calls: &Calls,
    caller: Caller,
    requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Send + Unpin + 'static,
    answers: Answers,
) -> Result<()> {
    calls.spawn(run(ingestion.clone(), projects.clone(), calls.clone(), caller, requests, answers))
}

async fn run(
    ingestion: Arc<Ingestion>,
    projects: KnownProjects,
    calls: Calls,
    caller: Caller,
    mut requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin,
    answers: Answers,
) {
    let _counted = OpenStreamGauge::new(ingestion.metrics.streams.clone());
    let ended = match open(&ingestion, &calls, &mut requests).await {
        Ok(Some(open)) => {
            Session::new(ingestion, projects, caller, open).run(requests, &calls, &answers).await
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        // Fails only if the client has disconnected.
        answers.send(Err(error.into())).await.ok();
    }
}

/// Counts an open stream until it is dropped.
struct OpenStreamGauge(IntGauge);

impl OpenStreamGauge {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenStreamGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Reads the first message; `None` if the stream ends before it.
async fn open(
    ingestion: &Ingestion,
    calls: &Calls,
    requests: &mut (impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin),
) -> Result<Option<OpenCommand>> {
    let request = tokio::select! {
        () = calls.stopping() => return Err(Error::Stopping),
        request = requests.next() => request,
    };
    match request {
        None | Some(Err(_)) => Ok(None),
        Some(Ok(pb::StreamRequest { message: Some(Message::Open(open)) })) => {
            OpenCommand::parse(open, || (ingestion.new_id)()).map(Some)
        }
        Some(Ok(_)) => Err(Error::field("open", "must be the first message")),
    }
}

struct Session {
    ingestion: Arc<Ingestion>,
    project: ProjectCheck,
    /// `None` only while a batch is being composed.
    composer: Option<Composer>,
    pipeline: Pipeline,
    /// A batch that waits for its share of the memory budget. It is kept encoded, because
    /// decoded, it takes several times as much memory.
    waiting: Option<WaitingBatch>,
    /// Responses to be sent to the client.
    outbox: VecDeque<pb::StreamResponse>,
    trace: Option<bytes::Bytes>,
    /// Next sequence number.
    expected: u64,
    /// Sequence number up to which everything is durable.
    durable: u64,
    durable_position: Option<LogPosition>,
    /// Set once reading has stopped, with the result of the stream.
    end: Option<Result<()>>,
    is_disconnected: bool,
}

struct WaitingBatch {
    received: ReceivedBatch,
    share: Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>,
}

/// The project of a stream, which is looked up periodically.
struct ProjectCheck {
    projects: KnownProjects,
    name: String,
    timer: Interval,
    /// Kept between calls, so that a busy stream cannot cancel it again and again.
    lookup: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
}

impl ProjectCheck {
    fn new(projects: KnownProjects, name: &str) -> Self {
        let mut timer = interval_at(Instant::now() + PROJECT_INTERVAL, PROJECT_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { projects, name: name.to_owned(), timer, lookup: None }
    }

    /// Waits for the next check, and returns an error if the project does not exist any more.
    /// Cancel-safe.
    async fn next(&mut self) -> Result<()> {
        let checked = match &mut self.lookup {
            Some(lookup) => lookup.await,
            None => {
                self.timer.tick().await;
                let (projects, name) = (self.projects.clone(), self.name.clone());
                self.lookup.insert(Box::pin(async move { projects.check(&name).await })).await
            }
        };
        self.lookup = None;
        match checked {
            Err(error @ Error::NoProject(_)) => Err(error),
            Err(error) => {
                tracing::warn!(project = self.name, %error, "failed to look up the project of a stream; will retry");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Session {
    fn new(ingestion: Arc<Ingestion>, projects: KnownProjects, caller: Caller, open: OpenCommand) -> Self {
        let OpenCommand { run, producer, series, acknowledged } = open;
        let pipeline = Pipeline::new(ingestion.clone(), &caller.project, run.as_str());
        let project = ProjectCheck::new(projects, &caller.project);
        let trace = caller.trace.clone();
        let composer = Composer::new(ingestion.settings.format, Author { run, producer, caller }, series);
        Self {
            ingestion,
            project,
            composer: Some(composer),
            pipeline,
            waiting: None,
            outbox: VecDeque::new(),
            trace,
            expected: acknowledged + 1,
            durable: acknowledged,
            durable_position: None,
            end: None,
            is_disconnected: false,
        }
    }

    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin,
        calls: &Calls,
        answers: &Answers,
    ) -> Result<()> {
        loop {
            let can_read = self.can_read();
            tokio::select! {
                // Sending and acknowledging take precedence over reading more.
                biased;
                checked = self.project.next(), if self.end.is_none() => if let Err(error) = checked {
                    self.fail(error);
                },
                permit = answers.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => permit.send(Ok(self.outbox.pop_front().expect("the branch requires an answer"))),
                    Err(_) => self.handle_disconnect(),
                },
                appended = self.pipeline.next(), if !self.pipeline.is_empty() => match appended {
                    Ok(appended) => self.acknowledge(appended),
                    Err(error) => self.fail(error),
                },
                share = wait_for_share(&mut self.waiting), if self.waiting.is_some() => self.admit(share).await,
                () = calls.stopping(), if self.end.is_none() => self.end = Some(Err(Error::Stopping)),
                request = requests.next(), if can_read => self.handle_request(request).await,
                // Nothing is in flight, and reading has stopped.
                else => return self.end.unwrap_or(Ok(())),
            }
        }
    }

    fn can_read(&self) -> bool {
        self.end.is_none()
            && self.waiting.is_none()
            && self.pipeline.has_room()
            && self.outbox.len() < WAITING_ANSWERS
    }

    fn handle_disconnect(&mut self) {
        self.is_disconnected = true;
        self.outbox.clear();
        self.end.get_or_insert(Ok(()));
    }

    /// Drops every batch that is not durable; durable ones are still acknowledged.
    fn fail(&mut self, error: Error) {
        self.pipeline.clear();
        self.waiting = None;
        self.end = Some(Err(error));
    }

    async fn handle_request(&mut self, request: Option<Result<pb::StreamRequest, Status>>) {
        let taken = match request {
            // The client has ended the stream or has disconnected.
            None | Some(Err(_)) => return self.end = Some(Ok(())),
            Some(Ok(request)) => match request.message {
                Some(Message::Batch(batch)) => self.take_batch(batch).await,
                Some(Message::Open(_)) | None => {
                    Err(Error::field("batch", "is the only message allowed after the first one"))
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
            return Err(Error::field("sequence", "is 0: it starts at 1"));
        }
        if sequence > expected {
            return Err(Error::OutOfSequence(format!("got batch {sequence}, but {expected} was expected")));
        }
        if sequence <= self.durable {
            self.answer(self.durable, Vec::new(), 0);
            return Ok(());
        }
        if sequence < expected {
            // It is in flight, and will be acknowledged.
            return Ok(());
        }
        let trace = match batch.traceparent.is_empty() {
            true => self.trace.clone(),
            false => traceparent(batch.traceparent.as_bytes()),
        };
        let received = ReceivedBatch::new(&self.ingestion, sequence, trace, batch.batch);
        let bytes = received.bytes();
        match self.ingestion.budget.try_share(bytes) {
            Some(share) => self.append(received, share).await,
            None => {
                let budget = self.ingestion.budget.clone();
                let share = Box::pin(async move { budget.share(bytes).await });
                self.waiting = Some(WaitingBatch { received, share });
                Ok(())
            }
        }
    }

    async fn admit(&mut self, share: OwnedSemaphorePermit) {
        let waiting = self.waiting.take().expect("its share has just been awaited");
        if let Err(error) = self.append(waiting.received, share).await {
            self.end = Some(Err(error));
        }
    }

    async fn append(&mut self, received: ReceivedBatch, share: OwnedSemaphorePermit) -> Result<()> {
        let composer = self.composer.take().expect("the composer is put back after each batch");
        let (composer, composed) = composer.compose_batch(&self.ingestion, received, self.durable).await;
        self.composer = Some(composer);
        self.pipeline.push(composed?, share);
        self.expected += 1;
        Ok(())
    }

    fn acknowledge(&mut self, appended: AppendedBatch) {
        self.durable = appended.sequence;
        self.durable_position = Some(self.ingestion.log_position(appended.position));
        let (rejections, rejected_items) = appended.rejections.into_parts();
        self.answer(appended.sequence, rejections, rejected_items);
    }

    /// Queues a response. Acknowledgements are cumulative, so a waiting one is replaced,
    /// unless it has rejections.
    fn answer(&mut self, sequence: u64, rejections: Vec<pb::Rejection>, rejected_items: u32) {
        if self.is_disconnected {
            return;
        }
        if self.outbox.back().is_some_and(|last| last.rejected_items == 0) {
            self.outbox.pop_back();
        }
        let position = self.durable_position;
        self.outbox.push_back(pb::StreamResponse { sequence, position, rejections, rejected_items });
    }
}

async fn wait_for_share(waiting: &mut Option<WaitingBatch>) -> OwnedSemaphorePermit {
    let waiting = waiting.as_mut().expect("the branch requires a waiting batch");
    waiting.share.as_mut().await
}
