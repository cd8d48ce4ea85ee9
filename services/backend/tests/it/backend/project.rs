//! The project: name, activity, merged params, pinned sequences.

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    limits,
    project::v1::{project_service_client::ProjectServiceClient, *},
    runs::v1 as runs,
};
use tonic::service::Routes;

use crate::backend::harness::{BEGIN_US, Harness, create, experiment, params, wrong_field};

type Client = ProjectServiceClient<Routes>;

/// Joins all messages of a response.
async fn merged(client: &mut Client, request: ParamsRequest) -> ParamsResponse {
    let mut messages = client.params(request).await.unwrap().into_inner();
    let mut params: Vec<u8> = Vec::new();
    let mut types: Vec<TypeNames> = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        assert!(message.params.len() <= 1 << 20 && (message.params.is_empty() || types.is_empty()));
        params.extend_from_slice(&message.params);
        for more in message.types {
            match types.last_mut().filter(|last| last.r#type == more.r#type) {
                None => types.push(more),
                Some(last) => {
                    for name in more.names {
                        match last.names.last_mut().filter(|last| last.name == name.name) {
                            Some(last) => last.contexts.extend(name.contexts),
                            None => last.names.push(name),
                        }
                    }
                }
            }
        }
    }
    ParamsResponse { params: params.into(), types, ..ParamsResponse::default() }
}

#[tokio::test]
async fn a_project_has_a_name_and_pinned_sequences() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let info = client.get(GetRequest::default()).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.description.as_str()), ("My project", ""));
    let update = UpdateRequest { name: Some("ours".into()), ..Default::default() };
    client.update(update).await.unwrap();
    let update = UpdateRequest { description: Some("what".into()), ..Default::default() };
    let info = client.update(update).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.description.as_str()), ("ours", "what"));
    let key = |name: &str, context: &str| SeriesKey { name: name.into(), context: context.into() };
    let sequences = vec![key("loss", r#"{"b": 1, "a": null}"#), key("acc", "")];
    let stored = vec![key("loss", r#"{"a":null,"b":1}"#), key("acc", "{}")];
    let set = SetPinnedSequencesRequest { sequences, if_updated_us: None };
    assert_eq!(client.set_pinned_sequences(set).await.unwrap().into_inner().sequences, stored);
    let get = GetPinnedSequencesRequest {};
    assert_eq!(client.get_pinned_sequences(get).await.unwrap().into_inner().sequences, stored);
    let set = |sequences| SetPinnedSequencesRequest { sequences, if_updated_us: None };
    wrong_field(client.set_pinned_sequences(set(vec![key("x", "[1")])).await, "context");
    wrong_field(
        client.set_pinned_sequences(set(vec![key("x", ""); limits::PINNED_SEQUENCES + 1])).await,
        "sequences",
    );
    assert_eq!(client.get_pinned_sequences(get).await.unwrap().into_inner().sequences, stored);
    assert!(client.set_pinned_sequences(set(Vec::new())).await.unwrap().into_inner().sequences.is_empty());
    assert!(client.status(StatusRequest {}).await.unwrap().into_inner().up_to_date);
    harness.end().await;
}

#[tokio::test]
async fn activity_is_counted_and_params_are_merged() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.log("r1", [create(), experiment("e"), params(r#"{"h":{"lr":1,"bs":null}}"#)]).await;
    harness.log_points("r1", &[("loss", r#"{"x":1}"#, &[1.0]), ("acc", "", &[1.0])]).await;
    harness.applied().await;
    harness
        .log(
            "r2",
            [create(), params(r#"{"h":{"lr":0.5,"z":[1]}}"#), params(r#"{"__system_params":{"a":1}}"#)],
        )
        .await;
    harness.log_points("r2", &[("loss", r#"{"x":1}"#, &[1.0]), ("loss", r#"{"x":true}"#, &[1.0])]).await;
    harness.log("gone", [create(), params(r#"{"gone":1}"#)]).await;
    harness.applied().await;
    let mut of_runs = runs::run_service_client::RunServiceClient::new(harness.routes());
    of_runs.delete(runs::DeleteRequest { run_id: "gone".into() }).await.unwrap();
    let archive = runs::ArchiveBatchRequest { run_ids: vec!["r1".into()], archived: true };
    of_runs.archive_batch(archive).await.unwrap();

    let activity = client.activity(ActivityRequest { timezone_offset_min: 60 }).await.unwrap().into_inner();
    assert_eq!((activity.experiment_count, activity.run_count), (1, 2));
    assert_eq!((activity.archived_run_count, activity.active_run_count), (1, 2));
    let hour = (BEGIN_US / 1_000_000 - 3_600) / 3_600 * 3_600;
    assert_eq!((activity.hours[0].local_s, activity.hours[0].runs), (hour, 2));

    let merged = merged(&mut client, ParamsRequest::default()).await;
    let text = r#"{"h":{"bs":null,"lr":0.5,"z":[1]}}"#;
    assert_eq!(merged.params, matyan_value::cbor::encode(&matyan_value::json::parse(text).unwrap()));
    assert_eq!(merged.types.len(), 8);
    let metrics = &merged.types[0];
    assert_eq!(metrics.r#type(), SeriesType::Metric);
    let loss = metrics.names.iter().find(|name| name.name == "loss").unwrap();
    assert_eq!(loss.contexts, [r#"{"x":1}"#, r#"{"x":true}"#]);
    assert_eq!(metrics.names.len(), 2);
    let request = ParamsRequest { types: vec![SeriesType::Figures.into()], exclude_params: true };
    let figures = self::merged(&mut client, request).await;
    assert!(figures.params.is_empty() && figures.types.len() == 1 && figures.types[0].names.is_empty());
    wrong_field(client.params(ParamsRequest { types: vec![99], exclude_params: true }).await, "types");

    let find = |text: &str| FindColumnsRequest {
        text: text.into(),
        types: vec![SeriesType::Metric.into(), SeriesType::Images.into()],
        ..Default::default()
    };
    let found = client.find_columns(find("h.")).await.unwrap().into_inner();
    let paths: Vec<_> = found.params.iter().map(|path| path.segments.join("/")).collect();
    assert_eq!((paths, found.param_count), (vec!["h/bs".to_owned(), "h/lr".into(), "h/z".into()], 3));
    assert!(found.series.is_empty());
    let found = client.find_columns(find("TRUE loss")).await.unwrap().into_inner();
    let series: Vec<_> = found.series.iter().map(|it| (it.r#type(), &*it.name, &*it.context)).collect();
    assert_eq!(series, [(SeriesType::Metric, "loss", r#"{"x":true}"#)]);
    assert_eq!((found.param_count, found.series_count), (0, 1));
    let one = FindColumnsRequest { limit: 1, exclude_params: true, ..find("") };
    let found = client.find_columns(one).await.unwrap().into_inner();
    assert_eq!((found.params.len(), found.series.len(), found.series_count), (0, 1, 3));
    wrong_field(client.find_columns(FindColumnsRequest { types: vec![99], ..find("") }).await, "types");
    harness.end().await;
}
