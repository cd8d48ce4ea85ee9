//! The blocking client of a backend, and its guarantee that a reader sees its own writes.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use matyan_proto::{
    common::v1::LogPosition,
    runs::v1::{GetRequest, GetResponse},
};
use prost::Message;
use tokio::runtime::Handle;

use super::wait::{self, BlockingBody, BlockingStream, InterruptCheck, StreamSink};
use crate::{
    grpc_web::{self, RequiredPosition},
    http::{HttpClient, HttpError, JsonText, RequestToken, RestRequest, Timeouts, clean_url},
    locks::lock,
    per_process::PerProcess,
};

/// Time that a reader waits for its own writes before it gives up.
const APPLY_LIMIT: Duration = Duration::from_secs(30);

/// Limits of a client, and where its requests run.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// Limits on the time that requests take.
    pub timeouts: Timeouts,
    /// Called every 100 ms by a thread that waits; `true` ends the wait.
    pub interrupted: InterruptCheck,
    /// Runtime on which requests run: the runtime of the I/O thread of this process.
    pub runtime: fn() -> Result<Handle, HttpError>,
}

/// A blocking client of a backend. All calls may be used from any thread but the I/O thread, and
/// after a fork.
///
/// ```no_run
/// use matyan_sdk::{http::Timeouts, reading::{BackendClient, BackendOptions, Search}};
///
/// let timeouts = Timeouts::default();
/// let options = BackendOptions { timeouts, interrupted: || false, runtime: matyan_sdk::io_runtime };
/// let backend = BackendClient::new("http://localhost:53800", options)?;
/// for run in backend.search(&Search::runs("run.active"))? {
///     println!("{}", run?.id);
/// }
/// # Ok::<(), matyan_sdk::http::HttpError>(())
/// ```
pub struct BackendClient {
    base: String,
    options: BackendOptions,
    /// Connections cannot be shared with the parent of a fork.
    client: PerProcess<HttpClient>,
    unapplied: PerProcess<Mutex<UnappliedPositions>>,
}

/// Acknowledged positions that no answer is known to include.
type UnappliedPositions = BTreeMap<(u32, u32), UnappliedOffsets>;

/// The positions of a partition.
#[derive(Clone, Debug, Default)]
struct UnappliedOffsets {
    /// The highest offset of each run.
    runs: BTreeMap<String, u64>,
    /// The highest offset of further runs, with its run.
    others: Option<(u64, String)>,
}

/// Number of runs, of all partitions, whose positions are known one by one: they are sent as headers.
const MAX_RUNS: usize = 50;

impl UnappliedOffsets {
    fn include(&mut self, run_id: &str, offset: u64, is_full: bool) {
        match self.runs.get_mut(run_id) {
            Some(known) => *known = offset.max(*known),
            None if is_full => self.others = self.others.take().max(Some((offset, run_id.to_owned()))),
            None => {
                self.runs.insert(run_id.to_owned(), offset);
            }
        }
    }

    /// Forgets the positions that answers had to include.
    fn exclude(&mut self, waited: &Self) {
        self.runs.retain(|run, offset| waited.runs.get(run).is_none_or(|waited| waited < offset));
        self.others.take_if(|others| waited.others.as_ref().is_some_and(|waited| *waited >= *others));
    }

    /// A run that was written.
    fn any_run(&self) -> Option<&String> {
        self.runs.keys().next().or(self.others.as_ref().map(|(_, run)| run))
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.others.is_none()
    }
}

impl BackendClient {
    /// A client of the backend at this URL. Nothing is opened before the first request.
    pub fn new(url: &str, options: BackendOptions) -> Result<Self, HttpError> {
        let base = clean_url(url)?;
        Ok(Self { base, options, client: PerProcess::new(), unapplied: PerProcess::new() })
    }

    /// URL of the backend, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Makes every later answer include the data that was acknowledged at this position. A backend without
    /// gRPC does not know positions, and answers with the data that it has.
    pub fn include(&self, run_id: &str, position: LogPosition) {
        let LogPosition { log, partition, offset } = position;
        let mut unapplied = lock(self.unapplied.get_or_make(|_| true, Mutex::default));
        let is_full = unapplied.values().map(|offsets| offsets.runs.len()).sum::<usize>() >= MAX_RUNS;
        unapplied.entry((log, partition)).or_default().include(run_id, offset, is_full);
    }

    /// Sends any REST request and returns its JSON answer; empty text if there is none.
    pub fn send(&self, request: RestRequest) -> Result<JsonText, HttpError> {
        self.wait_for_own_writes()?;
        let client = self.http()?;
        self.run(async move { client.json(&request).await })
    }

    /// Sends a REST request and returns the pieces of its answer.
    pub fn open(&self, request: RestRequest) -> Result<BlockingBody, HttpError> {
        self.wait_for_own_writes()?;
        BlockingBody::open(&(self.options.runtime)()?, self.options.interrupted, self.http()?, request)
    }

    /// Calls a unary method of the gRPC API.
    pub(super) fn call<A: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: impl Message + 'static,
    ) -> Result<A, HttpError> {
        self.wait_for_own_writes()?;
        let client = self.http()?;
        self.run(async move { grpc_web::unary(&client, method, &request, &[]).await })
    }

    /// Calls a unary method with a token other than the server's, or with none.
    pub(super) fn call_with<A: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: impl Message + 'static,
        token: RequestToken,
    ) -> Result<A, HttpError> {
        let client = self.http()?;
        self.run(async move { grpc_web::unary_with(&client, method, &request, token).await })
    }

    /// Runs a task on the I/O thread, and returns the value that the task sends.
    pub(super) fn stream<T: Send + 'static, F>(
        &self,
        produce: impl FnOnce(HttpClient, StreamSink<T>) -> F,
    ) -> Result<BlockingStream<T>, HttpError>
    where
        F: Future<Output = Result<(), HttpError>> + Send + 'static,
    {
        self.wait_for_own_writes()?;
        let client = self.http()?;
        Ok(wait::stream(&(self.options.runtime)()?, self.options.interrupted, |sink| produce(client, sink)))
    }

    fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, HttpError>> + Send + 'static,
    ) -> Result<T, HttpError> {
        wait::run(&(self.options.runtime)()?, self.options.interrupted, future)
    }

    fn http(&self) -> Result<HttpClient, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        // Creating it can fail, which `get_or_make` does not allow.
        let client = HttpClient::new(&self.base, self.options.timeouts)?;
        Ok(self.client.get_or_make(|_| true, || client.clone()).clone())
    }

    /// Waits until the backend has applied everything that was acknowledged. A call with positions
    /// returns once they are applied; its answer is not needed. REST has no such parameter.
    fn wait_for_own_writes(&self) -> Result<(), HttpError> {
        let Some(unapplied) = self.unapplied.get() else { return Ok(()) };
        let waiting = lock(unapplied).clone();
        let Some(run_id) = waiting.values().find_map(UnappliedOffsets::any_run).cloned() else {
            return Ok(());
        };
        let positions = required_positions(&waiting);
        let client = self.http()?;
        self.run(async move { applied(&client, run_id, &positions).await })?;
        let mut unapplied = lock(unapplied);
        for (place, waited) in &waiting {
            if let Some(offsets) = unapplied.get_mut(place) {
                offsets.exclude(waited);
            }
        }
        unapplied.retain(|_, offsets| !offsets.is_empty());
        Ok(())
    }
}

fn required_positions(unapplied: &UnappliedPositions) -> Vec<RequiredPosition> {
    let mut positions = Vec::new();
    for ((log, partition), offsets) in unapplied {
        let at = |offset: u64| LogPosition { log: *log, partition: *partition, offset };
        let runs = offsets.runs.iter().map(|(run, offset)| RequiredPosition::of_run(run, at(*offset)));
        positions.extend(runs);
        let others = offsets.others.as_ref().map(|(offset, _)| at(*offset));
        positions.extend(others.map(|position| RequiredPosition { position, run_id: None }));
    }
    positions
}

async fn applied(
    client: &HttpClient,
    run_id: String,
    positions: &[RequiredPosition],
) -> Result<(), HttpError> {
    let request = GetRequest { run_id, parts: None };
    let started = Instant::now();
    loop {
        let call =
            grpc_web::unary::<GetResponse>(client, "/matyan.runs.v1.RunService/Get", &request, positions);
        return match call.await {
            // A deleted run or project has been applied as well, and an older backend knows no positions.
            Ok(_)
            | Err(HttpError::NotFound { .. } | HttpError::NoProject { .. } | HttpError::Unsupported { .. }) => {
                Ok(())
            }
            Err(HttpError::Refused { code, .. })
                if code == "NOT_YET_APPLIED" && started.elapsed() < APPLY_LIMIT =>
            {
                continue;
            }
            Err(error) => Err(error),
        };
    }
}

/// JSON text of a list of texts.
pub(super) fn text_list(texts: &[impl AsRef<str>]) -> Bytes {
    use matyan_value::{
        Value,
        json::{JsonStyle, value_text},
    };
    let texts = texts.iter().map(|text| Value::Text(text.as_ref().to_owned())).collect();
    value_text(&Value::List(texts), JsonStyle::STRICT).into()
}

/// JSON text of an object with text members; those without a value are left out.
pub(super) fn text_members(members: &[(&str, Option<&str>)]) -> Bytes {
    use matyan_value::{
        Map, Value,
        json::{JsonStyle, map_text},
    };
    let members = members
        .iter()
        .filter_map(|(key, value)| Some(((*key).to_owned(), Value::Text((*value)?.to_owned()))));
    map_text(&members.collect::<Map>(), JsonStyle::STRICT).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(unapplied: &UnappliedPositions) -> Vec<(u64, Option<String>)> {
        let positions = required_positions(unapplied).into_iter();
        positions.map(|required| (required.position.offset, required.run_id)).collect()
    }

    #[test]
    fn many_runs_are_waited_for_together() {
        let mut unapplied = UnappliedPositions::new();
        let offsets = unapplied.entry((0, 0)).or_default();
        offsets.include("a", 3, false);
        offsets.include("a", 2, false);
        offsets.include("b", 5, false);
        let waited = offsets.clone();
        for (run, offset) in [("c", 9), ("d", 7), ("b", 6)] {
            offsets.include(run, offset, true);
        }
        let a_run = |run: &str| Some(run.to_owned());
        assert_eq!(required(&unapplied), [(3, a_run("a")), (6, a_run("b")), (9, None)]);
        let offsets = unapplied.entry((0, 0)).or_default();
        offsets.exclude(&waited);
        assert_eq!(offsets.any_run(), Some(&"b".to_owned()));
        assert_eq!(required(&unapplied), [(6, a_run("b")), (9, None)]);
        let offsets = unapplied.entry((0, 0)).or_default();
        let waited = offsets.clone();
        offsets.exclude(&waited);
        assert!(offsets.is_empty());
    }
}
