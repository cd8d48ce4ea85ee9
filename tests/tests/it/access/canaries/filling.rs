//! A project with a canary in every kind of text that it can hold, made through the API as users would.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::TryStreamExt;
use http::Request;
use matyan_proto::{
    access::v1::{CreateTokenRequest, GrantRequest, Role, access_service_client::AccessServiceClient},
    admin::v1::{ParkRunRequest, admin_service_client::AdminServiceClient},
    apps::v1::{self as apps, app_service_client::AppServiceClient},
    common::v1::{SeriesKey, SeriesType},
    dashboards::v1::{self as dashboards, dashboard_service_client::DashboardServiceClient},
    experiments::v1::{self as experiments, experiment_service_client::ExperimentServiceClient},
    notes::v1::{self as notes, note_service_client::NoteServiceClient},
    objects::v1::{self as objects, object_service_client::ObjectServiceClient},
    project::v1::{self as project, project_service_client::ProjectServiceClient},
    reports::v1::{self as reports, report_service_client::ReportServiceClient},
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use matyan_tests::{
    eventually,
    exact_http::ExactClient,
    json::{Ack, CLIENT_TIME, create_run},
};
use serde_json::{Value, json};
use tonic::{Response, Status, Streaming};

use super::super::{closed_server::ClosedServer, foreign::ForeignThings};

/// An image of one pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";

/// The texts of the project. Each contains the kind of the text.
pub(super) struct Canaries {
    /// A random number, so that no other text is equal.
    id: String,
    /// The texts that have been used.
    pub(super) used: Vec<String>,
}

impl Canaries {
    fn new() -> Self {
        Self { id: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(), used: Vec::new() }
    }

    fn next(&mut self, of: &str) -> String {
        let canary = format!("canary-{of}-{}", self.id);
        self.used.push(canary.clone());
        canary
    }

    /// Whether a canary is a text of the project itself.
    pub(super) fn is_of_project(canary: &str) -> bool {
        canary.starts_with("canary-project-")
    }
}

/// A project with canaries, and the ids and names without a canary that requests can use.
pub(super) struct FilledProject {
    pub(super) canaries: Canaries,
    pub(super) run_id: &'static str,
    pub(super) artifact: &'static str,
    pub(super) blob_uri: String,
    /// Ids of entities, by the name of their package.
    pub(super) ids: BTreeMap<&'static str, String>,
    /// The things that clients of other trackers have made.
    pub(super) foreign: ForeignThings,
}

async fn all<T>(streaming: Result<Response<Streaming<T>>, Status>) -> Vec<T> {
    streaming.expect("the call is permitted").into_inner().try_collect().await.expect("the stream ends well")
}

impl FilledProject {
    pub(super) async fn fill(closed: &ClosedServer, project: &str) -> Self {
        let mut canaries = Canaries::new();
        log_runs(closed, project, &mut canaries).await;
        describe_project(closed, project, &mut canaries).await;
        let mut ids = describe_tag_and_experiment(closed, project, &mut canaries).await;
        ids.extend(create_pages(closed, project, &mut canaries).await);
        add_principal(closed, project, &mut canaries).await;
        let blob_uri = image_uri(closed, project).await;
        let foreign = ForeignThings::create(closed, project, &mut |of: &str| canaries.next(of)).await;
        Self { canaries, run_id: "r", artifact: "a.txt", blob_uri, ids, foreign }
    }
}

/// Logs the run `r`, and a run whose id is a canary.
async fn log_runs(closed: &ClosedServer, project: &str, canaries: &mut Canaries) {
    let artifact = upload(closed, project, "a.txt", canaries.next("artifact").as_bytes()).await;
    let path = canaries.next("path");
    let named = upload(closed, project, &path, b"x").await;
    let png = STANDARD.decode(PNG).expect("the image is base64");
    let png = [&png[..], canaries.next("image").as_bytes()].concat();
    let image = upload(closed, project, "seq/i.png", &png).await;
    let param = canaries.next("param");
    let key = canaries.next("key");
    let context = canaries.next("context");
    let frames = [
        create_run(),
        json!({"type": "log_hparams", "value": {"p": param, (key): 1}}),
        json!({"type": "add_tag", "tag_name": "t"}),
        json!({"type": "add_tag", "tag_name": canaries.next("tag")}),
        json!({
            "type": "set_run_property", "name": canaries.next("run-name"),
            "description": canaries.next("run-description"), "experiment": "e",
        }),
        json!({"type": "log_terminal_line", "line": canaries.next("line"), "step": 0}),
        json!({
            "type": "log_record", "message": canaries.next("message"), "level": 20, "timestamp": 1.5,
            "logger_info": [canaries.next("source"), 1], "extra_args": {"extra": canaries.next("extra")},
        }),
        point("m", &json!({})),
        point("m", &json!({"of": context})),
        point(&canaries.next("series"), &json!({})),
        json!({
            "type": "log_custom_object", "name": "o", "dtype": "text", "step": 0,
            "value": {"type": "text", "data": canaries.next("object")},
        }),
        json!({
            "type": "log_custom_object", "name": "i", "dtype": "image", "step": 0,
            "value": {"type": "image", "caption": canaries.next("caption"), "format": "png", "s3_key": image},
        }),
        json!({"type": "blob_ref", "artifact_path": "a.txt", "s3_key": artifact, "content_type": "text/plain"}),
        json!({"type": "blob_ref", "artifact_path": path, "s3_key": named, "content_type": "text/plain"}),
    ];
    send(closed, project, "r", &frames).await;
    let run_id = canaries.next("run-id");
    let experiment = canaries.next("experiment");
    let property = json!({"type": "set_run_property", "experiment": experiment});
    send(closed, project, &run_id, &[create_run(), property]).await;
    // The text that is logged last for each run.
    wait_for(closed, project, "r", &path).await;
    wait_for(closed, project, &run_id, &experiment).await;
    let reason = canaries.next("quarantine");
    let park = closed.request(project, ParkRunRequest { run_id: "parked".into(), reason });
    AdminServiceClient::new(closed.channel.clone()).park_run(park).await.expect("the operator parks runs");
}

/// Waits until the description of a run has a text.
async fn wait_for(closed: &ClosedServer, project: &str, run_id: &str, text: &str) {
    let client = ExactClient::http1();
    eventually("the run is applied", async || {
        let path = format!("{}/p/{project}/api/v1/rest/runs/{run_id}/info/", closed.server.query);
        let get = Request::get(path).header("authorization", format!("Bearer {}", closed.operator));
        let answer = client.send(get.body(Bytes::new()).expect("the request is well-formed")).await;
        if answer.contains(text) { Ok(()) } else { Err(answer) }
    })
    .await;
}

fn point(name: &str, context: &Value) -> Value {
    json!({
        "type": "log_metric", "name": name, "value": 0.5, "step": 0, "epoch": null, "context": context,
        "dtype": "float", "client_datetime": CLIENT_TIME,
    })
}

async fn send(closed: &ClosedServer, project: &str, run_id: &str, frames: &[Value]) {
    let mut writer = closed.connect(&closed.operator, project, run_id).await.expect("it is admitted");
    for frame in frames {
        assert_eq!(writer.send(frame).await, Ok(Ack::Ok), "{frame}");
    }
}

/// Uploads a file of the run `r`. Returns its key.
async fn upload(closed: &ClosedServer, project: &str, path: &str, content: &[u8]) -> String {
    let client = reqwest::Client::new();
    let request = json!({"run_id": "r", "artifact_path": path, "content_type": "text/plain"});
    let url = format!("{}/p/{project}/api/v1/rest/artifacts/presign", closed.server.ingest);
    let signed = client.post(url).bearer_auth(&closed.operator).json(&request).send().await;
    let signed: Value = signed.expect("the server answers").json().await.expect("the answer is JSON");
    let url = signed["upload_url"].as_str().unwrap_or_else(|| panic!("{signed}"));
    let put = client.put(url).header("content-type", "text/plain").body(content.to_vec()).send().await;
    assert!(put.expect("the server answers").status().is_success());
    signed["s3_key"].as_str().expect("the key is text").to_owned()
}

async fn describe_project(closed: &ClosedServer, project: &str, canaries: &mut Canaries) {
    let mut client = ProjectServiceClient::new(closed.channel.clone());
    let name = Some(canaries.next("project-name"));
    let description = Some(canaries.next("project-description"));
    let update = project::UpdateRequest { name, description, ..Default::default() };
    client.update(closed.request(project, update)).await.expect("the operator describes projects");
    let sequences = vec![SeriesKey { name: canaries.next("pinned"), ..Default::default() }];
    let pinned = project::SetPinnedSequencesRequest { sequences, ..Default::default() };
    client.set_pinned_sequences(closed.request(project, pinned)).await.expect("the operator pins series");
}

async fn describe_tag_and_experiment(
    closed: &ClosedServer,
    project: &str,
    canaries: &mut Canaries,
) -> BTreeMap<&'static str, String> {
    let mut client = TagServiceClient::new(closed.channel.clone());
    let pages = all(client.list(closed.request(project, tags::ListRequest::default())).await).await;
    let tag = pages.into_iter().flat_map(|page| page.tags).find(|tag| tag.name == "t");
    let tag = tag.expect("the tag was added").id;
    let description = Some(canaries.next("tag-description"));
    let update = tags::UpdateRequest { id: tag.clone(), description, ..Default::default() };
    client.update(closed.request(project, update)).await.expect("the tag exists");

    let mut client = ExperimentServiceClient::new(closed.channel.clone());
    let pages = all(client.list(closed.request(project, experiments::ListRequest::default())).await).await;
    let experiment = pages.into_iter().flat_map(|page| page.experiments).find(|it| it.name == "e");
    let experiment = experiment.expect("the experiment was created").id;
    let description = Some(canaries.next("experiment-description"));
    let update = experiments::UpdateRequest { id: experiment.clone(), description, ..Default::default() };
    client.update(closed.request(project, update)).await.expect("the experiment exists");
    BTreeMap::from([("tags", tag), ("experiments", experiment)])
}

async fn create_pages(
    closed: &ClosedServer,
    project: &str,
    canaries: &mut Canaries,
) -> BTreeMap<&'static str, String> {
    let channel = || closed.channel.clone();
    let state = cbor_map("state", &canaries.next("app-state"));
    let app = apps::CreateRequest { r#type: canaries.next("app-type"), state, ..Default::default() };
    let app = AppServiceClient::new(channel()).create(closed.request(project, app)).await;
    let app = app.expect("the app is valid").into_inner().app.expect("the answer has the app").id;
    let dashboard = dashboards::CreateRequest {
        name: canaries.next("dashboard-name"),
        description: canaries.next("dashboard-description"),
        app_id: app.clone(),
        ..Default::default()
    };
    let made = DashboardServiceClient::new(channel()).create(closed.request(project, dashboard)).await;
    let made = made.expect("the dashboard is valid").into_inner();
    let dashboard = made.dashboard.expect("the answer has the dashboard").id;
    let report = reports::CreateRequest {
        name: canaries.next("report-name"),
        code: canaries.next("report-code"),
        ..Default::default()
    };
    let made = ReportServiceClient::new(channel()).create(closed.request(project, report)).await;
    let report =
        made.expect("the report is valid").into_inner().report.expect("the answer has the report").id;
    let owner = Some(notes::Owner { kind: Some(notes::owner::Kind::RunId("r".into())) });
    let note = notes::CreateRequest { owner, content: canaries.next("note"), ..Default::default() };
    let made = NoteServiceClient::new(channel()).create(closed.request(project, note)).await;
    let note = made.expect("the note is valid").into_inner().note.expect("the answer has the note").id;
    BTreeMap::from([("apps", app), ("dashboards", dashboard), ("reports", report), ("notes", note)])
}

/// A map with one text, in CBOR.
fn cbor_map(key: &str, text: &str) -> Bytes {
    const MAP_OF_ONE: u8 = 0xa1;
    const TEXT: u8 = 0x78;
    let length = |text: &str| u8::try_from(text.len()).expect("the text is short");
    let texts = [key, text].map(|text| [&[TEXT, length(text)][..], text.as_bytes()].concat());
    [vec![MAP_OF_ONE], texts.concat()].concat().into()
}

/// Adds a principal with a role and a token, both with a canary.
async fn add_principal(closed: &ClosedServer, project: &str, canaries: &mut Canaries) {
    let principal = canaries.next("principal");
    let mut client = AccessServiceClient::new(closed.channel.clone());
    let grant = GrantRequest { principal: principal.clone(), role: Role::Viewer.into() };
    client.grant(closed.request(project, grant)).await.expect("the operator grants roles");
    let token = CreateTokenRequest { principal, label: canaries.next("label"), ..Default::default() };
    client.create_token(closed.request(project, token)).await.expect("the principal has a role");
}

/// The URI of the image.
async fn image_uri(closed: &ClosedServer, project: &str) -> String {
    let sequences = vec![SeriesKey { name: "i".into(), ..Default::default() }];
    let r#type = SeriesType::Images.into();
    let batch = objects::BatchRequest { run_id: "r".into(), r#type, sequences, ..Default::default() };
    let mut client = ObjectServiceClient::new(closed.channel.clone());
    let found = all(client.batch(closed.request(project, batch)).await).await;
    let mut steps = found.into_iter().filter_map(|message| message.sequence).flat_map(|it| it.steps);
    let object = steps.next().and_then(|step| step.objects.into_iter().next());
    match object.and_then(|object| object.kind) {
        Some(objects::object::Kind::Image(image)) => image.blob_uri,
        other => panic!("{other:?}"),
    }
}
