//! Changes that must not overwrite others, and creates that are repeated.

use matyan_proto::{
    apps::v1::{self as apps, app_service_client::AppServiceClient},
    common::v1::SeriesKey,
    dashboards::v1::{self as dashboards, dashboard_service_client::DashboardServiceClient},
    experiments::v1::{self as experiments, experiment_service_client::ExperimentServiceClient},
    notes::v1::{self as notes, note_service_client::NoteServiceClient},
    project::v1::{self as project, project_service_client::ProjectServiceClient},
    reports::v1::{self as reports, report_service_client::ReportServiceClient},
    runs::v1::{self as runs, run_service_client::RunServiceClient},
    tags::v1::{self as tags, tag_service_client::TagServiceClient},
};
use tonic::{Code, Response, Status};

use crate::backend::{
    harness::{Harness, all, failure, wrong_field},
    projects::of,
};

const REQUEST_ID: &str = "0b9c3f5e-6a0f-4a52-8f6b-9d1a";

/// A refused change says which resource has changed, and to what version.
#[track_caller]
fn changed<T>(response: Result<Response<T>, Status>, resource: &str, id: &str, updated_us: i64) {
    let status = response.map(|_| ()).unwrap_err();
    let message = status.message();
    assert!(message.contains(" was changed at 20") && message.contains("read it again"), "{message}");
    let (code, reason, mut metadata) = failure(Err::<(), _>(status));
    metadata.sort_unstable();
    let updated_us = updated_us.to_string();
    let expected = [("id", id), ("resource", resource), ("updated_us", updated_us.as_str())];
    assert_eq!((code, reason.as_str()), (Code::Aborted, "CHANGED"));
    assert_eq!(metadata, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

/// Two tabs read an entity, and both change it: the second one is refused until it has read the
/// change of the first. Versions increase even if the clock is set back.
macro_rules! two_tabs {
    ($harness:ident, $client:ident, $module:ident, $field:ident, $resource:literal, $made:expr, $change:expr) => {{
        let mut client = $client::new($harness.routes());
        let made = client.create($made).await.unwrap().into_inner().$field.unwrap();
        let update = |text: &str, if_updated_us: Option<i64>| {
            let id = made.id.clone();
            let change: $module::UpdateRequest = $change(text.to_owned());
            $module::UpdateRequest { id, if_updated_us, ..change }
        };
        let read: i64 = Option::from(made.updated_us).unwrap();
        $harness.advance_clock(-60);
        let first = client.update(update("first", Some(read))).await.unwrap().into_inner().$field.unwrap();
        let now: i64 = Option::from(first.updated_us).unwrap();
        assert!(now > read, "{} is a new version", $resource);
        changed(client.update(update("second", Some(read))).await, $resource, &made.id, now);
        let kept = client.update(update("second", Some(now))).await.unwrap().into_inner().$field.unwrap();
        assert!(Option::<i64>::from(kept.updated_us).unwrap() > now);
        client.update(update("without a condition", None)).await.unwrap();
    }};
}

#[tokio::test]
async fn two_tabs_do_not_overwrite_each_other() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let state = bytes::Bytes::from_static(&[0xa0]);
    two_tabs!(
        harness,
        AppServiceClient,
        apps,
        app,
        "app",
        apps::CreateRequest { r#type: "t".into(), state, ..Default::default() },
        |text| apps::UpdateRequest { r#type: Some(text), ..Default::default() }
    );
    two_tabs!(
        harness,
        DashboardServiceClient,
        dashboards,
        dashboard,
        "dashboard",
        dashboards::CreateRequest::default(),
        |text| dashboards::UpdateRequest { name: Some(text), ..Default::default() }
    );
    two_tabs!(
        harness,
        ReportServiceClient,
        reports,
        report,
        "report",
        reports::CreateRequest::default(),
        |text| reports::UpdateRequest { code: Some(text), ..Default::default() }
    );
    two_tabs!(
        harness,
        TagServiceClient,
        tags,
        tag,
        "tag",
        tags::CreateRequest { name: "t".into(), ..Default::default() },
        |text| tags::UpdateRequest { description: Some(text), ..Default::default() }
    );
    two_tabs!(
        harness,
        ExperimentServiceClient,
        experiments,
        experiment,
        "experiment",
        experiments::CreateRequest { name: "e".into(), ..Default::default() },
        |text| experiments::UpdateRequest { description: Some(text), ..Default::default() }
    );
    let owner = Some(notes::Owner { kind: Some(notes::owner::Kind::RunId("r".into())) });
    two_tabs!(
        harness,
        NoteServiceClient,
        notes,
        note,
        "note",
        notes::CreateRequest { owner: owner.clone(), content: "c".into(), ..Default::default() },
        |content| notes::UpdateRequest { owner: owner.clone(), content, ..Default::default() }
    );
    harness.end().await;
}

#[tokio::test]
async fn two_tabs_do_not_overwrite_the_properties_of_a_run() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    let mut client = RunServiceClient::new(harness.routes());
    let read = async || {
        let parts = Some(runs::RunParts { props: true, ..Default::default() });
        let request = runs::GetRequest { run_id: "r".into(), parts };
        let mut client = RunServiceClient::new(harness.routes());
        client.get(request).await.unwrap().into_inner().run.unwrap().props.unwrap()
    };
    let update = |name: &str, if_updated_us| runs::UpdateRequest {
        run_id: "r".into(),
        name: Some(name.into()),
        if_updated_us,
        ..Default::default()
    };
    let before = read().await.updated_us;
    harness.advance_clock(-60);
    let first = client.update(update("first", Some(before))).await.unwrap().into_inner().updated_us;
    assert_eq!((read().await.updated_us, first > before), (first, true));
    changed(client.update(update("second", Some(before))).await, "run", "r", first);
    assert_eq!(read().await.name, "first");
    let same = client.update(update("first", Some(first))).await.unwrap().into_inner().updated_us;
    assert_eq!(same, first, "without a change, the version stays");

    // Changes of tags are changes, and so are changes of the run itself.
    let tag = runs::AddTagRequest { run_id: "r".into(), name: "t".into() };
    client.add_tag(tag).await.unwrap();
    let tagged = read().await.updated_us;
    changed(client.update(update("second", Some(first))).await, "run", "r", tagged);
    let second = client.update(update("second", Some(tagged))).await.unwrap().into_inner().updated_us;
    harness.log_points("r", &[("m", "", &[1.0])]).await;
    harness.applied().await;
    client.update(update("third", Some(second))).await.unwrap();
    harness.end().await;
}

/// A macro, because the services have no type in common. Creates twice with one request id, then with
/// other fields, then with another id, and returns how many were made.
macro_rules! made {
    ($harness:ident, $client:ident, $field:ident, $request:expr, $other:expr) => {{
        let mut client = $client::new($harness.routes());
        let with = |request_id: &str| {
            let mut request = $request;
            request.request_id = request_id.to_owned();
            request
        };
        let first = client.create(with(REQUEST_ID)).await.unwrap().into_inner().$field.unwrap();
        $harness.advance_clock(3_600);
        let again = client.create(with(REQUEST_ID)).await.unwrap().into_inner().$field.unwrap();
        assert_eq!(again, first);
        let concurrent = futures::future::join_all((0..8).map(|_| {
            let mut client = $client::new($harness.routes());
            let request = with("another request id");
            async move { client.create(request).await.unwrap().into_inner().$field.unwrap().id }
        }))
        .await;
        assert!(concurrent.iter().all(|id| *id == concurrent[0] && *id != first.id), "{concurrent:?}");
        let mut other = $other;
        other.request_id = REQUEST_ID.to_owned();
        let other = client.create(other).await.unwrap().into_inner().$field.unwrap();
        assert_ne!(other.id, first.id, "other fields are another create");
        for wrong in ["short", &"x".repeat(129)] {
            wrong_field(client.create(with(wrong)).await, "request_id");
        }
        let unnamed = [with(""), with("")];
        for request in unnamed {
            client.create(request).await.unwrap();
        }
        client
    }};
}

#[tokio::test]
async fn a_repeated_create_creates_once() {
    let harness = Harness::new().await;
    harness.create(&["r"]).await;
    // Three with a request id, and two without.
    let reports = |name: &str| reports::CreateRequest { name: name.into(), ..Default::default() };
    let mut client = made!(harness, ReportServiceClient, report, reports("a"), reports("b"));
    let listed = all(client.list(reports::ListRequest {}).await.unwrap()).await;
    assert_eq!(listed.iter().map(|message| message.reports.len()).sum::<usize>(), 5);

    let dashboards = |name: &str| dashboards::CreateRequest { name: name.into(), ..Default::default() };
    let mut client = made!(harness, DashboardServiceClient, dashboard, dashboards("a"), dashboards("b"));
    let listed = all(client.list(dashboards::ListRequest {}).await.unwrap()).await;
    assert_eq!(listed.iter().map(|message| message.dashboards.len()).sum::<usize>(), 5);

    let state = bytes::Bytes::from_static(&[0xa0]);
    let apps =
        |text: &str| apps::CreateRequest { r#type: text.into(), state: state.clone(), ..Default::default() };
    let mut client = made!(harness, AppServiceClient, app, apps("a"), apps("b"));
    let listed = all(client.list(apps::ListRequest::default()).await.unwrap()).await;
    assert_eq!(listed.iter().map(|message| message.apps.len()).sum::<usize>(), 5);

    let owner = Some(notes::Owner { kind: Some(notes::owner::Kind::RunId("r".into())) });
    let notes = |content: &str| notes::CreateRequest {
        owner: owner.clone(),
        content: content.into(),
        ..Default::default()
    };
    let mut client = made!(harness, NoteServiceClient, note, notes("a"), notes("b"));
    let listed = all(client.list(notes::ListRequest { owner: owner.clone() }).await.unwrap()).await;
    assert_eq!(listed.iter().map(|message| message.notes.len()).sum::<usize>(), 5);
    harness.end().await;
}

#[tokio::test]
async fn two_tabs_do_not_overwrite_the_project_or_its_pinned_sequences() {
    let harness = Harness::new().await;
    harness.create_project("other").await;
    for project in ["", "other"] {
        let mut client = ProjectServiceClient::new(harness.routes());
        let update = |name: &str, if_updated_us| {
            of(project, project::UpdateRequest { name: Some(name.into()), description: None, if_updated_us })
        };
        let read =
            client.get(of(project, project::GetRequest::default())).await.unwrap().into_inner().updated_us;
        harness.advance_clock(-60);
        let first = client.update(update("first", Some(read))).await.unwrap().into_inner().updated_us;
        assert!(first > read);
        changed(client.update(update("second", Some(read))).await, "project", project, first);
        let shown = client.get(of(project, project::GetRequest::default())).await.unwrap().into_inner();
        assert_eq!((shown.name.as_str(), shown.updated_us), ("first", first));

        let pin = |name: &str, if_updated_us| {
            let sequences = vec![SeriesKey { name: name.into(), ..SeriesKey::default() }];
            of(project, project::SetPinnedSequencesRequest { sequences, if_updated_us })
        };
        let pinned = async || {
            let request = of(project, project::GetPinnedSequencesRequest {});
            let found = ProjectServiceClient::new(harness.routes()).get_pinned_sequences(request).await;
            let found = found.unwrap().into_inner();
            (found.sequences.into_iter().map(|key| key.name).collect::<Vec<_>>(), found.updated_us)
        };
        assert_eq!(pinned().await, (Vec::new(), 0));
        let first = client.set_pinned_sequences(pin("first", Some(0))).await.unwrap().into_inner().updated_us;
        let resource = "list of pinned sequences of project";
        changed(client.set_pinned_sequences(pin("second", Some(0))).await, resource, project, first);
        assert_eq!(pinned().await, (vec!["first".to_owned()], first));
        client.set_pinned_sequences(pin("second", Some(first))).await.unwrap();
        client.set_pinned_sequences(pin("without a condition", None)).await.unwrap();
        // Each of the two has its own version.
        let kept = update("second", Some(shown.updated_us));
        client.update(kept).await.unwrap();
        assert_eq!(pinned().await.0, ["without a condition"]);
    }
    harness.end().await;
}
