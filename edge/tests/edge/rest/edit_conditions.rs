//! Updates that are refused if another update came first.

use super::*;

const VERSION: i64 = 1_700_000_000_000_001;
const ETAG: &str = "\"1700000000000001\"";

impl Rest {
    async fn put(&self, path: &str, body: &Value, conditions: &[&str]) -> Answer {
        self.update("PUT", path, body, conditions).await
    }

    async fn update(&self, http_method: &str, path: &str, body: &Value, conditions: &[&str]) -> Answer {
        let mut request = Request::builder().method(http_method).uri(format!("/api/v1/rest{path}"));
        for condition in conditions {
            request = request.header("if-match", *condition);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let (parts, body) = self.edge.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// Checks the read and the update of one kind of entity. `$entity` is the view in both answers.
macro_rules! check {
    ($rest:expr, $module:ident, $service:literal, $field:ident: $entity:expr, $read:literal, $path:literal, $body:expr) => {{
        let rest: &Rest = $rest;
        let body: Value = $body;
        let update = concat!($service, "/Update");
        rest.backend.answers(concat!($service, "/Get"), [$module::v1::GetResponse { $field: Some($entity) }]);
        rest.backend.answers(update, [$module::v1::UpdateResponse { $field: Some($entity) }]);
        let read = rest.get($read).await;
        assert_eq!((read.status, read.header("etag")), (200, Some(ETAG)), "{}", $read);
        check_update(rest, update, ("PUT", $path), &body, || {
            rest.backend.last_request::<$module::v1::UpdateRequest>(update).if_updated_us
        })
        .await;
    }};
}

async fn check_update(
    rest: &Rest,
    method: &str,
    (http_method, path): (&str, &str),
    body: &Value,
    expected: impl Fn() -> Option<i64>,
) {
    let update = async |conditions: &[&str]| rest.update(http_method, path, body, conditions).await;
    let updated = update(&[ETAG]).await;
    assert_eq!((updated.status, updated.header("etag")), (200, Some(ETAG)), "{path}: {}", updated.text());
    assert_eq!(expected(), Some(VERSION), "{path}");
    for unconditional in [&[][..], &["*"]] {
        assert_eq!(update(unconditional).await.status, 200, "{path}");
        assert_eq!(expected(), None, "{path}");
    }
    let calls = rest.backend.call_count(method);
    for wrong in [&["1700000000000001"][..], &["\"abc\""], &["\"1\", \"2\""], &["\"1\"", "\"2\""], &[""]] {
        let refused = update(wrong).await;
        assert_eq!(refused.status, 400, "{path} {wrong:?}");
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("If-Match: "), "{message}");
    }
    assert_eq!(rest.backend.call_count(method), calls, "a malformed condition must not be ignored");
}

#[tokio::test]
async fn a_version_that_was_read_makes_an_update_conditional() {
    let rest = &Rest::new();
    let tag = tags::v1::Tag { updated_us: Some(VERSION), ..Default::default() };
    check!(rest, tags, "tags.v1.TagService", tag: tag.clone(), "/tags/i/", "/tags/i/", json!({"name": "x"}));
    let experiment = experiments::v1::Experiment { updated_us: Some(VERSION), ..Default::default() };
    check!(
        rest, experiments, "experiments.v1.ExperimentService", experiment: experiment.clone(), "/experiments/i/",
        "/experiments/i/", json!({"name": "x"})
    );
    let note = notes::v1::Note { updated_us: VERSION, ..Default::default() };
    check!(
        rest, notes, "notes.v1.NoteService", note: note.clone(), "/runs/r/note/n/", "/experiments/e/note/n/",
        json!({"content": "x"})
    );
    let report = reports::v1::Report { updated_us: VERSION, ..Default::default() };
    check!(
        rest, reports, "reports.v1.ReportService", report: report.clone(), "/reports/i/", "/reports/i/",
        json!({"name": "x"})
    );
    let board = dashboards::v1::Dashboard { updated_us: VERSION, ..Default::default() };
    check!(
        rest, dashboards, "dashboards.v1.DashboardService", dashboard: board.clone(), "/dashboards/i/",
        "/dashboards/i/", json!({"name": "x"})
    );
    let app = apps::v1::App { updated_us: VERSION, state: vec![0xa0].into(), ..Default::default() };
    check!(rest, apps, "apps.v1.AppService", app: app.clone(), "/apps/i/", "/apps/i/", json!({"type": "x"}));

    let props = runs::v1::Props { updated_us: VERSION, ..props() };
    let run = runs::v1::Run { props: Some(props), params: params().into(), ..Default::default() };
    let read = runs::v1::GetResponse { run: Some(run) };
    rest.backend.answers("runs.v1.RunService/Get", [read]);
    assert_eq!(rest.get("/runs/r/info/").await.header("etag"), Some(ETAG));
    let update = "runs.v1.RunService/Update";
    rest.backend.answers(update, [runs::v1::UpdateResponse { updated_us: VERSION }]);
    check_update(rest, update, ("PUT", "/runs/r/"), &json!({"name": "x"}), || {
        rest.backend.last_request::<runs::v1::UpdateRequest>(update).if_updated_us
    })
    .await;
}

#[tokio::test]
async fn the_version_of_a_project_makes_its_updates_conditional() {
    let rest = &Rest::new();
    let read = project::v1::GetResponse { updated_us: VERSION, ..Default::default() };
    rest.backend.answers("project.v1.ProjectService/Get", [read]);
    assert_eq!(rest.get("/projects/").await.header("etag"), Some(ETAG));
    let update = "project.v1.ProjectService/Update";
    rest.backend.answers(update, [project::v1::UpdateResponse { updated_us: VERSION, ..Default::default() }]);
    check_update(rest, update, ("PUT", "/projects/"), &json!({"description": "x"}), || {
        rest.backend.last_request::<project::v1::UpdateRequest>(update).if_updated_us
    })
    .await;

    // The list of pinned sequences has its own version.
    let read = project::v1::GetPinnedSequencesResponse { updated_us: VERSION, ..Default::default() };
    rest.backend.answers("project.v1.ProjectService/GetPinnedSequences", [read]);
    let path = "/projects/pinned-sequences/";
    assert_eq!(rest.get(path).await.header("etag"), Some(ETAG));
    let update = "project.v1.ProjectService/SetPinnedSequences";
    let updated = project::v1::SetPinnedSequencesResponse { updated_us: VERSION, ..Default::default() };
    rest.backend.answers(update, [updated]);
    let last = || rest.backend.last_request::<project::v1::SetPinnedSequencesRequest>(update);
    check_update(rest, update, ("POST", path), &json!({"sequences": []}), || last().if_updated_us).await;

    // So has each goal of a metric.
    let update = "metrics.v1.MetricService/UpdateGoal";
    let goal = metrics::v1::Goal { name: "m".into(), updated_us: VERSION, ..Default::default() };
    rest.backend.answers(update, [metrics::v1::UpdateGoalResponse { goal: Some(goal) }]);
    let last = || rest.backend.last_request::<metrics::v1::UpdateGoalRequest>(update);
    let change = ("PUT", "/projects/metric-goals/");
    check_update(rest, update, change, &json!({"name": "m"}), || last().if_updated_us).await;
}

#[tokio::test]
async fn an_update_after_another_one_is_refused() {
    let rest = Rest::new();
    let message = "tag `i` was changed at 10:00 since it was read: read it again, and repeat the change";
    let metadata = [("resource", "tag"), ("id", "i"), ("updated_us", "1700000000000002")];
    let changed = status(tonic::Code::Aborted, "CHANGED", message, &metadata);
    rest.backend.fails::<tags::v1::UpdateResponse>("tags.v1.TagService/Update", [], changed);
    let refused = rest.put("/tags/i/", &json!({"name": "x"}), &[ETAG]).await;
    assert_eq!(refused.status, 412);
    let error = json!({"code": "precondition_failed", "message": message});
    assert_eq!(refused.json(), json!({"error": error, "detail": message, "message": message}));
}

#[tokio::test]
async fn conditions_are_described() {
    let rest = Rest::new();
    let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let body = rest.edge.answer(request).await.into_body().collect().await.unwrap().to_bytes();
    let described: Value = serde_json::from_slice(&body).unwrap();
    let paths = described["paths"].as_object().unwrap();
    let mut updates = 0;
    for operation in paths.values().flat_map(|item| [item.get("put"), item.get("post")]).flatten() {
        if !operation["responses"].as_object().unwrap().contains_key("412") {
            continue;
        }
        let parameters = operation["parameters"].as_array().unwrap();
        let header = parameters.iter().find(|it| it["name"] == "if-match").unwrap();
        assert_eq!((&header["in"], &header["required"]), (&json!("header"), &json!(false)));
        updates += 1;
    }
    assert_eq!(updates, 21, "ten updates for two kinds of clients, and the update of a project");
}
