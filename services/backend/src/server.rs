//! The server as all services see it: its dependencies, the start of a call, and the tasks of streams.

pub(crate) mod audit;
pub(crate) mod call;
pub(crate) mod control_record;
pub(crate) mod convert;
pub(crate) mod create_once;
pub(crate) mod deps;
pub(crate) mod error;
pub(crate) mod evaluation;
pub(crate) mod failure_budget;
pub(crate) mod held_streams;
pub(crate) mod large_runs;
pub(crate) mod left_out_runs;
pub(crate) mod live_readers;
pub(crate) mod long_lists;
pub(crate) mod metrics;
pub(crate) mod quota;
pub(crate) mod run_samples;
pub(crate) mod scheduling;
pub(crate) mod stream;
pub(crate) mod text_position;
pub(crate) mod uri_key;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use call::Call;
use deps::Deps;
use evaluation::SearchTime;
use large_runs::LargeRuns;
use long_lists::LongLists;
use stream::{ResponseStream, Sender, StreamEnd, Streams};

/// The result of an rpc.
pub(crate) type RpcResult<T> = Result<Response<T>, Status>;

/// The state that all services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) deps: Arc<Deps>,
    pub(crate) streams: Streams,
    pub(crate) large_runs: LargeRuns,
    pub(crate) long_lists: LongLists,
}

impl Server {
    pub(crate) fn new(mut deps: Deps) -> Self {
        deps.evaluation.count_slices(deps.metrics.query_slices.clone());
        Self {
            deps: Arc::new(deps),
            streams: Streams::default(),
            large_runs: LargeRuns::default(),
            long_lists: LongLists::default(),
        }
    }

    /// Starts a call: reads its metadata, and waits for the positions that the metadata requires.
    /// Returns the call with the message of its request.
    pub(crate) async fn start_call<T>(&self, request: Request<T>) -> Result<(Call, T), Status> {
        let (metadata, mut extensions, message) = request.into_parts();
        let origin = extensions.remove().unwrap_or_default();
        Ok((Call::start(&self.deps, &metadata, origin).await?, message))
    }

    /// Runs `work` as the task of a stream.
    pub(crate) fn respond<T, F>(&self, work: impl FnOnce(Sender<T>) -> F) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        self.streams.respond(|sender| SearchTime::default().of(Box::pin(work(sender))))
    }

    /// Like `respond`, for searches and for work that decodes points: on the threads of queries, so that no
    /// acknowledgement waits for it.
    pub(crate) fn respond_on_query_threads<T, F>(
        &self,
        work: impl FnOnce(Sender<T>) -> F,
    ) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        let deps = self.deps.clone();
        self.streams.respond(|sender| {
            // The future of a search is large: the stack of a thread must not hold it several times.
            let work = Box::pin(work(sender));
            SearchTime::default().of(async move { deps.evaluation.drive(work).await? })
        })
    }

    /// Like `respond`, for jobs: they end at a message that the client does not take, and release
    /// their locks.
    pub(crate) fn respond_with_job<T, F>(&self, work: impl FnOnce(Sender<T>) -> F) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        self.streams.respond_with_job(work)
    }
}
