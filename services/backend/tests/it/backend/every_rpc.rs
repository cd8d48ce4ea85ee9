//! Every rpc of the backend, in two projects with the same run ids and names, and a random canary
//! in every text: no call touches a key of the other project, or answers with its canary.
//!
//! The calls are made from the descriptors, with values chosen by the names of fields, so that a
//! new rpc is included by itself. It has to succeed, or to be listed with the reason why not.

mod requests;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    io::Cursor,
};

use bytes::{Buf as _, BufMut as _, Bytes};
use matyan_model::{keys::project_rows, project::project_find};
use matyan_proto::{
    admin::v1::{ParkRunRequest, admin_service_client::AdminServiceClient},
    apps::v1::{self as apps, app_service_client::AppServiceClient},
    common::v1::{SeriesKey, SeriesType},
    dashboards::v1::{self as dashboards, dashboard_service_client::DashboardServiceClient},
    documents::v1::{self as documents, document_service_client::DocumentServiceClient},
    experiments::v1::{self as experiments, experiment_service_client::ExperimentServiceClient},
    ingest::v1::{self as pb, event::Kind},
    metrics::v1::{self as metrics, metric_service_client::MetricServiceClient},
    notes::v1::{self as notes, note_service_client::NoteServiceClient},
    objects::v1::{self as objects, object_service_client::ObjectServiceClient},
    project::v1::{self as project, project_service_client::ProjectServiceClient},
    reports::v1::{self as reports, report_service_client::ReportServiceClient},
    runs::v1::{self as runs, run_service_client::RunServiceClient},
    studies::v1::{self as studies, study_service_client::StudyServiceClient},
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use matyan_store::Store as _;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::backend::{
    harness::{Harness, all, create, experiment, finish, line, params, tag},
    projects::{of, upload},
};
use requests::request;

pub(crate) const PROJECTS: [&str; 2] = ["", "other"];

/// Calls about all projects, which show their names.
const OF_ALL_PROJECTS: [&str; 3] = [
    "project.v1.ProjectService/List",
    "project.v1.ProjectService/Create",
    "project.v1.ProjectService/Delete",
];

/// Calls that never end: `live_isolation` tests them.
const ENDLESS: [&str; 4] = [
    "live.v1.LiveService/Subscribe",
    "runs.v1.RunService/Watch",
    "search.v1.SearchService/WatchRuns",
    "series.v1.SeriesService/Follow",
];

/// Calls that cannot succeed with a request made from their descriptor, and how they fail.
const REFUSED: &[(&str, Code)] = &[
    // Parts of a restore follow each other; their contents are tested with archives.
    ("backup.v1.BackupService/FinishRun", Code::InvalidArgument),
    ("backup.v1.BackupService/WriteBlob", Code::InvalidArgument),
    ("backup.v1.BackupService/WriteRun", Code::FailedPrecondition),
    // Needs an id that is not known beforehand.
    ("access.v1.AccessService/RevokeAnyLink", Code::InvalidArgument),
    ("access.v1.AccessService/RevokeAnyToken", Code::InvalidArgument),
    ("access.v1.AccessService/RevokeLink", Code::InvalidArgument),
    ("access.v1.AccessService/RevokeToken", Code::InvalidArgument),
    // Without a token, without a provider, and without the secrets of a browser: `sign_in` tests them with these.
    ("access.v1.LoginService/GetLogin", Code::InvalidArgument),
    ("access.v1.SignInService/AnswerLogin", Code::InvalidArgument),
    ("access.v1.SignInService/BeginSignIn", Code::NotFound),
    ("access.v1.SignInService/EndSession", Code::InvalidArgument),
    ("access.v1.SignInService/FindLogin", Code::InvalidArgument),
    ("access.v1.SignInService/FinishSignIn", Code::Unauthenticated),
    ("access.v1.SignInService/OpenLink", Code::Unauthenticated),
    ("access.v1.SignInService/StartSession", Code::InvalidArgument),
    // Without the signature of a process: `access` tests them with one.
    ("access.v1.ResolveService/ResolveCaller", Code::PermissionDenied),
    ("access.v1.ResolveService/ResolveProject", Code::PermissionDenied),
    // A rename to the current name, and a second deletion.
    ("series.v1.SeriesService/Rename", Code::AlreadyExists),
    ("series.v1.SeriesService/Delete", Code::NotFound),
    // Studies have the same ids in all projects, and files and documents the same names, so these calls are
    // repetitions as well.
    ("artifacts.v1.ArtifactService/Delete", Code::NotFound),
    ("documents.v1.DocumentService/Delete", Code::NotFound),
    ("documents.v1.DocumentService/Rename", Code::NotFound),
    ("studies.v1.StudyService/Delete", Code::NotFound),
];

/// Calls whose answers contain no text of their project: they are about the server, or have numbers,
/// acknowledgments, or the texts of the request.
const SHOWS_NOTHING: &[&str] = &[
    "access.v1.AccessService/CreateLink",
    "access.v1.AccessService/CreateLinkEverywhere",
    "access.v1.AccessService/CreateToken",
    "access.v1.AccessService/CreateTokenEverywhere",
    "access.v1.AccessService/DisablePrincipal",
    "access.v1.AccessService/EnablePrincipal",
    "access.v1.AccessService/EndLogin",
    "access.v1.AccessService/GetCaller",
    "access.v1.AccessService/Grant",
    "access.v1.AccessService/GrantEverywhere",
    "access.v1.AccessService/ListAllGrants",
    "access.v1.AccessService/ListAllLinks",
    "access.v1.AccessService/ListAllTokens",
    "access.v1.AccessService/ListGrants",
    "access.v1.AccessService/ListLinks",
    "access.v1.AccessService/ListTokens",
    "access.v1.AccessService/RemovePrincipal",
    "access.v1.AccessService/Revoke",
    "access.v1.AccessService/RevokeAnyLink",
    "access.v1.AccessService/RevokeAnyToken",
    "access.v1.AccessService/RevokeEverywhere",
    "access.v1.AccessService/RevokeLink",
    "access.v1.AccessService/RevokeToken",
    "access.v1.AuditService/ListEntries",
    "access.v1.AuditService/ListAllEntries",
    "access.v1.LoginService/BeginLogin",
    "access.v1.LoginService/GetLogin",
    "access.v1.ResolveService/ResolveCaller",
    "access.v1.ResolveService/ResolveProject",
    "access.v1.SignInService/AnswerLogin",
    "access.v1.SignInService/BeginSignIn",
    "access.v1.SignInService/EndSession",
    "access.v1.SignInService/FindLogin",
    "access.v1.SignInService/FinishSignIn",
    "access.v1.SignInService/ListProviders",
    "access.v1.SignInService/OpenLink",
    "access.v1.SignInService/StartSession",
    "admin.v1.AdminService/CleanupOrphanBlobs",
    "admin.v1.AdminService/CleanupTombstones",
    "admin.v1.AdminService/DeleteParkedItems",
    "admin.v1.AdminService/FinishStale",
    "admin.v1.AdminService/ListJobs",
    "admin.v1.AdminService/ListPartitions",
    "admin.v1.AdminService/ParkRun",
    "admin.v1.AdminService/Reindex",
    "admin.v1.AdminService/ResumeRun",
    "admin.v1.AdminService/SkipLostRecords",
    "apps.v1.AppService/Create",
    "apps.v1.AppService/Delete",
    "artifacts.v1.ArtifactService/Delete",
    "artifacts.v1.ArtifactService/Thumbnail",
    "backup.v1.BackupService/BeginRun",
    "backup.v1.BackupService/FinishRun",
    "backup.v1.BackupService/ListRuns",
    "backup.v1.BackupService/RestoreProject",
    "backup.v1.BackupService/WriteBlob",
    "backup.v1.BackupService/WriteRun",
    "dashboards.v1.DashboardService/Create",
    "dashboards.v1.DashboardService/Delete",
    "documents.v1.DocumentService/Delete",
    "documents.v1.DocumentService/Rename",
    "documents.v1.DocumentService/Write",
    "experiments.v1.ExperimentService/Activity",
    "experiments.v1.ExperimentService/Create",
    "experiments.v1.ExperimentService/Delete",
    "metrics.v1.MetricService/UpdateGoal",
    "notes.v1.NoteService/Create",
    "notes.v1.NoteService/Delete",
    "notes.v1.NoteService/Update",
    "project.v1.ProjectService/Activity",
    "project.v1.ProjectService/Create",
    "project.v1.ProjectService/Delete",
    "project.v1.ProjectService/SetPinnedSequences",
    "project.v1.ProjectService/Status",
    "reports.v1.ReportService/Create",
    "reports.v1.ReportService/Delete",
    "reports.v1.ReportService/Update",
    "runs.v1.RunService/AddTag",
    "runs.v1.RunService/AddTagBatch",
    "runs.v1.RunService/ArchiveBatch",
    "runs.v1.RunService/BinBatch",
    "runs.v1.RunService/ClearTombstone",
    "runs.v1.RunService/Delete",
    "runs.v1.RunService/DeleteBatch",
    "runs.v1.RunService/DeleteParams",
    "runs.v1.RunService/FinishBatch",
    "runs.v1.RunService/MoveBatch",
    "runs.v1.RunService/RemoveTag",
    "runs.v1.RunService/RemoveTagBatch",
    "runs.v1.RunService/RestoreBatch",
    "runs.v1.RunService/Update",
    "search.v1.SearchService/Explain",
    "series.v1.SeriesService/Align",
    "series.v1.SeriesService/Bands",
    "series.v1.SeriesService/Buckets",
    "series.v1.SeriesService/Delete",
    "series.v1.SeriesService/DeleteSteps",
    "series.v1.SeriesService/Points",
    "series.v1.SeriesService/Rename",
    "series.v1.SeriesService/Sample",
    "system.v1.SystemService/Limits",
    "system.v1.SystemService/Readiness",
    "system.v1.SystemService/Version",
    "studies.v1.StudyService/Create",
    "studies.v1.StudyService/CreateTrial",
    "studies.v1.StudyService/Delete",
    "studies.v1.StudyService/Find",
    "studies.v1.StudyService/SetAttribute",
    "studies.v1.StudyService/SetTrialAttribute",
    "studies.v1.StudyService/SetTrialIntermediateValue",
    "studies.v1.StudyService/SetTrialParam",
    "studies.v1.StudyService/SetTrialState",
    "tags.v1.TagService/Create",
    "tags.v1.TagService/Delete",
];

/// One project, and what its requests name.
pub(crate) struct Side {
    pub(crate) project: &'static str,
    pub(crate) canary: String,
    /// Ids of entities, by the name of their service.
    pub(crate) ids: HashMap<&'static str, String>,
    blob_uri: String,
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// The rpcs of the backend by their names: first those that read, then those that write, and at
/// the end those that delete.
fn methods() -> Vec<(String, MethodDescriptor)> {
    let pool = DescriptorPool::decode(matyan_proto::DESCRIPTORS).unwrap();
    let mut methods = BTreeMap::new();
    for service in pool.services() {
        let name = service.full_name().to_owned();
        let name = name.strip_prefix("matyan.").unwrap();
        // Served by the frontier, which has its own test.
        if name.starts_with("ingest.") {
            continue;
        }
        for method in service.methods() {
            let name = format!("{name}/{}", method.name());
            // NO_SIDE_EFFECTS
            let reads = method
                .method_descriptor_proto()
                .options
                .as_ref()
                .is_some_and(|it| it.idempotency_level == Some(1));
            let rank = match method.name() {
                _ if reads => 0,
                // Needs the series, and the series the run.
                "DeleteSteps" => 1,
                "Delete" if name.starts_with("series.") => 2,
                "BinBatch" | "RestoreBatch" => 3,
                "Delete" | "DeleteBatch" | "CleanupOrphanBlobs" => 4,
                "CleanupTombstones" | "ClearTombstone" => 5,
                // Needs the principal. A token keeps a principal without roles.
                "DisablePrincipal" | "EnablePrincipal" => 2,
                "CreateToken" | "CreateTokenEverywhere" | "CreateLink" | "CreateLinkEverywhere" => 3,
                "Revoke" => 4,
                "RemovePrincipal" => 5,
                named if named.starts_with("Delete") || named.starts_with("Remove") => 2,
                _ => 1,
            };
            methods.insert((rank, name), method);
        }
    }
    methods.into_iter().map(|((_, name), method)| (name, method)).collect()
}

/// Calls an rpc, and returns its messages or its error, and all of its bytes.
async fn call(
    harness: &Harness,
    project: &str,
    method: &str,
    message: Bytes,
) -> (Result<(), Status>, Vec<u8>) {
    let mut client = Grpc::new(harness.routes()).max_decoding_message_size(64 << 20);
    client.ready().await.unwrap();
    let path = format!("/matyan.{method}").parse().unwrap();
    let mut request = of(project, futures::stream::iter([message]));
    if method.starts_with("access.") {
        // As an edge with access control names its caller.
        request.metadata_mut().insert("matyan-caller", "operator".parse().unwrap());
    }
    let mut bytes = Vec::new();
    let result = async {
        let mut answers = client.streaming(request, path, RawCodec).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            bytes.extend_from_slice(&answer);
        }
        Ok::<_, Status>(())
    };
    let result = result.await;
    if let Err(status) = &result {
        bytes.extend_from_slice(status.message().as_bytes());
        bytes.extend_from_slice(status.details());
        bytes.extend_from_slice(format!("{:?}", status.metadata()).as_bytes());
    }
    (result, bytes)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    contains_bytes(bytes, text.as_bytes())
}

pub(crate) fn contains_bytes(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The CBOR of a JSON text.
pub(crate) fn encoded(json: &str) -> Bytes {
    matyan_value::cbor::encode(&matyan_value::json::parse(json).unwrap()).into()
}

fn new_canary() -> String {
    format!("canary{:016x}", RandomState::new().hash_one(0))
}

/// Fills a project with the same ids and names as the other one, and with its canary.
pub(crate) async fn fill(harness: &Harness, project: &'static str) -> Side {
    let canary = new_canary();
    if !project.is_empty() {
        harness.create_project(project).await;
    }
    log_runs(harness, project, &canary).await;
    let ids = make_entities(harness, project, &canary).await;
    let (_, uris) =
        call(harness, project, "artifacts.v1.ArtifactService/List", Bytes::from_static(b"\x0a\x01r")).await;
    assert!(contains(&uris, "a.txt"), "{}", uris.escape_ascii());
    let blob_uri = image_uri(harness, project).await;
    Side { project, canary, ids, blob_uri }
}

/// Logs the run `r`, and one whose id is the canary.
async fn log_runs(harness: &Harness, project: &str, canary: &str) {
    let artifact = upload(harness, project, "a.txt", canary.as_bytes()).await;
    let named = upload(harness, project, canary, canary.as_bytes()).await;
    let text = encoded(&format!(r#"{{"data":"{}"}}"#, canary.repeat(10_000)));
    let image = image_of(harness, project, canary).await;
    let events = [
        create(),
        params(&format!(r#"{{"p":"{canary}","{canary}":1}}"#)),
        tag("t"),
        tag(canary),
        experiment("e"),
        line(0, canary),
        Kind::LogRecord(pb::LogRecord {
            message: "m".into(),
            extra_args: encoded(&format!(r#"{{"extra":"{canary}"}}"#)),
            ..Default::default()
        }),
        Kind::SetRunProperty(pb::SetRunProperty {
            name: Some(canary.to_owned()),
            description: Some(canary.to_owned()),
            ..Default::default()
        }),
        Kind::BlobRef(pb::BlobRef { path: "a.txt".into(), key: artifact, ..Default::default() }),
        Kind::BlobRef(pb::BlobRef { path: canary.to_owned(), key: named, ..Default::default() }),
        image,
        Kind::LogObject(pb::LogObject {
            name: "m".into(),
            dtype: "text".into(),
            step: Some(0),
            value: text,
            ..Default::default()
        }),
    ];
    harness.log_in(project, "r", events).await;
    let context = format!(r#"{{"of":"{canary}"}}"#);
    let points: [(&str, &str, &[f64]); 3] =
        [("m", "", &[1.0, 2.0]), ("m", &context, &[4.0]), (canary, "", &[3.0])];
    harness.log_points_in(project, "r", &points).await;
    // Its id is a text as well.
    harness.log_in(project, canary, [create(), experiment(canary), finish()]).await;
    // Too long, so that it is parked.
    harness.log_in(project, "r", [Kind::AddTag(pb::AddTag { name: canary.repeat(1_000) })]).await;
    // A run in the bin, whose id is a text as well.
    let binned = format!("bin {canary}");
    harness.log_in(project, &binned, [create(), finish()]).await;
    harness.applied().await;
    let bin = runs::BinBatchRequest { run_ids: vec![binned] };
    RunServiceClient::new(harness.routes()).bin_batch(of(project, bin)).await.unwrap();
}

/// Describes the project, its tag and its experiment, and makes one of each other entity. Returns
/// their ids, by service.
async fn make_entities(harness: &Harness, project: &str, canary: &str) -> HashMap<&'static str, String> {
    let name = Some(canary.to_owned());
    let description = Some(canary.to_owned());
    let info = project::UpdateRequest { name, description, if_updated_us: None };
    ProjectServiceClient::new(harness.routes()).update(of(project, info)).await.unwrap();
    let sequences = vec![SeriesKey { name: canary.to_owned(), ..SeriesKey::default() }];
    let pinned = project::SetPinnedSequencesRequest { sequences, if_updated_us: None };
    ProjectServiceClient::new(harness.routes()).set_pinned_sequences(of(project, pinned)).await.unwrap();
    let goal =
        metrics::UpdateGoalRequest { name: canary.to_owned(), primary: Some(true), ..Default::default() };
    MetricServiceClient::new(harness.routes()).update_goal(of(project, goal)).await.unwrap();
    let mut ids = HashMap::new();
    let listed = all(TagServiceClient::new(harness.routes())
        .list(of(project, tags::ListRequest::default()))
        .await
        .unwrap())
    .await;
    let named = |tag: &&tags::Tag| tag.name == "t";
    let first = listed.iter().flat_map(|page| &page.tags).find(named).unwrap().id.clone();
    ids.insert("tags.v1.TagService", first);
    let mut client = ExperimentServiceClient::new(harness.routes());
    let listed = all(client.list(of(project, experiments::ListRequest::default())).await.unwrap()).await;
    let first =
        listed.iter().flat_map(|page| &page.experiments).find(|it| it.name == "e").unwrap().id.clone();
    ids.insert("experiments.v1.ExperimentService", first);
    let description = Some(canary.to_owned());
    let change = tags::UpdateRequest {
        id: ids["tags.v1.TagService"].clone(),
        description: description.clone(),
        ..Default::default()
    };
    TagServiceClient::new(harness.routes()).update(of(project, change)).await.unwrap();
    let id = ids["experiments.v1.ExperimentService"].clone();
    let change = experiments::UpdateRequest { id, description, ..Default::default() };
    client.update(of(project, change)).await.unwrap();
    let state = encoded(&format!(r#"{{"state":"{canary}"}}"#));
    let request = apps::CreateRequest { r#type: "t".into(), state, ..Default::default() };
    let made = AppServiceClient::new(harness.routes()).create(of(project, request)).await.unwrap();
    ids.insert("apps.v1.AppService", made.into_inner().app.unwrap().id);
    let request = dashboards::CreateRequest {
        name: canary.to_owned(),
        description: canary.to_owned(),
        app_id: ids["apps.v1.AppService"].clone(),
        ..Default::default()
    };
    let made = DashboardServiceClient::new(harness.routes()).create(of(project, request)).await.unwrap();
    ids.insert("dashboards.v1.DashboardService", made.into_inner().dashboard.unwrap().id);
    let request =
        reports::CreateRequest { name: canary.to_owned(), code: canary.to_owned(), ..Default::default() };
    let made = ReportServiceClient::new(harness.routes()).create(of(project, request)).await.unwrap();
    ids.insert("reports.v1.ReportService", made.into_inner().report.unwrap().id);
    let content = canary.as_bytes().to_vec().into();
    let request =
        documents::WriteRequest { kind: "kind".into(), name: "d".into(), content, ..Default::default() };
    DocumentServiceClient::new(harness.routes()).write(of(project, request)).await.unwrap();
    let owner = Some(notes::Owner { kind: Some(notes::owner::Kind::RunId("r".into())) });
    let request = notes::CreateRequest { owner, content: canary.to_owned(), ..Default::default() };
    let made = NoteServiceClient::new(harness.routes()).create(of(project, request)).await.unwrap();
    ids.insert("notes.v1.NoteService", made.into_inner().note.unwrap().id);
    make_studies(harness, project, canary).await;
    ids
}

/// Makes the studies 1, with a trial, and 2.
async fn make_studies(harness: &Harness, project: &str, canary: &str) {
    let mut client = StudyServiceClient::new(harness.routes());
    for name in [canary, "s"] {
        let directions = vec![studies::Direction::Minimize.into()];
        let request = studies::CreateRequest { name: name.to_owned(), directions };
        client.create(of(project, request)).await.unwrap();
    }
    let kind = studies::AttributeKind::User.into();
    let key = "k".to_owned();
    let value = format!("\"{canary}\"");
    let request = studies::SetAttributeRequest { study_id: 1, kind, key: key.clone(), value: value.clone() };
    client.set_attribute(of(project, request)).await.unwrap();
    let request = studies::CreateTrialRequest { study_id: 1, template: None };
    client.create_trial(of(project, request)).await.unwrap();
    let request = studies::SetTrialAttributeRequest { study_id: 1, number: 0, kind, key, value };
    client.set_trial_attribute(of(project, request)).await.unwrap();
}

/// An uploaded image with the canary after its last byte.
async fn image_of(harness: &Harness, project: &str, canary: &str) -> Kind {
    let mut png = Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(20, 20).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = [png.get_ref(), canary.as_bytes()].concat();
    let key = upload(harness, project, "seq/i.png", &png).await;
    let value = encoded(&format!(r#"{{"caption":"{canary}","format":"png","s3_key":"{key}"}}"#));
    let name = "i".to_owned();
    let dtype = "image".to_owned();
    Kind::LogObject(pb::LogObject { name, dtype, step: Some(0), value, ..Default::default() })
}

/// The URI of the only image.
async fn image_uri(harness: &Harness, project: &str) -> String {
    let sequences = vec![SeriesKey { name: "i".into(), context: String::new() }];
    let r#type = SeriesType::Images.into();
    let request = objects::BatchRequest { run_id: "r".into(), r#type, sequences, ..Default::default() };
    let found =
        all(ObjectServiceClient::new(harness.routes()).batch(of(project, request)).await.unwrap()).await;
    let mut steps = found.into_iter().flat_map(|message| message.sequence.unwrap().steps);
    match steps.next().unwrap().objects.remove(0).kind {
        Some(objects::object::Kind::Image(image)) => image.blob_uri,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rule_49_no_rpc_touches_another_project() {
    let harness = Harness::new().await;
    let sides = [fill(&harness, PROJECTS[0]).await, fill(&harness, PROJECTS[1]).await];
    for Side { project, canary, .. } in &sides {
        let request = ParkRunRequest { run_id: "parked".into(), reason: canary.clone() };
        AdminServiceClient::new(harness.routes()).park_run(of(project, request)).await.unwrap();
    }
    let mut failures = Vec::new();
    for (name, method) in methods().iter().filter(|(name, _)| !ENDLESS.contains(&name.as_str())) {
        for (round, (own, other)) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])].into_iter().enumerate()
        {
            let snapshot = harness.store.snapshot().await.unwrap();
            let number = project_find(snapshot.as_ref(), other.project).await.unwrap().unwrap();
            drop(snapshot);
            for (ids_of, is_own) in [(other, false), (own, true)] {
                if !OF_ALL_PROJECTS.contains(&name.as_str()) {
                    harness.fence.forbid(vec![project_rows(number)]);
                }
                let message = request(name, method, ids_of, 2 * round + usize::from(is_own));
                let (result, bytes) = call(&harness, own.project, name, message).await;
                let touched = harness.fence.take_touched();
                harness.fence.forbid(Vec::new());
                let at = format!("{name} in `{}` with ids of `{}`", own.project, ids_of.project);
                if is_own && contains(&bytes, &own.canary) == SHOWS_NOTHING.contains(&name.as_str()) {
                    failures.push(format!("{at} shows the canary, or not: change its values, or the list"));
                }
                if !OF_ALL_PROJECTS.contains(&name.as_str()) {
                    if let Some(first) = touched.first() {
                        failures.push(format!("{at} touched {}", first.start.escape_ascii()));
                    }
                    if contains(&bytes, &other.canary) {
                        failures.push(format!("{at} answered with the canary of `{}`", other.project));
                    }
                }
                let expected =
                    REFUSED.iter().find(|(refused, _)| refused == name).map_or(Code::Ok, |(_, code)| *code);
                let code = result.as_ref().err().map_or(Code::Ok, Status::code);
                // The worker may have ended the quarantine already, after the same call with the other ids.
                let is_done = name.ends_with("/ResumeRun") && code == Code::NotFound;
                if is_own && code != expected && !is_done {
                    failures.push(format!(
                        "{at} ended with {result:?}: choose values for its fields, or list it"
                    ));
                }
            }
        }
    }
    let metrics = prometheus::TextEncoder::new().encode_to_string(&harness.registry.gather()).unwrap();
    for Side { canary, .. } in &sides {
        assert!(!metrics.contains(canary), "a metric contains a text of a project");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    harness.end().await;
}

/// Guards the test above: a call in the wrong project is noticed.
#[tokio::test]
async fn the_fence_notices_a_call_in_another_project() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    harness.fence.forbid(vec![project_rows(matyan_model::ids::Project::default())]);
    let mut client = RunServiceClient::new(harness.routes());
    let request = Request::new(runs::GetRequest { run_id: "r".into(), ..Default::default() });
    client.get(request).await.unwrap_err();
    assert!(!harness.fence.take_touched().is_empty());
    harness.fence.forbid(Vec::new());
    harness.end().await;
}
