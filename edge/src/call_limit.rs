//! A limit on the requests of a port, from their first byte to the end of their response: each holds some
//! 18 kB, even if its client neither sends nor reads anything. Calls that hold an open blob have a second,
//! lower limit, because the store, the log and new connections need files as well. Searches, exports and charts also
//! have a second limit, because they read many rows for one answer. A last limit counts the bytes of large answers; see
//! `answer_budget`. All limits count by principal, or by network for clients that have shown no credential. So does the
//! limit on WebSockets, in `ws.rs`. Health checks have their own limit.

use std::fmt::{self, Display};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use matyan_access::{CallClient, CallOrigin, Caller, Refusal, RequestAnswer, ShareLimit, SharePermit};
use matyan_proto::common::v1::Code as ProductCode;
use tonic::Status;

use crate::error::refusal_status;
use crate::peer_network::PeerNetwork;
use crate::settings::Settings;

/// Maximum number of questions about the health of the server at a time, which other requests leave free.
const MAX_PROBES: usize = 256;

/// Methods whose calls hold an open blob, except for thumbnails: only a few of them are made at a time.
const BLOB_METHODS: [&str; 8] = [
    "/matyan.ingest.v1.IngestService/Store",
    "/matyan.ingest.v1.IngestService/Upload",
    "/matyan.backup.v1.BackupService/ReadBlob",
    "/matyan.backup.v1.BackupService/WriteBlob",
    "/matyan.artifacts.v1.ArtifactService/Get",
    "/matyan.artifacts.v1.ArtifactService/Zip",
    "/matyan.artifacts.v1.ArtifactService/Payload",
    "/matyan.artifacts.v1.ArtifactService/Blobs",
];

/// Methods whose calls read many rows for one answer. Calls that wait for changes are not among them: every open
/// page holds one.
const SEARCH_METHODS: [&str; 13] = [
    "/matyan.export.v1.ExportService/Metrics",
    "/matyan.export.v1.ExportService/Objects",
    "/matyan.export.v1.ExportService/Runs",
    "/matyan.objects.v1.ObjectService/Batch",
    "/matyan.search.v1.SearchService/Groups",
    "/matyan.search.v1.SearchService/Metrics",
    "/matyan.search.v1.SearchService/Objects",
    "/matyan.search.v1.SearchService/Runs",
    "/matyan.series.v1.SeriesService/Align",
    "/matyan.series.v1.SeriesService/Bands",
    "/matyan.series.v1.SeriesService/Buckets",
    "/matyan.series.v1.SeriesService/Points",
    "/matyan.series.v1.SeriesService/Sample",
];

const BLOB_CALLS: &str = "uploads and downloads";
const SEARCHES: &str = "searches, exports and charts";
const LARGE_ANSWERS: &str = "large answers";
const WAITING_ANSWERS: &str = "large answers that wait for memory";

/// Large answers that wait may take a quarter of the memory that answers being sent may take.
const WAITING_DIVISOR: usize = 4;

/// Time for which a large answer waits until others have been read: few clients repeat a call that was refused.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Bytes that any answer may hold: the permit of its request limits these.
const SMALL_ANSWER_BYTES: usize = 256 << 10;

/// The limits of a port. Clones share their state.
#[derive(Clone)]
pub(crate) struct CallLimit {
    requests: ShareLimit<Client>,
    probes: ShareLimit<Client>,
    blob_calls: ShareLimit<Client>,
    searches: ShareLimit<Client>,
    /// Bytes of large answers that are sent.
    answers: ShareLimit<Client>,
    /// Bytes of large answers that wait until others have been read.
    waiting_answers: ShareLimit<Client>,
}

/// The limits that a request and its calls count for, and the client that they count for.
#[derive(Clone)]
pub(crate) struct Payer {
    limit: CallLimit,
    client: Option<Client>,
    /// The answer to the request.
    answer: RequestAnswer,
}

/// The client that requests and calls count for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Network(PeerNetwork),
    Principal(Arc<str>),
}

/// Counts a request, a call or a WebSocket until it is dropped.
pub(crate) type Permit = SharePermit<Client>;

tokio::task_local! {
    static PAYER: Payer;
}

impl CallLimit {
    pub(crate) fn new(settings: &Settings) -> Self {
        CallLimit {
            requests: ShareLimit::new("calls", settings.max_calls),
            probes: ShareLimit::new("probes", MAX_PROBES),
            blob_calls: ShareLimit::new(BLOB_CALLS, settings.max_blob_calls),
            searches: ShareLimit::new(SEARCHES, settings.max_searches),
            answers: ShareLimit::new(LARGE_ANSWERS, settings.answer_bytes),
            waiting_answers: ShareLimit::new(WAITING_ANSWERS, settings.answer_bytes / WAITING_DIVISOR),
        }
    }

    /// The payer of a request from this network.
    pub(crate) fn payer(&self, network: Option<PeerNetwork>) -> Payer {
        Payer { limit: self.clone(), client: network.map(Client::Network), answer: RequestAnswer::default() }
    }
}

impl Client {
    /// The principal of a call, or its network if it has shown no credential.
    pub(crate) fn of(caller: Option<&Caller>, network: Option<PeerNetwork>) -> Option<Self> {
        match caller.filter(|caller| !caller.is_anonymous()) {
            Some(caller) => Some(Client::Principal(caller.name().into())),
            None => network.map(Client::Network),
        }
    }
}

impl Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Network(network) => network.fmt(formatter),
            Client::Principal(name) => name.fmt(formatter),
        }
    }
}

impl Payer {
    /// Returns a permit for the request.
    pub(crate) fn admit_request(&self, is_probe: bool) -> Result<Permit, Status> {
        let limit = if is_probe { &self.limit.probes } else { &self.limit.requests };
        limit.admit(self.client.clone()).map_err(|refusal| refused(refusal, self.client.as_ref(), "calls"))
    }

    /// The payer once its principal is known. The permit of its request counts for the principal from then on.
    pub(crate) fn of_principal(self, name: &str, permit: Permit) -> Result<(Self, Permit), Status> {
        let client = Client::Principal(name.into());
        let permit = permit.transfer(client.clone());
        let permit = permit.map_err(|refusal| refused(refusal, Some(&client), "calls"))?;
        Ok((Payer { client: Some(client), ..self }, permit))
    }

    /// Returns a permit for this many bytes of an answer, which waits for them if as much memory is left for waiting.
    async fn admit_answer(&self, bytes: u32) -> Result<Permit, Refusal> {
        let CallLimit { answers, waiting_answers, .. } = &self.limit;
        if let Ok(permit) = answers.try_admit(self.client.as_ref(), bytes) {
            return Ok(permit);
        }
        let waiting_bytes = bytes.min(permits(waiting_answers.most_of_client()));
        let _waiting = waiting_answers.admit_many(self.client.clone(), waiting_bytes)?;
        answers.admit_many_within(ANSWER_WAIT, self.client.clone(), bytes).await
    }

    /// Does the work of the request.
    pub(crate) async fn enclose<T>(self, work: impl Future<Output = T>) -> T {
        PAYER.scope(self, work).await
    }
}

/// Returns a permit for a call by the current request; `None` for a method without its own limit.
pub(crate) fn admit_call(path: &str) -> Result<Option<Permit>, Status> {
    let is_blob_call = BLOB_METHODS.contains(&path);
    if !is_blob_call && !SEARCH_METHODS.contains(&path) {
        return Ok(None);
    }
    let Ok(payer) = PAYER.try_with(Payer::clone) else { return Ok(None) };
    let (limit, what) =
        if is_blob_call { (&payer.limit.blob_calls, BLOB_CALLS) } else { (&payer.limit.searches, SEARCHES) };
    let permit = limit.admit(payer.client.clone());
    permit.map(Some).map_err(|refusal| refused(refusal, payer.client.as_ref(), what))
}

/// Returns a permit for an answer of this many bytes to the current request, after a wait if necessary;
/// `None` for a small answer.
pub(crate) async fn admit_answer(bytes: usize) -> Result<Option<Permit>, Status> {
    let counted = bytes.saturating_sub(SMALL_ANSWER_BYTES);
    if counted == 0 {
        return Ok(None);
    }
    let Ok(payer) = PAYER.try_with(Payer::clone) else { return Ok(None) };
    // A larger answer would be refused for ever. It waits until nothing else is held for its client.
    let counted = counted.min(payer.limit.answers.most_of_client());
    let permit = payer.admit_answer(permits(counted)).await;
    permit.map(Some).map_err(|refusal| refused(refusal, payer.client.as_ref(), LARGE_ANSWERS))
}

/// The origin of calls by the current request.
pub(crate) fn call_origin() -> CallOrigin {
    let Ok(payer) = PAYER.try_with(Payer::clone) else { return CallOrigin::default() };
    let client = payer.client.map(|client| match client {
        Client::Principal(name) => CallClient::new(name),
        Client::Network(network) => CallClient::new(network.to_string()),
    });
    CallOrigin { client, answer: payer.answer }
}

/// The number of permits for this many bytes.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The status of a refusal. `what` is limited, in the plural.
pub(crate) fn refused(refusal: Refusal, client: Option<&Client>, what: &str) -> Status {
    let message = match refusal {
        Refusal::Full => format!("the server accepts no more {what} at the moment: try again"),
        Refusal::ClientFull => {
            let who = match client {
                Some(Client::Principal(name)) => format!("`{name}`"),
                Some(Client::Network(_)) | None => "your address".to_owned(),
            };
            format!("{who} has as many {what} open as one may have: end some of them, or try again")
        }
    };
    refusal_status(ProductCode::Unavailable, message, &[])
}

/// Keeps the permit until the response ends.
pub(crate) fn hold<B: HttpBody>(
    response: Response<B>,
    permit: Option<Permit>,
    wrap: fn(CountedBody<B>) -> B,
) -> Response<B> {
    let Some(permit) = permit.filter(|_| !response.body().is_end_stream()) else { return response };
    response.map(|body| wrap(CountedBody { body, permit: Some(permit) }))
}

pub(crate) struct CountedBody<B> {
    body: B,
    /// `None` after the end.
    permit: Option<Permit>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.permit = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use matyan_proto::{accesses, common::v1::Access};

    use super::*;
    use crate::methods;

    /// Streaming methods of readers that need only the permit of their request.
    const NO_SEARCHES: [&str; 24] = [
        // They wait for changes.
        "/matyan.live.v1.LiveService/Subscribe",
        "/matyan.runs.v1.RunService/Watch",
        "/matyan.search.v1.SearchService/WatchRuns",
        "/matyan.series.v1.SeriesService/Follow",
        // They read one run, or runs that the request names.
        "/matyan.artifacts.v1.ArtifactService/List",
        "/matyan.logs.v1.LogService/Lines",
        "/matyan.logs.v1.LogService/Records",
        "/matyan.notes.v1.NoteService/List",
        "/matyan.objects.v1.ObjectService/Step",
        "/matyan.runs.v1.RunService/BatchGet",
        "/matyan.series.v1.SeriesService/List",
        // They list what people have made, or the runs that people have put into one list.
        "/matyan.apps.v1.AppService/List",
        "/matyan.dashboards.v1.DashboardService/List",
        "/matyan.documents.v1.DocumentService/List",
        "/matyan.experiments.v1.ExperimentService/List",
        "/matyan.experiments.v1.ExperimentService/ListRuns",
        "/matyan.reports.v1.ReportService/List",
        "/matyan.runs.v1.RunService/ListBin",
        "/matyan.studies.v1.StudyService/List",
        "/matyan.studies.v1.StudyService/ListAttributes",
        // Many workers of one principal read what has changed in their study, in short calls.
        "/matyan.studies.v1.StudyService/ListTrials",
        "/matyan.tags.v1.TagService/List",
        "/matyan.tags.v1.TagService/ListRuns",
        // All callers share one cached answer.
        "/matyan.project.v1.ProjectService/Params",
    ];

    #[test]
    fn methods_with_limits_of_their_own_exist() {
        for path in BLOB_METHODS.into_iter().chain(SEARCH_METHODS) {
            assert!(methods::find(path).is_some(), "there is no method {path}");
        }
    }

    /// A new method that answers readers with a stream belongs in one of the lists.
    #[test]
    fn each_stream_for_readers_has_a_limit_or_a_reason_for_none() {
        let is_for_readers = |path: &str| {
            methods::find(path).is_some_and(|it| it.is_server_streaming && it.access == Access::Read)
        };
        let paths: BTreeSet<_> = accesses::ALL.iter().map(|(path, _)| *path).collect();
        let listed: Vec<_> = NO_SEARCHES.into_iter().chain(SEARCH_METHODS).chain(BLOB_METHODS).collect();
        let unlisted: Vec<_> = paths.iter().filter(|it| is_for_readers(it) && !listed.contains(it)).collect();
        assert_eq!(unlisted, [&""; 0]);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a method is listed twice");
        let outdated: Vec<_> = NO_SEARCHES.into_iter().filter(|path| !is_for_readers(path)).collect();
        assert_eq!(outdated, [""; 0]);
    }
}
