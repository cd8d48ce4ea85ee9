//! The stream of one client. A single future reads batches, passes them to the pipeline, and
//! sends acknowledgements, so that nothing is shared and all waits are in one `select!`. It
//! stops reading while too much is in flight, which is the backpressure. It is polled by a task of the
//! frontier, or by a client in this process.
//!
//! The stream ends when the client ends it or disconnects, when the client violates the
//! protocol, when the server stops, when its project has used up a quota, when its project is deleted, when the log
//! cannot be written for the hold time, or when the client does not read its responses. Except in the last three
//! cases, everything that was read is appended and acknowledged first, even if the client has
//! disconnected: a client that will not resend loses as little as possible.

use std::{collections::VecDeque, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{self as pb, stream_request::Message},
};
use prometheus::IntGauge;
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, OwnedPermit},
    },
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tonic::Status;

use crate::{
    calls::Calls,
    compose::{Composer, ReceivedBatch},
    convert::{Caller, OpenCommand, traceparent},
    error::{Error, Result},
    ingestion::Ingestion,
    pipeline::{AppendedBatch, Pipeline},
    project_lookup::{KnownProjects, deadline},
    record::Author,
};

/// Capacity for responses queued for the transport, next to the error that ends the stream. It is
/// small, because waiting responses are merged before they get here.
const ANSWERS: usize = 4;

/// Maximum number of responses waiting for the client to read them. Above it, the client's
/// stream is not read. Only responses with rejections wait; the others are merged.
const WAITING_ANSWERS: usize = 16;

/// The longest time for which a stream stops reading, or does not end, because responses wait for the client.
/// The last message of a stream that is not read keeps its share of the memory for bodies, which all
/// connections need.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval at which a stream checks that its project still exists and accepts data.
const PROJECT_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) type Answer = Result<pb::StreamResponse, Status>;

/// Starts a stream. Returns the receiver of its responses, and the future that does its work. Draining waits for its end.
pub(crate) fn begin(
    ingestion: &Arc<Ingestion>,
    projects: &KnownProjects,
    calls: &Calls,
    caller: Caller,
    requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Send + Unpin + 'static,
) -> Result<(mpsc::Receiver<Answer>, BoxFuture<'static, ()>)> {
    let counted = calls.begin()?;
    let (answers, receiver) = mpsc::channel(ANSWERS + 1);
    let end = answers.clone().try_reserve_owned().expect("a new channel has room");
    let work = run(ingestion.clone(), projects.clone(), calls.clone(), caller, requests, answers, end);
    let work = async move {
        let _counted = counted;
        // A panic is a bug: this stream ends without a result, but the task that polls it continues.
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            tracing::error!("a stream panicked");
        }
    };
    Ok((receiver, work.boxed()))
}

async fn run(
    ingestion: Arc<Ingestion>,
    projects: KnownProjects,
    calls: Calls,
    caller: Caller,
    mut requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin,
    answers: mpsc::Sender<Answer>,
    end: OwnedPermit<Answer>,
) {
    let _counted = OpenStreamGauge::new(ingestion.metrics.streams.clone());
    let ended = match open(&ingestion, &calls, &mut requests).await {
        Ok(Some(open)) => match start(ingestion, projects, &calls, caller, open).await {
            Ok(session) => session.run(requests, &calls, &answers).await,
            Err(error) => Err(error),
        },
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        end.send(Err(error.into()));
    }
}

/// Starts the session of a stream whose project accepts data of the run.
async fn start(
    ingestion: Arc<Ingestion>,
    projects: KnownProjects,
    calls: &Calls,
    caller: Caller,
    open: OpenCommand,
) -> Result<Session> {
    tokio::select! {
        () = calls.stopping() => return Err(Error::Stopping),
        admitted = admit(&projects, &caller.project, &open) => admitted?,
    }
    let is_first = open.acknowledged == 0;
    let run = is_first.then(|| projects.limited_run(&caller.project, &open.run)).flatten();
    let session = Session::new(ingestion, projects.clone(), caller, open)?;
    if let Some(run) = run {
        projects.remember_run(run);
    }
    Ok(session)
}

/// Checks that a project accepts data of a stream. A run that has acknowledged data does not count
/// as new, even if no worker has created it yet.
async fn admit(projects: &KnownProjects, project: &str, open: &OpenCommand) -> Result<()> {
    if open.acknowledged > 0 {
        projects.check_admitted(project).await
    } else {
        projects.check_run(project, &open.run, deadline()).await
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
    outbox: Outbox,
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

/// The responses to be sent to the client.
#[derive(Default)]
struct Outbox {
    answers: VecDeque<pb::StreamResponse>,
    /// When the stream fails, because it waits for the client to read.
    deadline: Option<Instant>,
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
    /// Kept between calls, so that a busy stream cannot cancel every lookup.
    lookup: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
}

impl ProjectCheck {
    fn new(projects: KnownProjects, name: &str) -> Self {
        let mut timer = interval_at(Instant::now() + PROJECT_INTERVAL, PROJECT_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { projects, name: name.to_owned(), timer, lookup: None }
    }

    /// Waits for the next check, and returns an error if the project does not exist any more, or accepts no data.
    /// Cancel-safe.
    async fn next(&mut self) -> Result<()> {
        let checked = match &mut self.lookup {
            Some(lookup) => lookup.await,
            None => {
                self.timer.tick().await;
                let projects = self.projects.clone();
                let name = self.name.clone();
                self.lookup.insert(Box::pin(async move { projects.check_admitted(&name).await })).await
            }
        };
        self.lookup = None;
        match checked {
            Err(error @ (Error::NoProject(_) | Error::QuotaExceeded(_))) => Err(error),
            Err(error) => {
                tracing::warn!(project = self.name, %error, "failed to look up the project of a stream; will retry");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Session {
    fn new(
        ingestion: Arc<Ingestion>,
        projects: KnownProjects,
        caller: Caller,
        open: OpenCommand,
    ) -> Result<Self> {
        let OpenCommand { run, producer, series, acknowledged, asks_for_features } = open;
        let pipeline = Pipeline::new(ingestion.clone(), &caller.project, run.as_str());
        let project = ProjectCheck::new(projects, &caller.project);
        let trace = caller.trace.clone();
        let composer = Composer::new(&ingestion, Author { run, producer, caller }, series)?;
        let mut session = Self {
            ingestion,
            project,
            composer: Some(composer),
            pipeline,
            waiting: None,
            outbox: Outbox::default(),
            trace,
            expected: acknowledged + 1,
            durable: acknowledged,
            durable_position: None,
            end: None,
            is_disconnected: false,
        };
        if asks_for_features {
            session.answer(acknowledged, Vec::new(), 0);
        }
        Ok(session)
    }

    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<pb::StreamRequest, Status>> + Unpin,
        calls: &Calls,
        answers: &mpsc::Sender<Answer>,
    ) -> Result<()> {
        loop {
            let can_read = self.can_read();
            self.outbox.limit_wait(self.end.is_some());
            let deadline = self.outbox.deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                // Sending and acknowledging take precedence over reading more.
                biased;
                checked = self.project.next(), if self.end.is_none() => match checked {
                    Ok(()) => {}
                    // The project has room for the batches that were read.
                    Err(error @ Error::QuotaExceeded(_)) => self.end = Some(Err(error)),
                    Err(error) => self.fail(error),
                },
                permit = answers.reserve(), if !self.outbox.answers.is_empty() => match permit {
                    Ok(permit) => permit.send(Ok(self.outbox.answers.pop_front().expect("the branch requires an answer"))),
                    Err(_) => self.handle_disconnect(),
                },
                () = sleep_until(deadline), if self.outbox.deadline.is_some() => {
                    return self.end.unwrap_or(Ok(())).and(Err(Error::ClientStalled));
                }
                appended = self.pipeline.next(), if !self.pipeline.is_empty() => {
                    self.acknowledge_durable(appended);
                }
                share = wait_for_share(&mut self.waiting), if self.waiting.is_some() => self.admit(share).await,
                () = calls.stopping(), if self.end.is_none() => self.end = Some(Err(Error::Stopping)),
                request = requests.next(), if can_read => self.handle_request(request).await,
                // Nothing is in flight, and reading has stopped.
                else => return self.end.unwrap_or(Ok(())),
            }
        }
    }

    fn can_read(&self) -> bool {
        self.end.is_none() && self.waiting.is_none() && self.pipeline.has_room() && !self.outbox.is_full()
    }

    fn handle_disconnect(&mut self) {
        self.is_disconnected = true;
        self.outbox.answers.clear();
        self.end.get_or_insert(Ok(()));
    }

    /// Drops every batch that is not durable; durable batches are still acknowledged.
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
        let sequence = batch.sequence;
        let expected = self.expected;
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
        let trace = if batch.traceparent.is_empty() {
            self.trace.clone()
        } else {
            traceparent(batch.traceparent.as_bytes())
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

    /// Acknowledges a batch, and in the same answer all batches after it that are durable as well: one sync of the
    /// log completes many appends.
    fn acknowledge_durable(&mut self, first: Result<AppendedBatch>) {
        let mut next = Some(first);
        while let Some(appended) = next {
            match appended {
                Ok(appended) => self.acknowledge(appended),
                Err(error) => return self.fail(error),
            }
            next = self.pipeline.next().now_or_never();
        }
    }

    fn acknowledge(&mut self, appended: AppendedBatch) {
        self.durable = appended.sequence;
        self.durable_position = Some(self.ingestion.log_position(appended.position));
        let (rejections, rejected_items) = appended.rejections.into_parts();
        self.answer(appended.sequence, rejections, rejected_items);
    }

    /// Queues a response. Each says what the frontier can do, because a waiting one may be replaced.
    fn answer(&mut self, sequence: u64, rejections: Vec<pb::Rejection>, rejected_items: u32) {
        if self.is_disconnected {
            return;
        }
        let position = self.durable_position;
        let takes_rows = true;
        self.outbox.push(pb::StreamResponse { sequence, position, rejections, rejected_items, takes_rows });
    }
}

impl Outbox {
    /// Acknowledgements are cumulative, so a waiting one is replaced, unless it has rejections.
    fn push(&mut self, answer: pb::StreamResponse) {
        if self.answers.back().is_some_and(|last| last.rejected_items == 0) {
            self.answers.pop_back();
        }
        self.answers.push_back(answer);
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= WAITING_ANSWERS
    }

    /// Limits the time for which the stream waits for its client to read. A client that reads a response
    /// does not extend the limit: reading one response a minute would be enough to keep the stream.
    fn limit_wait(&mut self, is_ending: bool) {
        let is_waiting = self.is_full() || (is_ending && !self.answers.is_empty());
        self.deadline =
            if is_waiting { self.deadline.or_else(|| Some(Instant::now() + CLIENT_TIMEOUT)) } else { None };
    }
}

async fn wait_for_share(waiting: &mut Option<WaitingBatch>) -> OwnedSemaphorePermit {
    let waiting = waiting.as_mut().expect("the branch requires a waiting batch");
    waiting.share.as_mut().await
}
