//! Lists of objects at one step, read by index range and thinned out. No client logs such
//! lists, but imported runs contain them. And the contexts of sequences.

use matyan_model::{
    ids::{Project, RunId, SeriesNumber},
    object::{Object as Row, ObjectValue, object_put},
    run::head_live,
};
use matyan_proto::{
    common::v1::{IndexRange, PathValue, SeriesKey, SeriesType, StepRange, path_value::Value as Typed},
    ingest::v1::{LogObject, event},
    objects::v1::{object::Kind, object_service_client::ObjectServiceClient, *},
    search::v1::{ObjectsRequest, Query, search_service_client::SearchServiceClient},
};
use matyan_store::{Error, Transaction, transact};
use matyan_value::{cbor, json};

use crate::backend::harness::{Harness, all, create};

fn encoded(text: &str) -> Vec<u8> {
    cbor::encode(&json::parse(text).unwrap())
}

/// A run with texts: one at step 0, and the given ones at step 1.
async fn harness(texts: &[&str]) -> Harness {
    let harness = Harness::new().await;
    let text = |step| {
        let value = encoded(r#"{"data":"alone"}"#).into();
        event::Kind::LogObject(LogObject {
            name: "txt".into(),
            dtype: "text".into(),
            step: Some(step),
            value,
            ..LogObject::default()
        })
    };
    harness.log("r", [create(), text(0), text(1)]).await;
    harness.applied().await;
    let objects: Vec<_> = texts.iter().map(|text| format!(r#"{{"data":"{text}"}}"#)).collect();
    let value = ObjectValue::Inline(encoded(&format!("[{}]", objects.join(","))).into());
    transact(&*harness.store, async |mut transaction: Transaction| {
        let run = head_live(transaction.unchecked(), Project::default(), &RunId::new("r")).await.unwrap();
        let row = Row { step: 1, epoch: None, time_us: 0, value: value.clone() };
        object_put(transaction.batch(), Project::default(), run.unwrap(), SeriesNumber(0), &row);
        Ok::<_, Error>((transaction, ()))
    })
    .await
    .unwrap();
    harness
}

fn shown(step: &Step) -> Vec<(u32, &str)> {
    let text = |object: &Object| match &object.kind {
        Some(Kind::Text(text)) => text.data.clone(),
        other => panic!("{other:?}"),
    };
    let names = ["a", "b", "c", "d", "e", "alone"];
    let name = |text: &str| names.into_iter().find(|name| *name == text).unwrap();
    step.objects.iter().map(|object| (object.index, name(&text(object)))).collect()
}

#[tokio::test]
async fn objects_of_a_list_are_read_by_range_and_density() {
    let harness = harness(&["a", "b", "c", "d", "e"]).await;
    let mut client = ObjectServiceClient::new(harness.routes());
    let key = SeriesKey { name: "txt".into(), ..SeriesKey::default() };
    let selection = |start, stop, index_density| Selection {
        index_range: Some(IndexRange { start, stop }),
        index_density,
        ..Selection::default()
    };
    // Objects keep their index in the whole list.
    for (selection, expected) in [
        (Selection::default(), vec![(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]),
        (selection(Some(1), Some(4), 0), vec![(1, "b"), (2, "c"), (3, "d")]),
        (selection(Some(3), None, 0), vec![(3, "d"), (4, "e")]),
        (selection(None, Some(2), 5), vec![(0, "a"), (1, "b")]),
        (selection(Some(2), Some(2), 0), vec![]),
        (selection(Some(9), None, 3), vec![]),
        (selection(None, None, 3), vec![(0, "a"), (2, "c"), (4, "e")]),
        (selection(None, None, 2), vec![(0, "a"), (4, "e")]),
        (selection(Some(1), None, 1), vec![(1, "b")]),
        // Halves are rounded to even.
        (selection(Some(1), None, 3), vec![(1, "b"), (3, "d"), (4, "e")]),
    ] {
        let request = StepRequest {
            run_id: "r".into(),
            r#type: SeriesType::Texts.into(),
            sequences: vec![key.clone()],
            step: Some(1),
            index_range: selection.index_range,
            index_density: selection.index_density,
        };
        let responses = all(client.step(request).await.unwrap()).await;
        let sequence = responses[0].sequence.as_ref().unwrap();
        assert_eq!(shown(&sequence.steps[0]), expected, "{selection:?}");
        assert_eq!((sequence.steps[0].object_count, sequence.index_total), (5, 5));

        let request = BatchRequest {
            run_id: "r".into(),
            r#type: SeriesType::Texts.into(),
            sequences: vec![key.clone()],
            selection: Some(selection),
        };
        let responses = all(client.batch(request).await.unwrap()).await;
        let steps: Vec<_> = responses.iter().flat_map(|it| &it.sequence.as_ref().unwrap().steps).collect();
        assert_eq!(steps.iter().map(|step| step.object_count).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(shown(steps[1]), expected, "{selection:?}");
    }
    harness.end().await;
}

/// The response of the old backend, as recorded for the first two of three texts at step 1.
#[tokio::test]
async fn step_range_and_index_range_apply_independently() {
    let harness = harness(&["a", "b", "c"]).await;
    let selection = Selection {
        record_range: Some(StepRange { start: Some(1), stop: Some(2) }),
        record_density: 50,
        index_range: Some(IndexRange { start: Some(0), stop: Some(2) }),
        index_density: 5,
    };
    let request = BatchRequest {
        run_id: "r".into(),
        r#type: SeriesType::Texts.into(),
        sequences: vec![SeriesKey { name: "txt".into(), ..SeriesKey::default() }],
        selection: Some(selection),
    };
    let responses = all(ObjectServiceClient::new(harness.routes()).batch(request).await.unwrap()).await;
    let sequence = responses[0].sequence.as_ref().unwrap();
    assert_eq!(sequence.steps.iter().map(|step| step.step).collect::<Vec<_>>(), [1]);
    assert_eq!(shown(&sequence.steps[0]), [(0, "a"), (1, "b")]);
    assert_eq!(sequence.index_total, 3);
    assert_eq!(sequence.record_range_total, Some(StepRange { start: Some(0), stop: Some(2) }));
    harness.end().await;
}

/// In every message, because each may be read alone.
#[tokio::test]
async fn a_sequence_has_its_context_as_typed_values() {
    let harness = Harness::new().await;
    let context = r#"{"epoch":3,"of":{"subset":"val"},"rate":0.5,"shuffled":true}"#;
    let object = LogObject {
        name: "txt".into(),
        context: context.into(),
        dtype: "text".into(),
        step: Some(0),
        value: encoded(r#"{"data":"a"}"#).into(),
        ..LogObject::default()
    };
    harness.log("r", [create(), event::Kind::LogObject(object)]).await;
    harness.applied().await;
    let run_id = "r".to_owned();
    let r#type = SeriesType::Texts.into();
    let sequences = vec![SeriesKey { name: "txt".into(), context: context.into() }];
    let batch =
        BatchRequest { run_id: run_id.clone(), r#type, sequences: sequences.clone(), selection: None };
    let mut client = ObjectServiceClient::new(harness.routes());
    let batch = all(client.batch(batch).await.unwrap()).await.remove(0).sequence.unwrap();
    let step = StepRequest { run_id, r#type, sequences, ..StepRequest::default() };
    let step = all(client.step(step).await.unwrap()).await.remove(0).sequence.unwrap();
    let query = Some(Query { text: "texts.name == 'txt'".into(), ..Query::default() });
    let search = ObjectsRequest { query, r#type, ..ObjectsRequest::default() };
    let found = SearchServiceClient::new(harness.routes()).objects(search).await.unwrap();
    let mut runs = all(found).await.into_iter().flat_map(|message| message.runs);
    let found = runs.next().unwrap().sequences.remove(0);
    let value = |path: &[&str], value| PathValue {
        path: path.iter().map(|key| (*key).to_owned()).collect(),
        value: Some(value),
    };
    let expected = [
        value(&["epoch"], Typed::Integer(3)),
        value(&["of", "subset"], Typed::Text("val".into())),
        value(&["rate"], Typed::Number(0.5)),
        value(&["shuffled"], Typed::Flag(true)),
    ];
    for sequence in [batch, step, found] {
        assert_eq!((sequence.context.as_str(), &sequence.context_values[..]), (context, &expected[..]));
    }
    harness.end().await;
}
