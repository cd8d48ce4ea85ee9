//! The audit log of calls. Entries are made where calls end, around all services, so that no handler can forget an
//! entry: the edge says who calls, and a handler adds what its call is about. Without access control no caller is
//! known, and nothing is logged.

use std::{
    fmt::Display,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use matyan_access::AccessToken;
use matyan_model::audit::{AuditEntry, AuditPosition, audit_put};
use matyan_proto::{accesses, common::v1::Access, status_name};
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

use super::{deps::Deps, stream::Streams};

/// The package of every service of this product.
const PACKAGE: &str = "/matyan.";

/// The service of backups.
const BACKUP: &str = "/matyan.backup.v1.BackupService/";

/// Calls with an entry: everything with side effects for which a caller must manage a project or operate the instance,
/// deletions of runs, and the two calls with which a backup begins. Sorted.
const AUDITED: [&str; 25] = [
    "access.v1.AccessService/CreateToken",
    "access.v1.AccessService/CreateTokenEverywhere",
    "access.v1.AccessService/Grant",
    "access.v1.AccessService/GrantEverywhere",
    "access.v1.AccessService/RemovePrincipal",
    "access.v1.AccessService/Revoke",
    "access.v1.AccessService/RevokeAnyToken",
    "access.v1.AccessService/RevokeEverywhere",
    "access.v1.AccessService/RevokeToken",
    "admin.v1.AdminService/CleanupOrphanBlobs",
    "admin.v1.AdminService/CleanupTombstones",
    "admin.v1.AdminService/DeleteParkedItems",
    "admin.v1.AdminService/FinishStale",
    "admin.v1.AdminService/ParkRun",
    "admin.v1.AdminService/Reindex",
    "admin.v1.AdminService/ResumeRun",
    "admin.v1.AdminService/SkipLostRecords",
    "backup.v1.BackupService/FinishRun",
    "backup.v1.BackupService/ListRuns",
    "backup.v1.BackupService/ReadProject",
    "backup.v1.BackupService/RestoreProject",
    "project.v1.ProjectService/Create",
    "project.v1.ProjectService/Delete",
    "project.v1.ProjectService/Update",
    "runs.v1.RunService/ClearTombstone",
];

/// The same for calls that an editor may make.
const AUDITED_DELETIONS: [&str; 4] = [
    "runs.v1.RunService/BinBatch",
    "runs.v1.RunService/Delete",
    "runs.v1.RunService/DeleteBatch",
    "runs.v1.RunService/RestoreBatch",
];

/// Longest text of what a call is about. A batch may name thousands of runs.
const RESOURCE_BYTES: usize = 1_024;

/// Longest texts that the edge passes on.
const HEADER_BYTES: usize = 256;

tokio::task_local! {
    /// What the current call is about.
    static RESOURCE: Arc<Mutex<String>>;
}

/// Says what the current call is about, for its entry in the audit log, if it has one. The text may be from the client,
/// and be refused afterwards.
pub(crate) fn audit_resource(resource: impl Display) {
    let masked = || bounded(AccessToken::masked(&resource.to_string()), RESOURCE_BYTES);
    // Calls without an entry have none.
    let _ = RESOURCE.try_with(|noted| *noted.lock() = masked());
}

fn bounded(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}

/// Writes the audit log. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog {
    deps: Arc<Deps>,
    /// Runs the tasks that write entries.
    tasks: Streams,
}

/// What is known of a call, or of someone who signs in, when it ends.
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
        Self { deps, tasks }
    }

    /// Wraps all services of a process.
    pub fn observe<S>(&self, service: S) -> Audited<S> {
        Audited { service, log: self.clone() }
    }

    /// Writes an entry, to the store and to the log of the process. A failure is reported: what the entry is about has
    /// happened already.
    pub async fn write(&self, event: AuditEvent, code: Code) {
        let AuditEvent { principal, credential, address, project, rpc, resource, request_id } = event;
        let outcome = status_name(code as i32);
        tracing::info!(target: "audit", principal, credential, address, project, rpc, resource, outcome, request_id, "call");
        let position = AuditPosition { time_us: (self.deps.clock)(), id: (self.deps.new_id)() };
        let code = code as i32;
        let entry =
            AuditEntry { position, principal, credential, address, project, rpc, resource, code, request_id };
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
    resource: Arc<Mutex<String>>,
}

impl OpenCall {
    /// `None` for a call without an entry.
    fn begin(log: &AuditLog, request: &Request<Body>) -> Option<Self> {
        let path = request.uri().path();
        let rpc = path.strip_prefix(PACKAGE)?;
        let is_audited = AUDITED.binary_search(&rpc).is_ok() || AUDITED_DELETIONS.contains(&rpc);
        let headers = request.headers();
        // The edge names the caller if, and only if, access control is on.
        if !is_audited || !headers.contains_key(CALLER) {
            return None;
        }
        let project = (!is_of_instance(path)).then(|| text(headers, PROJECT));
        let event = AuditEvent {
            principal: text(headers, CALLER),
            credential: text(headers, CREDENTIAL),
            address: text(headers, CLIENT_ADDRESS),
            project,
            rpc: rpc.to_owned(),
            resource: String::new(),
            request_id: text(headers, REQUEST_ID),
        };
        Some(Self { log: log.clone(), event: Some(event), resource: Arc::default() })
    }

    /// Waits for the response, and writes the entry before the client sees it. A stream counts as done when it begins.
    async fn follow<E>(
        mut self,
        answered: impl Future<Output = Result<Response<Body>, E>>,
    ) -> Result<Response<Body>, E> {
        let answered = RESOURCE.scope(self.resource.clone(), answered).await;
        let code = match &answered {
            Ok(response) => {
                Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
            }
            Err(_) => Code::Unavailable,
        };
        if let Some(written) = self.end(code) {
            // An error means that the task has panicked, which is in the log.
            let _ = written.await;
        }
        answered
    }

    /// Writes the entry in a task of the server, which a client that leaves now does not end. The receiver waits for it.
    fn end(&mut self, code: Code) -> Option<oneshot::Receiver<()>> {
        let resource = std::mem::take(&mut *self.resource.lock());
        let event = self.event.take().map(|event| AuditEvent { resource, ..event })?;
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
            drop(self.end(Code::Cancelled));
        }
    }
}

/// Whether a call is about no project in particular. A backup needs an operator, but is about a project.
fn is_of_instance(path: &str) -> bool {
    let found = accesses::ALL.binary_search_by_key(&path, |(path, _)| path);
    found.is_ok_and(|found| accesses::ALL[found].1 == Access::Operate) && !path.starts_with(BACKUP)
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    bounded(value.to_owned(), HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use matyan_proto::DESCRIPTORS;
    use prost_reflect::DescriptorPool;

    use super::*;

    /// Calls of operators that have no entry, and why.
    const NOT_AUDITED: [&str; 3] = [
        // Parts of the restore of a run, which is invisible before `FinishRun`. There may be thousands for one run.
        "backup.v1.BackupService/BeginRun",
        "backup.v1.BackupService/WriteBlob",
        "backup.v1.BackupService/WriteRun",
    ];

    /// Calls that change nothing and have an entry. `ReadRun` and `ReadBlob` have none: there are thousands in a backup,
    /// and what they read is what the other services return to everyone who may read the project.
    const AUDITED_READS: [&str; 2] =
        ["backup.v1.BackupService/ListRuns", "backup.v1.BackupService/ReadProject"];

    #[test]
    fn rule_80_no_call_that_manages_or_operates_is_left_out() {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let mut expected = Vec::new();
        for (path, access) in &accesses::ALL {
            let rpc = path.strip_prefix(PACKAGE).unwrap();
            let (service, method) = rpc.split_once('/').unwrap();
            let service = pool.get_service_by_name(&format!("matyan.{service}")).unwrap();
            let method = service.methods().find(|it| it.name() == method).unwrap();
            let options = method.method_descriptor_proto().options.clone().unwrap();
            // NO_SIDE_EFFECTS
            let reads = options.idempotency_level == Some(1);
            let is_kept = matches!(access, Access::Manage | Access::Operate) && !reads;
            if is_kept && !NOT_AUDITED.contains(&rpc) || AUDITED_READS.contains(&rpc) {
                expected.push(rpc);
            }
        }
        assert_eq!(AUDITED.to_vec(), expected);
        assert!(AUDITED.is_sorted());
        for rpc in AUDITED_DELETIONS {
            assert!(accesses::ALL.iter().any(|(path, _)| *path == format!("{PACKAGE}{rpc}")), "{rpc}");
        }
    }

    #[test]
    fn calls_of_operators_are_about_no_project_except_backups() {
        for (rpc, expected) in [
            ("access.v1.AccessService/GrantEverywhere", true),
            ("project.v1.ProjectService/Create", true),
            ("access.v1.AccessService/Grant", false),
            ("backup.v1.BackupService/ReadProject", false),
            ("backup.v1.BackupService/RestoreProject", false),
        ] {
            assert!(AUDITED.contains(&rpc), "{rpc}");
            assert_eq!(is_of_instance(&format!("{PACKAGE}{rpc}")), expected, "{rpc}");
        }
    }

    #[test]
    fn texts_of_entries_are_bounded() {
        assert_eq!(bounded("ä".repeat(10), 4), "ää…");
        assert_eq!(bounded("short".to_owned(), 5), "short");
    }
}
