//! State saved by the UI: dashboards, apps, reports.

use matyan_proto::{apps::v1 as apps, dashboards::v1 as dashboards, limits, reports::v1 as reports};

use crate::backend::harness::{Harness, all, not_found, wrong_field};

fn state(json: &str) -> bytes::Bytes {
    matyan_value::cbor::encode(&matyan_value::json::parse(json).unwrap()).into()
}

#[tokio::test]
async fn dashboards_refer_to_apps() {
    let harness = Harness::new().await;
    let mut of_apps = apps::app_service_client::AppServiceClient::new(harness.routes());
    let mut client = dashboards::dashboard_service_client::DashboardServiceClient::new(harness.routes());
    let text = r#"{"a":null,"b":[1,1.0,-0.0,{"c":123456789012345678901234567890}],"d":{}}"#;
    let request = apps::CreateRequest { r#type: "metrics".into(), state: state(text), ..Default::default() };
    let app = of_apps.create(request).await.unwrap().into_inner().app.unwrap();
    assert_eq!(app.state, state(text), "the state is unchanged");
    let mut made = Vec::new();
    for (name, app_id) in [("first", app.id.clone()), ("second", "no app".to_owned())] {
        let request = dashboards::CreateRequest { name: name.into(), app_id, ..Default::default() };
        made.push(client.create(request).await.unwrap().into_inner().dashboard.unwrap());
    }
    assert_eq!((made[0].app_type.as_str(), made[1].app_type.as_str()), ("metrics", ""));
    let list = async || {
        let mut client = dashboards::dashboard_service_client::DashboardServiceClient::new(harness.routes());
        let listed = all(client.list(dashboards::ListRequest {}).await.unwrap()).await;
        listed.into_iter().flat_map(|message| message.dashboards).collect::<Vec<_>>()
    };
    assert_eq!(list().await, made, "oldest first");
    let id = made[0].id.clone();
    let update = dashboards::UpdateRequest { id: id.clone(), name: Some("new".into()), ..Default::default() };
    let changed = client.update(update).await.unwrap().into_inner().dashboard.unwrap();
    assert_eq!(changed.name, "new");
    for _ in 0..2 {
        client.delete(dashboards::DeleteRequest { id: id.clone() }).await.unwrap();
    }
    assert_eq!(list().await, made[1..]);
    of_apps.delete(apps::DeleteRequest { id: app.id.clone() }).await.unwrap();
    let hidden = client.get(dashboards::GetRequest { id }).await.unwrap().into_inner().dashboard.unwrap();
    assert_eq!((hidden.name.as_str(), hidden.app_type.as_str()), ("new", ""));
    not_found(client.get(dashboards::GetRequest { id: "x".into() }).await, "dashboard", "x");
    not_found(client.delete(dashboards::DeleteRequest { id: "x".into() }).await, "dashboard", "x");
    harness.end().await;
}

#[tokio::test]
async fn apps_keep_their_state() {
    let harness = Harness::new().await;
    let mut client = apps::app_service_client::AppServiceClient::new(harness.routes());
    let create = |state| apps::CreateRequest { r#type: "metrics".into(), state, ..Default::default() };
    let app = client.create(create(state("{}"))).await.unwrap().into_inner().app.unwrap();
    let update = |state| apps::UpdateRequest { id: app.id.clone(), state: Some(state), ..Default::default() };
    let changed = client.update(update(state(r#"{"x":1}"#))).await.unwrap().into_inner().app.unwrap();
    assert_eq!((changed.r#type.as_str(), changed.state), ("metrics", state(r#"{"x":1}"#)));
    wrong_field(client.create(create(state("[]"))).await, "state");
    wrong_field(client.update(update(bytes::Bytes::from_static(b"\xff"))).await, "state");
    let large = state(&format!(r#"{{"x":"{}"}}"#, "y".repeat(limits::DOCUMENT_BYTES)));
    wrong_field(client.update(update(large)).await, "state");
    let large = state(&format!(r#"{{"x":"{}"}}"#, "y".repeat(500_000)));
    assert_eq!(client.update(update(large.clone())).await.unwrap().into_inner().app.unwrap().state, large);
    client.delete(apps::DeleteRequest { id: app.id.clone() }).await.unwrap();
    not_found(client.delete(apps::DeleteRequest { id: app.id.clone() }).await, "app", &app.id);
    let listed = all(client.list(apps::ListRequest::default()).await.unwrap()).await;
    assert!(listed.iter().all(|message| message.apps.is_empty()));
    harness.end().await;
}

/// More than fits in one message, or into memory while the list is sorted.
#[tokio::test]
async fn a_long_list_is_sent_completely() {
    let harness = Harness::new().await;
    let mut client = apps::app_service_client::AppServiceClient::new(harness.routes());
    let mut made = Vec::new();
    for at in 0..20 {
        let text = format!(r#"{{"x":"{}"}}"#, "y".repeat(limits::DOCUMENT_BYTES - 100 - at));
        let request =
            apps::CreateRequest { r#type: at.to_string(), state: state(&text), ..Default::default() };
        made.push(client.create(request).await.unwrap().into_inner().app.unwrap());
    }
    let mut client = client.max_decoding_message_size(4 << 20);
    let listed = all(client.list(apps::ListRequest::default()).await.unwrap()).await;
    assert!(listed.len() > 5, "{} messages", listed.len());
    let listed: Vec<_> = listed.into_iter().flat_map(|message| message.apps).collect();
    assert!(listed == made, "apps are listed oldest first and unchanged");
    let types = vec!["2".to_owned(), "0".to_owned(), "none".to_owned()];
    let found = all(client.list(apps::ListRequest { types }).await.unwrap()).await;
    let types: Vec<_> = found.into_iter().flat_map(|message| message.apps).map(|app| app.r#type).collect();
    assert_eq!(types, ["0", "2"]);
    let many = apps::ListRequest { types: vec![String::new(); 101] };
    wrong_field(client.list(many).await, "types");
    harness.end().await;
}

#[tokio::test]
async fn reports_are_pages_of_text() {
    let harness = Harness::new().await;
    let mut client = reports::report_service_client::ReportServiceClient::new(harness.routes());
    let create = reports::CreateRequest { name: "r".into(), code: "# größe".into(), ..Default::default() };
    let report = client.create(create.clone()).await.unwrap().into_inner().report.unwrap();
    client.create(create).await.unwrap();
    let update = reports::UpdateRequest {
        id: report.id.clone(),
        code: Some("x".repeat(300_000)),
        ..Default::default()
    };
    let changed = client.update(update).await.unwrap().into_inner().report.unwrap();
    assert_eq!((changed.name.as_str(), changed.code.len()), ("r", 300_000));
    let listed = all(client.list(reports::ListRequest {}).await.unwrap()).await;
    let listed: Vec<_> = listed.into_iter().flat_map(|message| message.reports).collect();
    assert_eq!((listed.len(), listed[0].id.as_str()), (2, report.id.as_str()));
    let long = reports::UpdateRequest {
        id: report.id.clone(),
        code: Some("x".repeat(limits::DOCUMENT_BYTES + 1)),
        ..Default::default()
    };
    wrong_field(client.update(long).await, "code");
    client.delete(reports::DeleteRequest { id: report.id.clone() }).await.unwrap();
    not_found(client.get(reports::GetRequest { id: report.id.clone() }).await, "report", &report.id);
    not_found(
        client.update(reports::UpdateRequest { id: report.id.clone(), ..Default::default() }).await,
        "report",
        &report.id,
    );
    harness.end().await;
}
