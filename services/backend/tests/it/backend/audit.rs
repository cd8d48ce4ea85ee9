//! The audit log: an entry for each call that changes rights or deletes something.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt,
    future::pending,
    sync::Arc,
};

use futures::FutureExt as _;
use matyan_access::{BrowserSecret, SecretKind, is_audited};
use matyan_proto::{
    access::v1::{
        AuditEntry, AuditFilter, CreateLinkRequest, CreateTokenRequest, GrantRequest, ListAllEntriesRequest,
        ListEntriesRequest, ListEntriesResponse, RevokeLinkRequest, RevokeRequest, RevokeTokenRequest, Role,
        access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
    },
    accesses,
    apps::v1::{DeleteRequest as DeleteApp, app_service_client::AppServiceClient},
    artifacts::v1::{DeleteRequest as DeleteArtifact, artifact_service_client::ArtifactServiceClient},
    backup::v1::{
        BeginRunRequest, FinishRunRequest, ListRunsRequest, RunHead,
        backup_service_client::BackupServiceClient,
    },
    common::v1::{Access, SeriesKey, SeriesType, StepRange},
    dashboards::v1::{DeleteRequest as DeleteDashboard, dashboard_service_client::DashboardServiceClient},
    documents::v1::{DeleteRequest as DeleteDocument, document_service_client::DocumentServiceClient},
    experiments::v1::{
        DeleteRequest as DeleteExperiment, experiment_service_client::ExperimentServiceClient,
    },
    notes::v1::{
        DeleteRequest as DeleteNote, Owner, note_service_client::NoteServiceClient, owner::Kind as OwnerKind,
    },
    project::v1::{DeleteRequest as DeleteProject, project_service_client::ProjectServiceClient},
    reports::v1::{DeleteRequest as DeleteReport, report_service_client::ReportServiceClient},
    runs::v1::{
        BinBatchRequest, DeleteBatchRequest, DeleteParamsRequest, DeleteRequest, GetRequest, ParamPath,
        RestoreBatchRequest, run_service_client::RunServiceClient,
    },
    series::v1::{
        DeleteRequest as DeleteSeries, DeleteStepsRequest, series_service_client::SeriesServiceClient,
    },
    studies::v1::{DeleteRequest as DeleteStudy, study_service_client::StudyServiceClient},
    tags::v1::{DeleteRequest as DeleteTag, tag_service_client::TagServiceClient},
};
use parking_lot::Mutex;
use tonic::{Code, Request, body::Body};
use tower::service_fn;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::with_default,
};

use crate::backend::{
    harness::{Harness, all},
    projects::of,
};

/// A request as an edge with access control passes it on.
fn from<T>(principal: &str, project: &str, message: T) -> Request<T> {
    let mut request = of(project, message);
    for (name, value) in [
        ("matyan-caller", principal),
        ("matyan-credential", "0123456789abcdef"),
        ("matyan-client-address", "10.0.0.7"),
        ("x-request-id", "request-1"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// The entries of a project, oldest first.
async fn entries(harness: &Harness, project: &str) -> Vec<AuditEntry> {
    let mut audit = AuditServiceClient::new(harness.routes());
    let request = from("bo", project, ListEntriesRequest::default());
    let mut entries = audit.list_entries(request).await.unwrap().into_inner().entries;
    entries.reverse();
    entries
}

/// Calls, what they were about, and their outcomes.
fn shown(entries: &[AuditEntry]) -> Vec<(&str, &str, &str)> {
    let shown = entries.iter().map(|entry| {
        let rpc = entry.rpc.rsplit('.').next().unwrap();
        (rpc, entry.resource.as_str(), entry.outcome.as_str())
    });
    shown.collect()
}

#[tokio::test]
async fn rule_80_each_change_of_rights_has_an_entry() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    let mut access = AccessServiceClient::new(harness.audited());
    let grant = |role: Role| GrantRequest { principal: "ana".to_owned(), role: role.into() };
    access.grant(from("bo", "speech", grant(Role::Editor))).await.unwrap();
    access.grant(from("bo", "speech", grant(Role::Operator))).await.unwrap_err();
    let new = CreateTokenRequest { principal: "ana".to_owned(), ..CreateTokenRequest::default() };
    let token = access.create_token(from("bo", "speech", new)).await.unwrap().into_inner();
    let id = token.token.unwrap().id;
    access.revoke_token(from("bo", "speech", RevokeTokenRequest { id: id.clone() })).await.unwrap();
    // People paste tokens where ids belong.
    let pasted = RevokeTokenRequest { id: token.secret.clone() };
    access.revoke_token(from("bo", "speech", pasted)).await.unwrap_err();
    let link = CreateLinkRequest { principal: "ana".to_owned(), ..CreateLinkRequest::default() };
    let link = access.create_link(from("bo", "speech", link)).await.unwrap().into_inner();
    let link_id = BrowserSecret::parse(SecretKind::Link, &link.secret).unwrap().digest().id();
    access.revoke_link(from("bo", "speech", RevokeLinkRequest { id: link_id.clone() })).await.unwrap();
    let pasted = RevokeLinkRequest { id: link.secret.clone() };
    access.revoke_link(from("bo", "speech", pasted)).await.unwrap_err();
    let revoke = RevokeRequest { principal: "cy".to_owned() };
    assert_eq!(
        access.revoke(from("bo", "speech", revoke)).await.unwrap_err().code(),
        Code::NotFound,
        "the principal has no role"
    );
    let entries = entries(&harness, "speech").await;
    let about = format!("ana token {id}");
    let about_link = format!("ana link {link_id}");
    assert_eq!(
        shown(&entries),
        [
            ("AccessService/Grant", "ana editor", "OK"),
            ("AccessService/Grant", "ana operator", "INVALID_ARGUMENT"),
            ("AccessService/CreateToken", about.as_str(), "OK"),
            ("AccessService/RevokeToken", about.as_str(), "OK"),
            ("AccessService/RevokeToken", "token mtk_…", "NOT_FOUND"),
            ("AccessService/CreateLink", about_link.as_str(), "OK"),
            ("AccessService/RevokeLink", about_link.as_str(), "OK"),
            ("AccessService/RevokeLink", "link mtl_…", "NOT_FOUND"),
            ("AccessService/Revoke", "cy", "NOT_FOUND"),
        ]
    );
    let AuditEntry { principal, credential, address, project, request_id, .. } = &entries[0];
    assert_eq!((principal.as_str(), credential.as_str()), ("bo", "0123456789abcdef"));
    assert_eq!((address.as_str(), request_id.as_str()), ("10.0.0.7", "request-1"));
    assert_eq!(project.as_deref(), Some("speech"));
    for secret in [&token.secret, &link.secret] {
        assert!(!format!("{entries:?}").contains(secret), "an entry contains a secret");
    }
    harness.end().await;
}

#[tokio::test]
async fn rule_80_a_call_that_its_client_abandons_has_an_entry() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    let mut access = AccessServiceClient::new(harness.audited());
    let grant = GrantRequest { principal: "ana".to_owned(), role: Role::Editor.into() };
    // The call begins, and is dropped where it first waits.
    drop(access.grant(from("bo", "speech", grant)).now_or_never());
    let mut found = entries(&harness, "speech").await;
    while found.is_empty() {
        tokio::task::yield_now().await;
        found = entries(&harness, "speech").await;
    }
    assert_eq!(found.iter().map(|it| it.rpc.as_str()).collect::<Vec<_>>(), ["access.v1.AccessService/Grant"]);
    harness.end().await;
}

/// A client need not begin with the calls that the command line begins with.
#[tokio::test]
async fn rule_80_parts_of_a_backup_and_of_a_restore_have_entries() {
    let harness = Harness::new().await;
    let mut backup = BackupServiceClient::new(harness.audited());
    let begin = BeginRunRequest {
        run_id: "r".to_owned(),
        source: vec![5; 32].into(),
        created_us: 1,
        ..BeginRunRequest::default()
    };
    backup.begin_run(from("root", "", begin.clone())).await.unwrap();
    let BeginRunRequest { run_id, source, created_us, .. } = begin;
    let head = RunHead { run_id: run_id.clone(), created_us, ..RunHead::default() };
    let end = FinishRunRequest { run_id, source, head: Some(head), cut: None };
    backup.finish_run(from("root", "", end)).await.unwrap();
    let some = ListRunsRequest { run_ids: vec!["r".to_owned()], ..ListRunsRequest::default() };
    for request in [ListRunsRequest::default(), some] {
        all(backup.list_runs(from("root", "", request)).await.unwrap()).await;
    }
    let missing = ListRunsRequest { experiment: "e".to_owned(), ..ListRunsRequest::default() };
    backup.list_runs(from("root", "", missing)).await.unwrap_err();
    assert_eq!(
        shown(&entries(&harness, "").await),
        [
            ("BackupService/FinishRun", "r", "OK"),
            ("BackupService/ListRuns", "", "OK"),
            ("BackupService/ListRuns", "1 runs: r", "OK"),
            ("BackupService/ListRuns", "experiment e", "NOT_FOUND"),
        ]
    );
    harness.end().await;
}

/// Deletes entities and documents that do not exist.
async fn delete_entities(harness: &Harness) {
    let id = || "x".to_owned();
    let service = || harness.audited();
    AppServiceClient::new(service()).delete(from("ana", "", DeleteApp { id: id() })).await.unwrap_err();
    let dashboard = from("ana", "", DeleteDashboard { id: id() });
    DashboardServiceClient::new(service()).delete(dashboard).await.unwrap_err();
    let document = DeleteDocument { kind: "view".to_owned(), name: id(), if_updated_us: None };
    DocumentServiceClient::new(service()).delete(from("ana", "", document)).await.unwrap_err();
    let experiment = from("ana", "", DeleteExperiment { id: id() });
    ExperimentServiceClient::new(service()).delete(experiment).await.unwrap_err();
    let owner = Some(Owner { kind: Some(OwnerKind::RunId("missing".to_owned())) });
    let note = from("ana", "", DeleteNote { owner, id: id() });
    NoteServiceClient::new(service()).delete(note).await.unwrap_err();
    ReportServiceClient::new(service()).delete(from("ana", "", DeleteReport { id: id() })).await.unwrap_err();
    let study = from("ana", "", DeleteStudy { study_id: 7 });
    StudyServiceClient::new(service()).delete(study).await.unwrap_err();
    TagServiceClient::new(service()).delete(from("ana", "", DeleteTag { id: id() })).await.unwrap_err();
}

/// Deletes a run that does not exist, and parts of it.
async fn delete_parts_of_a_run(harness: &Harness) {
    let run_id = || "r".to_owned();
    let artifact = from("ana", "", DeleteArtifact { run_id: run_id(), path: "a/b".to_owned() });
    ArtifactServiceClient::new(harness.audited()).delete(artifact).await.unwrap_err();
    let mut series = SeriesServiceClient::new(harness.audited());
    let key = || Some(SeriesKey { name: "loss".to_owned(), context: "{}".to_owned() });
    let r#type = SeriesType::Metric.into();
    let deleted = DeleteSeries { run_id: run_id(), r#type, key: key(), ..DeleteSeries::default() };
    series.delete(from("ana", "", deleted)).await.unwrap_err();
    let steps = Some(StepRange { start: Some(1), stop: Some(2) });
    let deleted =
        DeleteStepsRequest { run_id: run_id(), r#type, key: key(), steps, ..DeleteStepsRequest::default() };
    series.delete_steps(from("ana", "", deleted)).await.unwrap_err();
    let mut runs = RunServiceClient::new(harness.audited());
    let path = ParamPath { segments: vec!["lr".to_owned(), "min".to_owned()] };
    let params = DeleteParamsRequest { run_id: run_id(), paths: vec![path] };
    runs.delete_params(from("ana", "", params)).await.unwrap_err();
    runs.delete(from("ana", "", DeleteRequest { run_id: run_id() })).await.unwrap_err();
    runs.delete_batch(from("ana", "", DeleteBatchRequest { run_ids: vec![run_id()] })).await.unwrap();
}

#[tokio::test]
async fn rule_80_each_deletion_says_what_it_deletes() {
    let harness = Harness::new().await;
    delete_entities(&harness).await;
    delete_parts_of_a_run(&harness).await;
    let entries = entries(&harness, "").await;
    let mut shown = shown(&entries);
    shown.sort_unstable();
    let expected = [
        ("AppService/Delete", "x", "NOT_FOUND"),
        ("ArtifactService/Delete", "r a/b", "NOT_FOUND"),
        ("DashboardService/Delete", "x", "NOT_FOUND"),
        ("DocumentService/Delete", "view x", "NOT_FOUND"),
        ("ExperimentService/Delete", "x", "NOT_FOUND"),
        ("NoteService/Delete", "x", "NOT_FOUND"),
        ("ReportService/Delete", "x", "NOT_FOUND"),
        ("RunService/Delete", "r", "NOT_FOUND"),
        ("RunService/DeleteBatch", "1 runs: r", "OK"),
        ("RunService/DeleteParams", "r params: lr.min", "NOT_FOUND"),
        ("SeriesService/Delete", "r loss {}", "NOT_FOUND"),
        ("SeriesService/DeleteSteps", "r loss {} steps 1..2", "NOT_FOUND"),
        ("StudyService/Delete", "study 7", "NOT_FOUND"),
        ("TagService/Delete", "x", "NOT_FOUND"),
    ];
    assert_eq!(shown, expected);
    // These are all deletions that editors may make.
    let is_deletion =
        |path: &str, access: Access| access == Access::Edit && is_audited(path) && path.contains("/Delete");
    let deletions = accesses::ALL.iter().filter(|(path, access)| is_deletion(path, *access));
    let deletions: BTreeSet<_> = deletions.map(|(path, _)| path.rsplit('.').next().unwrap()).collect();
    assert_eq!(shown.iter().map(|(rpc, _, _)| *rpc).collect::<BTreeSet<_>>(), deletions);
    harness.end().await;
}

#[tokio::test]
async fn rule_80_calls_that_changed_nothing_have_few_entries_for_each_principal() {
    let harness = Harness::new().await;
    let mut tags = TagServiceClient::new(harness.audited());
    for _ in 0..150 {
        tags.delete(from("ana", "", DeleteTag { id: "x".to_owned() })).await.unwrap_err();
    }
    tags.delete(from("bo", "", DeleteTag { id: "x".to_owned() })).await.unwrap_err();
    // A call that has an effect always has an entry.
    harness.create(&["r"]).await;
    let mut runs = RunServiceClient::new(harness.audited());
    runs.delete(from("ana", "", DeleteRequest { run_id: "r".to_owned() })).await.unwrap();
    let mut audit = AuditServiceClient::new(harness.routes());
    let request = ListEntriesRequest { page_size: 1_000, ..ListEntriesRequest::default() };
    let listed = audit.list_entries(from("bo", "", request)).await.unwrap().into_inner().entries;
    let count = |principal: &str, outcome: &str| {
        listed.iter().filter(|it| it.principal == principal && it.outcome == outcome).count()
    };
    assert_eq!([count("ana", "NOT_FOUND"), count("bo", "NOT_FOUND"), count("ana", "OK")], [100, 1, 1]);
    harness.end().await;
}

#[tokio::test]
async fn rule_80_deletions_that_delete_nothing_have_few_entries() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let mut runs = RunServiceClient::new(harness.audited());
    let ids = |id: &str| vec![id.to_owned()];
    for _ in 0..40 {
        let unknown = DeleteBatchRequest { run_ids: ids("unknown") };
        runs.delete_batch(from("ana", "", unknown)).await.unwrap();
        let unknown = BinBatchRequest { run_ids: ids("unknown") };
        runs.bin_batch(from("ana", "", unknown)).await.unwrap();
        let not_binned = RestoreBatchRequest { run_ids: ids("r") };
        runs.restore_batch(from("ana", "", not_binned)).await.unwrap();
        let path = ParamPath { segments: ids("missing") };
        let missing = DeleteParamsRequest { run_id: "r".to_owned(), paths: vec![path] };
        runs.delete_params(from("ana", "", missing)).await.unwrap();
    }
    // A call that has an effect always has an entry.
    runs.bin_batch(from("ana", "", BinBatchRequest { run_ids: ids("r") })).await.unwrap();
    runs.restore_batch(from("ana", "", RestoreBatchRequest { run_ids: ids("r") })).await.unwrap();
    // Only the first of these deletes the run.
    for _ in 0..3 {
        runs.delete(from("ana", "", DeleteRequest { run_id: "r".to_owned() })).await.unwrap();
        runs.delete_batch(from("ana", "", DeleteBatchRequest { run_ids: ids("r") })).await.unwrap();
    }
    let mut audit = AuditServiceClient::new(harness.routes());
    let request = ListEntriesRequest { page_size: 1_000, ..ListEntriesRequest::default() };
    let listed = audit.list_entries(from("bo", "", request)).await.unwrap().into_inner().entries;
    assert_eq!(listed.len(), 100 + 3);
    assert_eq!(
        shown(&listed[..3]),
        [
            ("RunService/Delete", "r", "OK"),
            ("RunService/RestoreBatch", "1 runs: r", "OK"),
            ("RunService/BinBatch", "1 runs: r", "OK"),
        ]
    );
    harness.end().await;
}

/// Keeps the lines for the audit log of the process, with their fields.
#[derive(Clone, Default)]
struct AuditLines(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

struct Fields<'f>(&'f mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for AuditLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "audit"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.0.lock().push(fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn rule_80_an_abandoned_call_without_an_entry_is_in_the_log_of_the_process() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    let audit = harness.audit_log();
    let mut tags = TagServiceClient::new(audit.observe(harness.routes()));
    // The last of these calls has no entry, and logs that there will be no more.
    for _ in 0..101 {
        tags.delete(from("bo", "speech", DeleteTag { id: "x".to_owned() })).await.unwrap_err();
    }
    let never = service_fn(|_: http::Request<Body>| pending::<Result<http::Response<Body>, Infallible>>());
    let mut access = AccessServiceClient::new(audit.observe(never));
    let grant = GrantRequest { principal: "ana".to_owned(), role: Role::Editor.into() };
    let abandoned = access.grant(from("bo", "speech", grant));
    let log = AuditLines::default();
    // The call begins, and is dropped while it waits for an answer.
    with_default(log.clone(), || assert!(abandoned.now_or_never().is_none()));
    let lines = std::mem::take(&mut *log.0.lock());
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let shown = ["principal", "rpc", "outcome"].map(|field| line[field].as_str());
    assert_eq!(shown, ["bo", "access.v1.AccessService/Grant", "CANCELLED"]);
    harness.end().await;
}

#[tokio::test]
async fn rule_80_owners_see_their_project_and_operators_all() {
    let harness = Harness::new().await;
    for project in ["speech", "vision"] {
        harness.create_project(project).await;
    }
    harness.create(&["r", "s"]).await;
    let mut runs = RunServiceClient::new(harness.audited());
    runs.delete(from("ana", "", DeleteRequest { run_id: "r".to_owned() })).await.unwrap();
    let batch = DeleteBatchRequest { run_ids: vec!["s".to_owned(), "t".to_owned()] };
    runs.delete_batch(from("ana", "", batch)).await.unwrap();
    // Reading has no entry, and neither has a call on a server that asks no one.
    runs.get(from("ana", "", GetRequest { run_id: "s".to_owned(), ..GetRequest::default() }))
        .await
        .unwrap_err();
    runs.delete(of("", DeleteRequest { run_id: "r".to_owned() })).await.unwrap();
    let mut projects = ProjectServiceClient::new(harness.audited());
    let name = "vision".to_owned();
    projects.delete(from("root", "vision", DeleteProject { name })).await.unwrap();

    assert_eq!(
        shown(&entries(&harness, "").await),
        [("RunService/Delete", "r", "OK"), ("RunService/DeleteBatch", "2 runs: s t", "OK")]
    );
    assert_eq!(entries(&harness, "speech").await, []);
    // No cursor leads to an entry of another project, or to its time.
    let cursor = format!("{}/z", i64::MAX);
    let any = ListEntriesRequest { page_size: 1, cursor, ..ListEntriesRequest::default() };
    let empty = AuditServiceClient::new(harness.routes()).list_entries(from("bo", "speech", any)).await;
    assert_eq!(empty.unwrap().into_inner(), ListEntriesResponse::default());
    let mut audit = AuditServiceClient::new(harness.routes());
    let list_all = |filter: AuditFilter, page_size, cursor: String| {
        from("root", "", ListAllEntriesRequest { filter: Some(filter), page_size, cursor })
    };
    let all = audit
        .list_all_entries(list_all(AuditFilter::default(), 0, String::new()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.next_cursor, "");
    let calls: Vec<_> = shown(&all.entries).into_iter().map(|(rpc, _, _)| rpc.to_owned()).collect();
    assert_eq!(calls, ["ProjectService/Delete", "RunService/DeleteBatch", "RunService/Delete"]);

    // Page by page, and filtered.
    let mut cursor = String::new();
    let mut paged = Vec::new();
    loop {
        let page =
            audit.list_all_entries(list_all(AuditFilter::default(), 1, cursor)).await.unwrap().into_inner();
        assert!(page.entries.len() <= 1);
        paged.extend(page.entries);
        cursor = page.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all.entries);
    let by_root = AuditFilter { principal: "root".to_owned(), ..AuditFilter::default() };
    let filtered = audit.list_all_entries(list_all(by_root, 0, String::new())).await.unwrap().into_inner();
    assert_eq!(filtered.entries.len(), 1);
    let wrong =
        audit.list_all_entries(list_all(AuditFilter::default(), 0, "x".to_owned())).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let wrong =
        audit.list_all_entries(list_all(AuditFilter::default(), 1_001, String::new())).await.unwrap_err();
    assert_eq!(wrong.code(), Code::ResourceExhausted);
    let long = format!("5/{}", "a".repeat(20_000));
    let wrong = audit.list_all_entries(list_all(AuditFilter::default(), 0, long)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::ResourceExhausted);
    // No caller has rights on an open server, so no caller reads the log there.
    let open = audit.list_all_entries(of("", ListAllEntriesRequest::default())).await.unwrap_err();
    assert_eq!(open.code(), Code::InvalidArgument);
    harness.end().await;
}
