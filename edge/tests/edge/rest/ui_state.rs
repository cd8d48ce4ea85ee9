//! State stored by the UI, and the project as a whole.

use super::*;

#[tokio::test]
async fn dashboards_and_reports_are_stored_and_returned() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let dashboard = dashboards::v1::Dashboard {
        id: "d".into(),
        name: "n".into(),
        app_id: "a".into(),
        created_us: TIME_US,
        updated_us: TIME_US,
        ..Default::default()
    };
    let one = Some(dashboard.clone());
    backend.answers(
        "dashboards.v1.DashboardService/List",
        [dashboards::v1::ListResponse { dashboards: vec![dashboard] }],
    );
    backend.answers(
        "dashboards.v1.DashboardService/Create",
        [dashboards::v1::CreateResponse { dashboard: one.clone() }],
    );
    backend.answers(
        "dashboards.v1.DashboardService/Get",
        [dashboards::v1::GetResponse { dashboard: one.clone() }],
    );
    backend.answers(
        "dashboards.v1.DashboardService/Update",
        [dashboards::v1::UpdateResponse { dashboard: one }],
    );
    backend.answers("dashboards.v1.DashboardService/Delete", [dashboards::v1::DeleteResponse {}]);
    let shown = json!({
        "id": "d", "name": "n", "description": "", "app_id": "a", "app_type": null, "updated_at": ISO, "created_at": ISO
    });
    assert_eq!(rest.json("GET", "/dashboards/", Value::Null).await, json!([shown]));
    let created = rest.send("POST", "/dashboards/", json!({"name": "n", "app_id": "a"})).await;
    assert_eq!((created.status, created.json()), (201, shown.clone()));
    assert_eq!(rest.json("GET", "/dashboards/d/", Value::Null).await, shown);
    assert_eq!(rest.json("PUT", "/dashboards/d/", json!({"name": "m"})).await, shown);
    let deleted = rest.send("DELETE", "/dashboards/d/", Value::Null).await;
    assert_eq!((deleted.status, deleted.header("content-type")), (204, None));
    let deleted = rest.send("DELETE", "/api/dashboards/d/", Value::Null).await;
    assert_eq!((deleted.status, deleted.json()), (200, Value::Null));

    let report = reports();
    let one = Some(report.clone());
    backend.answers(
        "reports.v1.ReportService/List",
        [matyan_proto::reports::v1::ListResponse { reports: vec![report] }],
    );
    backend.answers(
        "reports.v1.ReportService/Create",
        [matyan_proto::reports::v1::CreateResponse { report: one.clone() }],
    );
    backend.answers(
        "reports.v1.ReportService/Get",
        [matyan_proto::reports::v1::GetResponse { report: one.clone() }],
    );
    backend.answers(
        "reports.v1.ReportService/Update",
        [matyan_proto::reports::v1::UpdateResponse { report: one }],
    );
    backend.answers("reports.v1.ReportService/Delete", [matyan_proto::reports::v1::DeleteResponse {}]);
    let shown = json!({"id": "p", "name": "n", "code": "# x", "description": "", "updated_at": ISO, "created_at": ISO});
    assert_eq!(rest.json("GET", "/reports/", Value::Null).await, json!([shown]));
    assert_eq!(rest.send("POST", "/reports/", json!({"name": "n"})).await.json(), shown);
    assert_eq!(rest.json("GET", "/reports/p/", Value::Null).await, shown);
    assert_eq!(rest.json("PUT", "/reports/p/", json!({"code": ""})).await, shown);
    assert_eq!(rest.send("DELETE", "/reports/p/", Value::Null).await.status, 204);
}

/// A client whose response was lost repeats its request.
#[tokio::test]
async fn creates_can_be_repeated() {
    use matyan_proto::{notes::v1 as notes, reports::v1 as reports};
    let rest = Rest::new();
    let backend = &rest.backend;
    backend.answers("dashboards.v1.DashboardService/Create", [dashboards::v1::CreateResponse::default()]);
    rest.send("POST", "/dashboards/", json!({"name": "n", "request_id": "id of d"})).await;
    let made: dashboards::v1::CreateRequest = backend.last_request("dashboards.v1.DashboardService/Create");
    assert_eq!(made.request_id, "id of d");
    backend.answers("reports.v1.ReportService/Create", [reports::CreateResponse::default()]);
    rest.send("POST", "/reports/", json!({"name": "n", "request_id": "id of p"})).await;
    let made: reports::CreateRequest = backend.last_request("reports.v1.ReportService/Create");
    assert_eq!(made.request_id, "id of p");
    backend.answers("apps.v1.AppService/Create", [apps::v1::CreateResponse::default()]);
    rest.send("POST", "/apps/", json!({"type": "t", "state": {}, "request_id": "id of a"})).await;
    let made: apps::v1::CreateRequest = backend.last_request("apps.v1.AppService/Create");
    assert_eq!(made.request_id, "id of a");
    backend.answers("notes.v1.NoteService/Create", [notes::CreateResponse::default()]);
    rest.send("POST", "/runs/r/note/", json!({"content": "c", "request_id": "id of n"})).await;
    let made: notes::CreateRequest = backend.last_request("notes.v1.NoteService/Create");
    assert_eq!(made.request_id, "id of n");
}

fn reports() -> matyan_proto::reports::v1::Report {
    matyan_proto::reports::v1::Report {
        id: "p".into(),
        name: "n".into(),
        code: "# x".into(),
        created_us: TIME_US,
        updated_us: TIME_US,
        ..Default::default()
    }
}

#[tokio::test]
async fn the_state_of_an_app_keeps_every_number() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let state = r#"{"a":1,"b":1.0,"c":null,"big":123456789012345678901234567890,"z":[-0.0]}"#;
    let body = format!(r#"{{"type": "metrics", "state": {state}}}"#);
    backend.answers("apps.v1.AppService/Create", [apps::v1::CreateResponse::default()]);
    let request = Request::post("/api/v1/rest/apps/").body(Body::from(body)).unwrap();
    assert_eq!(rest.edge.answer(request).await.status(), 201);
    let request: apps::v1::CreateRequest = backend.last_request("apps.v1.AppService/Create");
    let app =
        apps::v1::App { id: "a".into(), r#type: request.r#type, state: request.state, ..Default::default() };
    backend.answers("apps.v1.AppService/Get", [apps::v1::GetResponse { app: Some(app.clone()) }]);
    let answer = rest.get("/apps/a/").await;
    assert!(answer.text().ends_with(&format!("\"state\":{state}}}")), "{}", answer.text());
    backend.answers("apps.v1.AppService/List", [apps::v1::ListResponse { apps: vec![app.clone()] }]);
    assert_eq!(rest.json("GET", "/apps/", Value::Null).await[0]["type"], "metrics");
    backend.answers("apps.v1.AppService/Update", [apps::v1::UpdateResponse { app: Some(app) }]);
    rest.json("PUT", "/apps/a/", json!({"type": "scatter", "state": null})).await;
    let request: apps::v1::UpdateRequest = backend.last_request("apps.v1.AppService/Update");
    assert_eq!((request.r#type.as_deref(), request.state), (Some("scatter"), None));
    backend.answers("apps.v1.AppService/Delete", [apps::v1::DeleteResponse {}]);
    assert_eq!(rest.send("DELETE", "/apps/a/", Value::Null).await.status, 204);
    assert_eq!(rest.send("POST", "/apps/", json!({"type": "x", "state": []})).await.status, 422);
}

#[tokio::test]
async fn every_part_of_the_project_is_returned() {
    let rest = Rest::new();
    let backend = &rest.backend;
    backend.answers(
        "project.v1.ProjectService/Get",
        [project::v1::GetResponse { name: "My project".into(), ..Default::default() }],
    );
    assert_eq!(
        rest.get("/projects/").await.text(),
        r#"{"name":"My project","path":"","description":"","telemetry_enabled":0,"warn_index":false,"warn_runs":false}"#
    );
    let hour = |local_s, runs| ActivityCount { local_s, runs };
    let activity = project::v1::ActivityResponse {
        experiment_count: 1,
        run_count: 6,
        archived_run_count: 2,
        active_run_count: 3,
        hours: vec![hour(1_767_312_000, 1), hour(1_767_323_045, 2), hour(1_767_398_400, 3)],
    };
    backend.answers("project.v1.ProjectService/Activity", [activity]);
    let request = Request::get("/api/v1/rest/projects/activity/").header("x-timezone-offset", "-240");
    let response = rest.edge.answer(request.body(Body::empty()).unwrap()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "num_experiments": 1, "num_runs": 6, "num_archived_runs": 2, "num_active_runs": 3,
            "activity_map": {"2026-01-02T00:00:00": 3, "2026-01-03T00:00:00": 3},
        })
    );
    let request: project::v1::ActivityRequest = backend.last_request("project.v1.ProjectService/Activity");
    assert_eq!(request.timezone_offset_min, -240);
    let aim = rest.get("/api/projects/activity").await.json();
    assert_eq!(aim["activity_map"]["2026-01-02T03:00:00"], 2);

    let piece = |params: &[u8], context: Option<&str>| {
        let names = context
            .into_iter()
            .map(|context| project::v1::SequenceName {
                name: "loss".into(),
                contexts: vec![context.to_owned()],
            })
            .collect();
        let types = vec![project::v1::TypeNames { r#type: SeriesType::Metric.into(), names }];
        project::v1::ParamsResponse { params: params.to_vec().into(), types, ..Default::default() }
    };
    let params = params();
    let (first, second) = params.split_at(7);
    let pieces =
        [piece(first, None), piece(second, None), piece(&[], Some("")), piece(&[], Some(r#"{"fold":1.0}"#))];
    backend.answers("project.v1.ProjectService/Params", pieces);
    assert_eq!(
        rest.get("/projects/params/?sequence=metric&sequence=images").await.text(),
        r#"{"params":{"lr":0.5,"n":null,"big":18446744073709551616},"metric":{"loss":[{},{"fold":1.0}]},"images":{}}"#
    );
    let without = rest.get("/projects/params/?exclude_params=true").await.json();
    assert_eq!(without.as_object().unwrap().len(), 6);
    let twice = rest.get("/projects/params/?exclude_params=true&sequence=metric&sequence=metric").await;
    assert_eq!(twice.text(), r#"{"metric":{"loss":[{},{"fold":1.0}]}}"#);
    assert_eq!(rest.get("/projects/params/?sequence=x").await.status, 400);

    let key = SeriesKey { name: "a".into(), context: r#"{"x":1}"#.into() };
    let sequences = vec![key];
    backend.answers(
        "project.v1.ProjectService/SetPinnedSequences",
        [project::v1::SetPinnedSequencesResponse { sequences: sequences.clone(), updated_us: 1 }],
    );
    backend.answers(
        "project.v1.ProjectService/GetPinnedSequences",
        [project::v1::GetPinnedSequencesResponse { sequences, updated_us: 1 }],
    );
    let pinned = json!({"sequences": [{"name": "a", "context": {"x": 1}}]});
    assert_eq!(rest.json("POST", "/projects/pinned-sequences/", pinned.clone()).await, pinned);
    assert_eq!(rest.json("GET", "/projects/pinned-sequences/", Value::Null).await, pinned);
    let bad = rest.send("POST", "/projects/pinned-sequences/", json!({"sequences": [{"name": "a"}]})).await;
    assert_eq!(bad.status, 422);
    check_goals(&rest).await;
    backend.answers("project.v1.ProjectService/Status", [project::v1::StatusResponse { up_to_date: true }]);
    assert_eq!(rest.json("GET", "/projects/status/", Value::Null).await, "up-to-date");
}

async fn check_goals(rest: &Rest) {
    let goal = metrics::v1::Goal {
        name: "val/acc".into(),
        direction: metrics::v1::GoalDirection::Higher.into(),
        summary: metrics::v1::GoalSummary::Best.into(),
        format: metrics::v1::NumberFormat::Percent.into(),
        unit: "%".into(),
        primary: true,
        updated_us: 7,
        x_axis: "epoch".into(),
    };
    let listed = metrics::v1::ListGoalsResponse { goals: vec![goal.clone()] };
    rest.backend.answers("metrics.v1.MetricService/ListGoals", [listed]);
    let update = "metrics.v1.MetricService/UpdateGoal";
    rest.backend.answers(update, [metrics::v1::UpdateGoalResponse { goal: Some(goal) }]);
    let shown = json!({
        "name": "val/acc",
        "direction": "higher",
        "summary": "best",
        "format": "percent",
        "unit": "%",
        "x_axis": "epoch",
        "primary": true,
    });
    let path = "/projects/metric-goals/";
    assert_eq!(rest.json("GET", path, Value::Null).await, json!([shown]));
    let change = json!({"name": "val/acc", "direction": "unknown", "x_axis": "", "primary": true, "if_primary": "loss"});
    assert_eq!(rest.json("PUT", path, change).await, shown);
    let asked: metrics::v1::UpdateGoalRequest = rest.backend.last_request(update);
    let expected = metrics::v1::UpdateGoalRequest {
        name: "val/acc".into(),
        direction: Some(metrics::v1::GoalDirection::Unspecified.into()),
        x_axis: Some(String::new()),
        primary: Some(true),
        if_primary: Some("loss".into()),
        ..Default::default()
    };
    assert_eq!(asked, expected);
    for wrong in [json!({"direction": "lower"}), json!({"name": "m", "direction": "sideways"})] {
        assert_eq!(rest.send("PUT", path, wrong).await.status, 422);
    }
}

#[tokio::test]
async fn the_backend_reports_version_and_health() {
    let rest = Rest::new();
    let version = system::v1::VersionResponse {
        version: "1.2.3".into(),
        component: "backend".into(),
        fdb_api_version: 730,
        format: 1,
    };
    rest.backend.answers("system.v1.SystemService/Version", [version]);
    assert_eq!(
        rest.get("/version/").await.text(),
        r#"{"version":"1.2.3","component":"backend","fdb_api_version":730}"#
    );
    let check = |name: &str, ok, message: &str| system::v1::Check {
        name: name.into(),
        ok,
        message: message.into(),
        required: true,
    };
    let checks = vec![check("store", true, ""), check("control_log", true, ""), check("log", false, "full")];
    rest.backend.answers(
        "system.v1.SystemService/Readiness",
        [system::v1::ReadinessResponse { ready: false, checks }],
    );
    let request = Request::get("/health/ready/").body(Body::empty()).unwrap();
    let response = rest.edge.answer(request).await;
    assert_eq!(response.status(), 503);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "status": "degraded",
            "checks": {"fdb": "ok", "kafka": {"control_producer": true, "ingestion_producer": false}},
        })
    );
}

/// They may take 64 MiB, and may be read slowly.
#[tokio::test]
async fn merged_params_are_sent_as_they_arrive() {
    let rest = Rest::new();
    let params = params();
    let first = project::v1::ParamsResponse { params: params[..8].to_vec().into(), ..Default::default() };
    let _gone = rest.backend.answers_and_holds("project.v1.ProjectService/Params", [first]);
    let request = Request::get("/api/v1/rest/projects/params/").body(Body::empty()).unwrap();
    let mut answer = rest.edge.answer(request).await;
    assert_eq!(answer.status(), 200);
    let piece = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(piece.starts_with(br#"{"params":{"lr":"#), "{piece:?}");
}
