//! Data larger than a message: runs with very many series, long series, sequences of large
//! objects. All of it is sent, in pieces that fit.

use matyan_blob::{BlobKey, Blobs};
use matyan_model::{
    artifact::{Artifact, artifact_put},
    ids::{RunNumber, SeriesNumber},
    object::{BlobRef, Object, ObjectHeader, ObjectValue, object_header_put, object_put},
};
use matyan_proto::{
    artifacts::v1::artifact_service_client::ArtifactServiceClient,
    common::v1::{SeriesKey, SeriesType, StepRange},
    limits::MESSAGE_BYTES,
    objects::v1::{BatchRequest, Selection, object_service_client::ObjectServiceClient},
    project::v1::{ParamsRequest, project_service_client::ProjectServiceClient},
    runs::v1::{GetRequest, ListRequest, RunParts, run_service_client::RunServiceClient},
    search::v1::{MetricsRequest, ObjectsRequest, metrics_request::Points},
    series::v1::{
        PointColumns, PointsRequest, RunSelection, SampleRequest, SeriesPoints,
        series_service_client::SeriesServiceClient,
    },
};
use matyan_value::{Value, cbor};

use crate::search::harness::{self, Harness, P, RunSpec, Sequence, map, spec};

fn sequence(name: &str, dtype: &str, points: Vec<(i64, f64)>) -> Sequence {
    Sequence { name: name.into(), context: map("{}"), dtype: dtype.into(), points }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wide_run_does_not_hide_others() {
    let harness = Harness::new().await;
    harness.create(&spec("small", 1)).await;
    let number = harness.create(&spec("wide", 2)).await;
    harness.widen(number, 20).await;
    harness.create(&spec("last", 3)).await;
    let request =
        matyan_proto::search::v1::RunsRequest { parts: harness::all_parts(), ..harness::runs_request("") };
    let mut client = harness.search().max_decoding_message_size(MESSAGE_BYTES);
    let mut messages = client.runs(request).await.unwrap().into_inner();
    let mut ids = Vec::new();
    let mut series = 0;
    let mut is_open = false;
    while let Some(message) = messages.message().await.unwrap() {
        for run in message.runs {
            if !is_open {
                ids.push(run.run_id.clone());
            }
            assert_eq!(Some(&run.run_id), ids.last(), "a run is complete before the next begins");
            series += run.series.len();
            is_open = run.more_series;
        }
    }
    assert_eq!((ids, series, is_open), (vec!["last".into(), "wide".into(), "small".into()], 20_000, false));
    let client = RunServiceClient::new(harness.backend.clone().into_routes());
    let mut client = client.max_decoding_message_size(MESSAGE_BYTES);
    let request = GetRequest { run_id: "wide".into(), parts: harness::all_parts() };
    let run = client.get(request).await.unwrap().into_inner().run.unwrap();
    assert!(run.more_series && !run.series.is_empty());
    let request = ListRequest { parts: harness::all_parts(), ..ListRequest::default() };
    assert_eq!(
        client.list(request).await.unwrap().into_inner().runs.len(),
        2,
        "a page ends after a large run"
    );
}

fn long() -> RunSpec {
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

/// Joins the pieces of one series. The first piece contains its description.
fn joined(pieces: impl IntoIterator<Item = SeriesPoints>) -> SeriesPoints {
    let mut whole = SeriesPoints::default();
    for (at, piece) in pieces.into_iter().enumerate() {
        assert_eq!(piece.info.is_some(), at == 0);
        let place = whole.steps.len() as u32;
        whole.x_places.extend(piece.x_places.iter().map(|at| at + place));
        whole.steps.extend(piece.steps);
        whole.values.extend(piece.values);
        whole.epochs.extend(piece.epochs);
        whole.times_us.extend(piece.times_us);
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
async fn a_long_series_is_sent_completely_in_pieces() {
    let harness = Harness::new().await;
    harness.create(&long()).await;
    let request = MetricsRequest {
        query: harness::query("metric.name == 'loss'"),
        points: Some(Points::Density(0)),
        x_axis: Some("x".into()),
        ..MetricsRequest::default()
    };
    let row = harness.metrics(request).await.unwrap().remove(0);
    assert!(row.points.len() > 2);
    check(&joined(row.points));
    let runs = || RunSelection { run_id: "long".into(), numbers: vec![0], ..RunSelection::default() };
    let mut client = SeriesServiceClient::new(harness.backend.clone().into_routes());
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
    let steps = of(|it| it.steps.len());
    let values = of(|it| it.values.len());
    let epochs = of(|it| it.epochs.len());
    assert_eq!((steps.2, values.2, epochs.2), (200_000, 200_000, 200_000));
    assert_eq!(
        (steps.0, values.0, epochs.0),
        (0, steps.1, 2 * steps.1),
        "columns are sent one after the other"
    );
}

/// Joins the columns of a series that was sent column by column, and checks their lengths.
fn joined_columns(pieces: Vec<SeriesPoints>) -> SeriesPoints {
    let mut whole = SeriesPoints::default();
    let mut remaining = None;
    let mut columns = 0;
    for (at, piece) in pieces.into_iter().enumerate() {
        assert_eq!(piece.info.is_some(), at == 0);
        // The last column has the steps to which its indexes refer.
        let is_axis = columns == 5;
        let lengths = [piece.values.len(), piece.epochs.len(), piece.times_us.len(), piece.x_values.len()];
        let length =
            if is_axis { piece.x_places.len() } else { piece.steps.len() + lengths.iter().sum::<usize>() };
        let left = remaining.unwrap_or(piece.count).checked_sub(length as u64);
        let left = left.unwrap_or_else(|| panic!("piece {at}, in column {columns}, exceeds the count"));
        remaining = piece.more.then_some(left);
        if !piece.more {
            assert_eq!(left, 0, "column {columns}");
            columns += 1;
        }
        if is_axis {
            whole.x_places.extend(piece.x_places.iter().map(|place| piece.steps[*place as usize] as u32));
        } else {
            whole.steps.extend(piece.steps);
        }
        whole.values.extend(piece.values);
        whole.epochs.extend(piece.epochs);
        whole.times_us.extend(piece.times_us);
        whole.x_values.extend(piece.x_values);
    }
    assert_eq!(columns, 6);
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_sent_column_by_column_if_they_are_split() {
    let harness = Harness::new().await;
    let mut run = long();
    run.sequences.push(sequence("short", "float", vec![(3, 0.5), (4, 1.5)]));
    harness.create(&run).await;
    let columns = Some(PointColumns { values: true, epochs: true, times: true });
    for density in [0, 70_000] {
        let request = MetricsRequest {
            query: harness::query("metric.name != 'x'"),
            points: Some(Points::Density(density)),
            columns,
            x_axis: Some("x".into()),
            by_column: true,
            ..MetricsRequest::default()
        };
        let searched = harness.metrics(request).await.unwrap().remove(0).points;
        let runs = RunSelection { run_id: "long".into(), numbers: vec![0, 2], ..RunSelection::default() };
        let request = SampleRequest {
            runs: vec![runs],
            density,
            columns,
            x_axis: Some("x".into()),
            by_column: true,
            ..SampleRequest::default()
        };
        let mut messages = harness.series().sample(request).await.unwrap().into_inner();
        let mut sampled = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            sampled.extend(message.series);
        }
        for mut pieces in [searched, sampled] {
            let short = pieces.pop().unwrap();
            assert_eq!((&short.steps[..], &short.values[..]), (&[3, 4][..], &[0.5, 1.5][..]));
            assert_eq!((short.count, short.more, &short.x_places[..]), (0, false, &[0][..]));
            let whole = joined_columns(pieces);
            if density == 0 {
                check(&whole);
            }
            let count = if density == 0 { 200_000 } else { 70_000 };
            assert_eq!(
                (whole.steps.len(), whole.values.len(), whole.epochs.len(), whole.times_us.len()),
                (count, count, count, count)
            );
            assert!(whole.steps.is_sorted() && !whole.x_places.is_empty());
            assert!(
                whole.x_values.iter().zip(&whole.x_places).all(|(value, step)| *value == -f64::from(*step))
            );
        }
    }
}

/// Odd steps have no epoch, and the first pieces contain only odd steps.
#[tokio::test(flavor = "multi_thread")]
async fn columns_of_pieces_can_be_joined() {
    let harness = Harness::new().await;
    let odd = (0..100_000).map(|at| (2 * at + 1, 0.5));
    let even = (100_000..200_000).map(|at| (2 * at, 0.5));
    let sequences = vec![sequence("loss", "float", odd.chain(even).collect())];
    harness.create(&RunSpec { sequences, ..spec("long", 1) }).await;
    let columns = Some(PointColumns { values: true, epochs: true, times: true });
    let check = |pieces: Vec<SeriesPoints>| {
        assert!(pieces.len() > 2);
        let whole = joined(pieces);
        assert_eq!((whole.epochs.len(), whole.times_us.len()), (200_000, 200_000));
        let known = |(step, epoch): (&i64, &i64)| *epoch == if step % 2 == 0 { step / 10 } else { i64::MIN };
        assert!(whole.steps.iter().zip(&whole.epochs).all(known));
    };
    let points = Some(Points::Density(0));
    let request = MetricsRequest { query: harness::query(""), points, columns, ..MetricsRequest::default() };
    check(harness.metrics(request).await.unwrap().remove(0).points);
    let run = || RunSelection { run_id: "long".into(), numbers: vec![0], ..RunSelection::default() };
    let request = SampleRequest { runs: vec![run()], columns, ..SampleRequest::default() };
    let mut messages = harness.series().sample(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        pieces.extend(message.series);
    }
    check(pieces);
    let request = PointsRequest { run: Some(run()), columns, ..PointsRequest::default() };
    let mut messages = harness.series().points(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        pieces.extend(message.points);
    }
    check(pieces);
    // A column without values is omitted from samples.
    let steps = Some(StepRange { start: None, stop: Some(1_000) });
    let request =
        SampleRequest { runs: vec![run()], columns, density: 10, steps, ..SampleRequest::default() };
    let mut messages = harness.series().sample(request).await.unwrap().into_inner();
    let sampled = messages.message().await.unwrap().unwrap().series.remove(0);
    assert_eq!((sampled.steps.len(), sampled.epochs.len(), sampled.times_us.len()), (10, 0, 10));
}

/// The step of the `at`-th point, with gaps of all sizes.
fn irregular(at: i64) -> i64 {
    at * 3 + at % 7 + (at / 1_000) * 40_000
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_have_all_points_or_exactly_the_requested_number() {
    let harness = Harness::new().await;
    let lengths = [("short", 5_000), ("long", 70_000)];
    let points = |length| (0..length).map(|at| (irregular(at), at as f64)).collect();
    let mut sequences: Vec<_> =
        lengths.iter().map(|(name, length)| sequence(name, "float", points(*length))).collect();
    // Dense at first, then sparse, like the points of a metric whose interval was raised.
    let sparse = (0..100).chain((1..=300).map(|at| at * 1_000)).map(|step| (step, 0.5)).collect();
    sequences.push(sequence("sparse", "float", sparse));
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    let counts = [5_000_usize, 70_000, 400];
    for density in [1, 2, 50, 127, 128, 300, 500, 4_999, 5_000, 50_000, 60_001, 69_999, 100_000, 1_000_000] {
        let run = RunSelection { run_id: "r".into(), numbers: vec![0, 1, 2], ..RunSelection::default() };
        let request = SampleRequest { runs: vec![run], density, ..SampleRequest::default() };
        let mut messages = harness.series().sample(request).await.unwrap().into_inner();
        let mut samples = vec![Vec::new(); counts.len()];
        while let Some(message) = messages.message().await.unwrap() {
            for series in message.series {
                samples[series.place.unwrap().series as usize].extend(series.steps);
            }
        }
        let request = MetricsRequest {
            query: harness::query(""),
            points: Some(Points::Density(density)),
            ..MetricsRequest::default()
        };
        let found = harness.metrics(request).await.unwrap().remove(0).points;
        let mut searched = vec![Vec::new(); counts.len()];
        let mut name = String::new();
        for piece in found {
            name = piece.info.map_or(name, |info| info.name);
            let series = ["short", "long", "sparse"].iter().position(|it| *it == name).unwrap();
            searched[series].extend(piece.steps);
        }
        for (series, count) in counts.into_iter().enumerate() {
            let expected = count.min(density as usize);
            for steps in [&samples[series], &searched[series]] {
                assert_eq!(steps.len(), expected, "series {series} at density {density}");
                assert!(
                    steps.is_sorted_by(|left, right| left < right),
                    "series {series} at density {density}"
                );
                assert_eq!(steps.first(), Some(&0), "series {series} at density {density}");
            }
        }
    }
}

/// 40 MB of texts in one sequence, including a missing payload.
#[tokio::test(flavor = "multi_thread")]
async fn large_objects_come_in_pieces() {
    let harness = Harness::new().await;
    let run = RunSpec { sequences: vec![sequence("t", "text", vec![(0, 1.0)])], ..spec("r", 1) };
    let number = harness.create(&run).await;
    let mut header = ObjectHeader::new("t", "{}");
    header.add(0, "text", true);
    for part in 0..20 {
        let mut next = header.clone();
        harness
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
        let mut client = ObjectServiceClient::new(harness.backend.clone().into_routes());
        let mut messages = client.batch(request).await.unwrap().into_inner();
        let mut steps = Vec::new();
        let mut is_last = false;
        while let Some(message) = messages.message().await.unwrap() {
            assert!(!std::mem::replace(&mut is_last, message.last));
            steps.extend(message.sequence.unwrap().steps.into_iter().map(|step| step.step));
        }
        assert!(is_last && steps.is_sorted() && steps.len() == wanted, "{} steps", steps.len());
        let request = ObjectsRequest {
            query: harness::query(""),
            r#type: SeriesType::Texts.into(),
            selection,
            ..ObjectsRequest::default()
        };
        let row = harness.objects(request).await.unwrap().remove(0);
        assert!(row.sequences.len() > 10 && !row.sequences.last().unwrap().more);
        let found = row.sequences.iter().flat_map(|sequence| &sequence.steps);
        assert_eq!(found.map(|step| step.step).collect::<Vec<_>>(), steps);
    }
}

/// Stores a distribution that takes 20 MB in a response.
async fn put_distribution(harness: &Harness, number: RunNumber, step: i64) {
    let weights = (0..2_500_000).map(|at| Value::Integer(at % 20)).collect();
    let value = cbor::encode_map(&[("data".to_owned(), Value::List(weights))].into());
    let key = format!("r/.matyan/{step}");
    let size = value.len() as u64;
    let content = futures::stream::iter([Ok(value.into())]);
    harness.blobs.put(&BlobKey::new(&key).unwrap(), "", None, Box::pin(content)).await.unwrap();
    harness
        .transact(async |transaction| {
            let blob = BlobRef { key: key.clone(), size, hash: [0; 32] };
            let object = Object { step, epoch: None, time_us: step, value: ObjectValue::Blob(blob) };
            object_put(transaction.batch(), P, number, SeriesNumber(0), &object);
            Ok(())
        })
        .await;
}

/// Small integers of 3 MB become 20 MB of doubles, which fit into no message; the other objects
/// must still be sent.
#[tokio::test]
async fn an_object_larger_than_a_message_does_not_hide_others() {
    let harness = Harness::new().await;
    let sequences = vec![sequence("d", "distribution", vec![(0, 1.0), (2, 3.0)])];
    let number = harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    put_distribution(&harness, number, 1).await;
    let request = BatchRequest {
        run_id: "r".into(),
        r#type: SeriesType::Distributions.into(),
        sequences: vec![SeriesKey { name: "d".into(), context: String::new() }],
        selection: None,
    };
    let client = ObjectServiceClient::new(harness.backend.clone().into_routes());
    let mut messages =
        client.max_decoding_message_size(MESSAGE_BYTES).batch(request).await.unwrap().into_inner();
    let mut reported = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        let steps = message.sequence.unwrap().steps;
        reported.extend(steps.into_iter().map(|step| (step.step, step.objects.len(), step.object_count)));
    }
    assert_eq!(reported, [(0, 1, 1), (1, 0, 1), (2, 1, 1)]);
}

/// Params of 8 MB and an object of 12 MB: each fits into a message, but not both.
#[tokio::test]
async fn large_params_and_a_large_object_are_sent_separately() {
    let harness = Harness::new().await;
    let sequences = vec![sequence("t", "text", vec![(0, 1.0)])];
    let params = [("text".to_owned(), Value::Text("p".repeat(8 << 20)))].into();
    let number = harness.create(&RunSpec { params, sequences, ..spec("r", 2) }).await;
    harness.create(&spec("small", 1)).await;
    let data = Value::Text("x".repeat(12 << 20));
    let value = cbor::encode_map(&[("data".to_owned(), data)].into());
    let content = futures::stream::iter([Ok(value.into())]);
    let key = "r/.matyan/t";
    harness.blobs.put(&BlobKey::new(key).unwrap(), "", None, Box::pin(content)).await.unwrap();
    harness
        .transact(async |transaction| {
            let blob = BlobRef { key: key.into(), size: 1, hash: [0; 32] };
            let object = Object { step: 1, epoch: None, time_us: 1, value: ObjectValue::Blob(blob) };
            object_put(transaction.batch(), P, number, SeriesNumber(0), &object);
            Ok(())
        })
        .await;
    let request = ObjectsRequest {
        query: harness::query(""),
        r#type: SeriesType::Texts.into(),
        parts: harness::all_parts(),
        ..ObjectsRequest::default()
    };
    let row = harness.objects(request).await.unwrap().remove(0);
    assert!(row.run.unwrap().params.len() > 8 << 20);
    let steps = row.sequences.iter().flat_map(|sequence| &sequence.steps);
    assert_eq!(steps.map(|step| (step.step, step.objects.len())).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
}

/// 20 MB of artifacts.
#[tokio::test]
async fn a_run_with_very_many_artifacts_can_be_read() {
    let harness = Harness::new().await;
    let number = harness.create(&spec("r", 1)).await;
    let path = |at: usize| format!("{at:05}{}", "p".repeat(995));
    for part in 0..10 {
        harness
            .transact(async |transaction| {
                for at in part * 1_000..(part + 1) * 1_000 {
                    let artifact = Artifact { blob_key: format!("r/{}", path(at)), ..Artifact::default() };
                    artifact_put(transaction.batch(), P, number, &path(at), &artifact);
                }
                Ok(())
            })
            .await;
    }
    let parts = Some(RunParts { artifacts: true, ..RunParts::default() });
    let client = RunServiceClient::new(harness.backend.clone().into_routes());
    let mut client = client.max_decoding_message_size(MESSAGE_BYTES);
    let request = GetRequest { run_id: "r".into(), parts };
    let run = client.get(request).await.unwrap().into_inner().run.unwrap();
    assert!(run.more_artifacts && !run.artifacts.is_empty());
    let mut client = ArtifactServiceClient::new(harness.backend.clone().into_routes());
    let request = matyan_proto::artifacts::v1::ListRequest { run_id: "r".into(), ..Default::default() };
    let mut messages = client.list(request).await.unwrap().into_inner();
    let mut paths = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        paths.extend(message.artifacts.into_iter().map(|artifact| artifact.path));
    }
    assert!(paths.iter().zip(0..).all(|(reported, at)| *reported == path(at)) && paths.len() == 10_000);
}

/// 21 MB of params, and as many bytes of names.
#[tokio::test(flavor = "multi_thread")]
async fn merged_params_and_names_come_in_pieces() {
    let harness = Harness::new().await;
    for at in 0..3 {
        let params = [(format!("k{at}"), Value::Text("p".repeat(7 << 20)))].into();
        harness.create(&RunSpec { params, ..spec(&format!("r{at}"), at) }).await;
    }
    let number = harness.create(&spec("wide", 9)).await;
    harness.widen(number, 20).await;
    let mut client = ProjectServiceClient::new(harness.backend.clone().into_routes());
    let mut messages = client.params(ParamsRequest::default()).await.unwrap().into_inner();
    let mut params = Vec::new();
    let mut types = Vec::new();
    let mut names = 0;
    while let Some(message) = messages.message().await.unwrap() {
        params.extend_from_slice(&message.params);
        names += message.types.iter().map(|of| of.names.len()).sum::<usize>();
        types.extend(message.types.iter().map(|of| of.r#type));
    }
    assert_eq!(cbor::decode_map(&params).unwrap().len(), 3);
    types.dedup();
    assert_eq!((types, names), (vec![1, 2, 3, 4, 5, 6, 7, 8], 20_000));
}

#[tokio::test]
async fn an_unreadable_payload_does_not_hide_others() {
    let harness = Harness::new().await;
    let run = RunSpec { sequences: vec![sequence("t", "text", vec![(0, 1.0), (2, 3.0)])], ..spec("r", 1) };
    let number = harness.create(&run).await;
    harness
        .transact(async |transaction| {
            let blob = |key: &str| ObjectValue::Blob(BlobRef { key: key.into(), size: 1, hash: [0; 32] });
            let no_cbor = ObjectValue::Inline(vec![0xff].into());
            for (step, value) in [(1, blob("r/.matyan/gone")), (3, blob("../no key")), (4, no_cbor)] {
                let object = Object { step, epoch: None, time_us: 1, value };
                object_put(transaction.batch(), P, number, SeriesNumber(0), &object);
            }
            Ok(())
        })
        .await;
    let request = ObjectsRequest {
        query: harness::query(""),
        r#type: SeriesType::Texts.into(),
        ..ObjectsRequest::default()
    };
    let row = harness.objects(request).await.unwrap().remove(0);
    let reported: Vec<_> =
        row.sequences[0].steps.iter().map(|step| (step.step, step.objects.len())).collect();
    assert_eq!(reported, [(0, 1), (1, 0), (2, 1), (3, 0), (4, 0)]);
}
