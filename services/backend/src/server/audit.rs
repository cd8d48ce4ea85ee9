//! The audit log of calls. Entries are made where calls end, around all services, so that no handler can forget an
//! entry: the edge names the caller, and a handler names the resource. Without access control no caller is
//! known, and nothing is logged.

use std::{
    fmt::{self, Display},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use matyan_access::{AccessToken, is_about_instance, is_audited, is_audited_if_named, rpc_name};
use matyan_model::audit::{AuditEntry, AuditPosition, audit_put};
use matyan_proto::status_name;
use matyan_store::Batch;
use matyan_wire::headers::{CALLER, CLIENT_ADDRESS, CREDENTIAL, PROJECT, REQUEST_ID};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, Request, Response},
    },
};
use tracing::Instrument as _;

use super::{
    deps::Deps,
    error::truncated,
    failure_budget::{FailureBudget, is_limited},
    stream::Streams,
};

/// Longest name of the resource of a call. A batch may name thousands of runs.
const RESOURCE_BYTES: usize = 1_024;

/// Longest texts that the edge passes on.
const HEADER_BYTES: usize = 256;

tokio::task_local! {
    static NOTES: Arc<Mutex<CallNotes>>;
}

/// Notes of the handler of the current call for its entry.
#[derive(Default)]
struct CallNotes {
    /// The resource of the call.
    resource: String,
    /// Whether the call has changed nothing, although it succeeds.
    is_without_effect: bool,
}

/// Runs that a call is about.
pub(crate) struct RunList<'r>(pub(crate) &'r [String]);

impl Display for RunList<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} runs:", self.0.len())?;
        self.0.iter().try_for_each(|run_id| write!(formatter, " {run_id}"))
    }
}

/// Names the resource of the current call, for its entry in the audit log. Only a call that has an entry formats the name.
/// Some calls have an entry only if their resource is named. Their handlers name it just before they change something.
/// The name may be from the client, and be refused afterwards.
pub(crate) fn audit_resource(resource: impl Display) {
    let masked = || truncated(AccessToken::masked(&resource.to_string()), RESOURCE_BYTES);
    // Calls without an entry have none.
    let _ = NOTES.try_with(|notes| notes.lock().resource = masked());
}

/// Notes that the current call has changed nothing, although it succeeds, such as the deletion of a run that is deleted
/// already. Such a call can be repeated as often as its caller likes, so few of one principal have an entry.
pub(crate) fn audit_no_effect() {
    // Calls without an entry have none.
    let _ = NOTES.try_with(|notes| notes.lock().is_without_effect = true);
}

/// Writes an entry to the log of the process.
pub(crate) fn write_audit_line(entry: &AuditEntry) {
    let AuditEntry { principal, credential, address, project, rpc, resource, code, request_id, .. } = entry;
    let outcome = status_name(*code);
    tracing::info!(target: "audit", principal, credential, address, project, rpc, resource, outcome, request_id, "call");
}

/// Writes the audit log. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog {
    deps: Arc<Deps>,
    /// Runs the tasks that write entries.
    tasks: Streams,
    failures: Arc<FailureBudget>,
}

/// A call that ends, or an attempt to sign in, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct AuditEvent {
    /// Empty if it is unknown.
    pub principal: String,
    /// Id of the token; empty if there is none.
    pub credential: String,
    pub address: String,
    pub project: Option<String>,
    pub rpc: String,
    pub resource: String,
    pub request_id: String,
}

impl AuditLog {
    pub(crate) fn new(deps: Arc<Deps>, tasks: Streams) -> Self {
        Self { deps, tasks, failures: Arc::default() }
    }

    /// Wraps all services of a process.
    pub fn observe<S>(&self, service: S) -> Audited<S> {
        Audited { service, log: self.clone() }
    }

    /// The entry of an event that ends now.
    fn entry(&self, event: AuditEvent, code: Code) -> AuditEntry {
        let AuditEvent { principal, credential, address, project, rpc, resource, request_id } = event;
        let position = AuditPosition { time_us: (self.deps.clock)(), id: (self.deps.new_id)() };
        let code = code as i32;
        AuditEntry { position, principal, credential, address, project, rpc, resource, code, request_id }
    }

    /// Writes an entry, to the store and to the log of the process. A failure is only reported, because the call is
    /// over.
    pub async fn write(&self, event: AuditEvent, code: Code) {
        let entry = self.entry(event, code);
        write_audit_line(&entry);
        let mut batch = Batch::default();
        audit_put(&mut batch, &entry);
        if let Err(error) = self.deps.store.commit(batch).await {
            tracing::error!(target: "audit", %error, "failed to write an entry of the audit log to the store");
        }
    }
}

/// Services whose calls are in the audit log.
#[derive(Clone)]
pub struct Audited<S> {
    service: S,
    log: AuditLog,
}

impl<S> Service<Request<Body>> for Audited<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let open = OpenCall::begin(&self.log, &request);
        let answered = self.service.call(request);
        match open {
            Some(open) => Box::pin(open.follow(answered)),
            None => Box::pin(answered),
        }
    }
}

/// A call that gets an entry when it ends.
struct OpenCall {
    log: AuditLog,
    /// `None` after the end.
    event: Option<AuditEvent>,
    notes: Arc<Mutex<CallNotes>>,
}

impl OpenCall {
    /// `None` for a call without an entry.
    fn begin(log: &AuditLog, request: &Request<Body>) -> Option<Self> {
        let path = request.uri().path();
        let headers = request.headers();
        // The edge names the caller if, and only if, access control is on.
        if !is_audited(path) || !headers.contains_key(CALLER) {
            return None;
        }
        let project = (!is_about_instance(path)).then(|| text(headers, PROJECT));
        let event = AuditEvent {
            principal: text(headers, CALLER),
            credential: text(headers, CREDENTIAL),
            address: text(headers, CLIENT_ADDRESS),
            project,
            rpc: rpc_name(path).to_owned(),
            resource: String::new(),
            request_id: text(headers, REQUEST_ID),
        };
        Some(Self { log: log.clone(), event: Some(event), notes: Arc::default() })
    }

    /// Waits for the response, and writes the entry before the client sees it. A stream counts as done when it begins.
    async fn follow<E>(
        mut self,
        answered: impl Future<Output = Result<Response<Body>, E>>,
    ) -> Result<Response<Body>, E> {
        let answered = NOTES.scope(self.notes.clone(), answered).await;
        let status = match &answered {
            Ok(response) => {
                Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(String::new()))
            }
            Err(_) => Status::unavailable(String::new()),
        };
        if let Some(written) = self.end(&status) {
            // An error means that the task has panicked, which is in the log.
            let _ = written.await;
        }
        answered
    }

    /// Writes the entry in a task of the server, which a client that leaves now does not end. The receiver waits for it.
    fn end(&mut self, status: &Status) -> Option<oneshot::Receiver<()>> {
        let CallNotes { resource, is_without_effect } = std::mem::take(&mut *self.notes.lock());
        let event = self.event.take().map(|event| AuditEvent { resource, ..event })?;
        if event.resource.is_empty() && is_audited_if_named(&event.rpc) {
            return None;
        }
        let code = status.code();
        let is_limited = is_without_effect || is_limited(status);
        if is_limited && !self.log.failures.admit(&event.principal) {
            // A call that its client has abandoned may have had its effect, so the log of the process has it in any case.
            if code == Code::Cancelled {
                write_audit_line(&self.log.entry(event, code));
            }
            return None;
        }
        let log = self.log.clone();
        let (written, end) = oneshot::channel();
        let task = async move {
            log.write(event, code).await;
            // The receiver is dropped if the client has left.
            let _ = written.send(());
        };
        self.log.tasks.spawn(|_| task.in_current_span());
        Some(end)
    }
}

impl Drop for OpenCall {
    /// A call that its client has abandoned may have had its effect.
    fn drop(&mut self) {
        // Outside of the runtime, the process is ending.
        if Handle::try_current().is_ok() {
            drop(self.end(&Status::cancelled(String::new())));
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    truncated(value.to_owned(), HEADER_BYTES)
}
