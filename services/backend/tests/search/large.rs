//! What is larger than a message: runs of very many series, long series, sequences of large objects. All of it arrives, in
//! pieces that fit.

use matyan_model::{
    cbor,
    context::Context as SeriesContext,
    ids::{RunNumber, SeriesNumber},
    metric::metric_series_create,
    object::{BlobRef, Object, ObjectHeader, ObjectValue, object_header_put, object_put},
    series::Header,
    value::Value,
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    limits::MESSAGE_BYTES,
    objects::v1::{BatchRequest, Selection, object_service_client::ObjectServiceClient},
    runs::v1::{GetRequest, ListRequest, run_service_client::RunServiceClient},
    search::v1::{MetricsRequest, ObjectsRequest, metrics_request::Points},
    series::v1::{
        PointColumns, PointsRequest, RunSelection, SampleRequest, SeriesPoints,
        series_service_client::SeriesServiceClient,
    },
};

use crate::world::{self, P, Sequence, Spec, World, map, spec};

fn sequence(name: &str, dtype: &str, points: Vec<(i64, f64)>) -> Sequence {
    Sequence { name: name.into(), context: map("{}"), dtype: dtype.into(), points }
}

/// Series with names of a kilobyte: 20 MB of them.
async fn widen(world: &World, number: RunNumber) {
    for part in 0..20 {
        world
            .transact(async |transaction| {
                for at in part * 1_000..(part + 1) * 1_000 {
                    let context = SeriesContext::new(&map("{}"));
                    let header = Header {
                        name: format!("{at:05}{}", "n".repeat(995)),
                        context: context.stored().to_owned(),
                        dtype: "float".into(),
                    };
                    let (series, digest) = (SeriesNumber(at), context.digest());
                    metric_series_create(transaction.batch(), P, number, series, &header, &digest);
                }
                Ok(())
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wide_run_hides_no_others() {
    let world = World::new().await;
    world.create(&spec("small", 1)).await;
    let number = world.create(&spec("wide", 2)).await;
    widen(&world, number).await;
    world.create(&spec("last", 3)).await;
    let request = matyan_proto::search::v1::RunsRequest { parts: world::all_parts(), ..world::of("") };
    let mut client = world.search().max_decoding_message_size(MESSAGE_BYTES);
    let mut messages = client.runs(request).await.unwrap().into_inner();
    let (mut ids, mut series, mut is_open) = (Vec::new(), 0, false);
    while let Some(message) = messages.message().await.unwrap() {
        for run in message.runs {
            if !is_open {
                ids.push(run.run_id.clone());
            }
            assert_eq!(Some(&run.run_id), ids.last(), "a run goes on before the next begins");
            series += run.series.len();
            is_open = run.more_series;
        }
    }
    assert_eq!((ids, series, is_open), (vec!["last".into(), "wide".into(), "small".into()], 20_000, false));
    let client = RunServiceClient::new(world.backend.clone().into_routes());
    let mut client = client.max_decoding_message_size(MESSAGE_BYTES);
    let request = GetRequest { run_id: "wide".into(), parts: world::all_parts() };
    let run = client.get(request).await.unwrap().into_inner().run.unwrap();
    assert!(run.more_series && !run.series.is_empty());
    let request = ListRequest { parts: world::all_parts(), ..ListRequest::default() };
    assert_eq!(
        client.list(request).await.unwrap().into_inner().runs.len(),
        2,
        "a page ends behind a large run"
    );
}

fn long() -> Spec {
    let mut run = spec("long", 1);
    run.sequences.push(sequence(
        "loss",
        "float",
        (0..200_000).map(|step| (step, step as f64 / 2.0)).collect(),
    ));
    run.sequences.push(sequence(
        "x",
        "float",
        (0..200_000).step_by(3).map(|step| (step, -(step as f64))).collect(),
    ));
    run
}

/// Pieces of one series put together; the first of them tells what it is.
fn joined(pieces: impl IntoIterator<Item = SeriesPoints>) -> SeriesPoints {
    let mut whole = SeriesPoints::default();
    for (at, piece) in pieces.into_iter().enumerate() {
        assert_eq!(piece.info.is_some(), at == 0);
        let place = whole.steps.len() as u32;
        whole.x_places.extend(piece.x_places.iter().map(|at| at + place));
        whole.steps.extend(piece.steps);
        whole.values.extend(piece.values);
        whole.x_values.extend(piece.x_values);
        whole.more = piece.more;
    }
    assert!(!whole.more);
    whole
}

fn check(whole: &SeriesPoints) {
    assert_eq!(whole.steps, (0..200_000).collect::<Vec<_>>());
    assert!(whole.values.iter().zip(0..).all(|(value, step)| *value == f64::from(step) / 2.0));
    assert_eq!(whole.x_places, (0..200_000).step_by(3).collect::<Vec<_>>());
    assert!(whole.x_values.iter().zip(&whole.x_places).all(|(value, place)| *value == -f64::from(*place)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_series_comes_whole_and_in_pieces() {
    let world = World::new().await;
    world.create(&long()).await;
    let request = MetricsRequest {
        query: world::query("metric.name == 'loss'"),
        points: Some(Points::Density(0)),
        x_axis: Some("x".into()),
        ..MetricsRequest::default()
    };
    let row = world.metrics(request).await.unwrap().remove(0);
    assert!(row.points.len() > 2);
    check(&joined(row.points));
    let runs = || RunSelection { run_id: "long".into(), numbers: vec![0], ..RunSelection::default() };
    let mut client = SeriesServiceClient::new(world.backend.clone().into_routes());
    let request = SampleRequest { runs: vec![runs()], x_axis: Some("x".into()), ..SampleRequest::default() };
    let mut messages = client.sample(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        pieces.extend(message.series);
    }
    check(&joined(pieces));
    let columns = Some(PointColumns { values: true, epochs: true, times: false });
    let request = PointsRequest { run: Some(runs()), columns, by_column: true, ..PointsRequest::default() };
    let mut messages = client.points(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        pieces.push(message.points.unwrap());
    }
    let of = |column: fn(&SeriesPoints) -> usize| {
        let has = |piece: &&SeriesPoints| column(piece) > 0;
        let places: Vec<_> = pieces.iter().enumerate().filter(|(_, it)| has(it)).map(|(at, _)| at).collect();
        (places[0], places.len(), pieces.iter().map(column).sum::<usize>())
    };
    let (steps, values, epochs) =
        (of(|it| it.steps.len()), of(|it| it.values.len()), of(|it| it.epochs.len()));
    assert_eq!((steps.2, values.2, epochs.2), (200_000, 200_000, 200_000));
    assert_eq!((steps.0, values.0, epochs.0), (0, steps.1, 2 * steps.1), "one column behind the other");
}

/// 40 MB of texts in one sequence, beside a payload that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn large_objects_come_in_pieces() {
    let world = World::new().await;
    let run = Spec { sequences: vec![sequence("t", "text", vec![(0, 1.0)])], ..spec("r", 1) };
    let number = world.create(&run).await;
    let mut header = ObjectHeader::new("t", "{}");
    header.add(0, "text", true);
    for part in 0..20 {
        let mut next = header.clone();
        world
            .transact(async |transaction| {
                next = header.clone();
                for step in part * 100 + 1..=part * 100 + 100 {
                    let data = format!("{step} {}", "x".repeat(20_000));
                    let value = cbor::encode_map(&[("data".to_owned(), Value::Text(data))].into());
                    let value = ObjectValue::Inline(value.into());
                    let object = Object { step, epoch: None, time_us: step, value };
                    object_put(transaction.batch(), P, number, SeriesNumber(0), &object);
                    next.add(step, "text", true);
                }
                next.dtype = "text".into();
                object_header_put(transaction.batch(), P, number, SeriesNumber(0), &next);
                Ok(())
            })
            .await;
        header = next;
    }
    for record_density in [0, 1_500] {
        let selection = Some(Selection { record_density, ..Selection::default() });
        let wanted = if record_density == 0 { 2_001 } else { 1_500 };
        let request = BatchRequest {
            run_id: "r".into(),
            r#type: SeriesType::Texts.into(),
            sequences: vec![SeriesKey { name: "t".into(), context: String::new() }],
            selection,
        };
        let mut client = ObjectServiceClient::new(world.backend.clone().into_routes());
        let mut messages = client.batch(request).await.unwrap().into_inner();
        let (mut steps, mut is_last) = (Vec::new(), false);
        while let Some(message) = messages.message().await.unwrap() {
            assert!(!std::mem::replace(&mut is_last, message.last));
            steps.extend(message.sequence.unwrap().steps.into_iter().map(|step| step.step));
        }
        assert!(is_last && steps.is_sorted() && steps.len() == wanted, "{} steps", steps.len());
        let request = ObjectsRequest {
            query: world::query(""),
            r#type: SeriesType::Texts.into(),
            selection,
            ..ObjectsRequest::default()
        };
        let row = world.objects(request).await.unwrap().remove(0);
        assert!(row.sequences.len() > 10 && !row.sequences.last().unwrap().more);
        let found = row.sequences.iter().flat_map(|sequence| &sequence.steps);
        assert_eq!(found.map(|step| step.step).collect::<Vec<_>>(), steps);
    }
}

#[tokio::test]
async fn a_payload_that_is_gone_hides_no_other() {
    let world = World::new().await;
    let run = Spec { sequences: vec![sequence("t", "text", vec![(0, 1.0), (2, 3.0)])], ..spec("r", 1) };
    let number = world.create(&run).await;
    world
        .transact(async |transaction| {
            let blob = BlobRef { key: "r/.matyan/gone".into(), size: 1, hash: [0; 32] };
            let object = Object { step: 1, epoch: None, time_us: 1, value: ObjectValue::Blob(blob) };
            object_put(transaction.batch(), P, number, SeriesNumber(0), &object);
            Ok(())
        })
        .await;
    let request = ObjectsRequest {
        query: world::query(""),
        r#type: SeriesType::Texts.into(),
        ..ObjectsRequest::default()
    };
    let row = world.objects(request).await.unwrap().remove(0);
    let told: Vec<_> = row.sequences[0].steps.iter().map(|step| (step.step, step.objects.len())).collect();
    assert_eq!(told, [(0, 1), (1, 0), (2, 1)]);
}
