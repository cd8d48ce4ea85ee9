//! Exports hold exactly what was logged, in every format.

use arrow_array::{
    Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, cast::AsArray,
    types::Int32Type,
};
use arrow_ipc::reader::StreamReader;
use bytes::Bytes;
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    export::v1::{
        Format, MetricsRequest, ObjectsRequest, Piece, RunsRequest,
        export_service_client::ExportServiceClient,
    },
    runs::v1::ParamPath,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tonic::{Code, Status, Streaming, service::Routes};

use crate::search::harness::{Harness, RunSpec, Sequence, map, query, spec};

const FORMATS: [Format; 3] = [Format::Arrow, Format::Parquet, Format::Csv];

/// Floats that a conversion could change.
const ODD: [f64; 10] = [
    0.0,
    -0.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MIN_POSITIVE / 4.0,
    5e-324,
    f64::MAX,
    0.1 + 0.2,
    -1e300,
];

/// Largest piece of a file.
const PIECE_BYTES: usize = 256 << 10;

/// A point: run, experiment, name, context, step, epoch, time, and the bits of the value.
type Row = (String, Option<String>, String, String, i64, Option<i64>, Option<i64>, u64);

impl Harness {
    fn export(&self) -> ExportServiceClient<Routes> {
        ExportServiceClient::new(self.backend.clone().into_routes())
    }

    async fn export_metrics(&self, request: MetricsRequest) -> Result<(Bytes, u64), Status> {
        file(self.export().metrics(request).await?.into_inner(), |it| it.piece).await
    }

    async fn export_runs(&self, request: RunsRequest) -> Result<(Bytes, u64), Status> {
        file(self.export().runs(request).await?.into_inner(), |it| it.piece).await
    }
}

/// The complete file, and the number of its rows.
async fn file<M>(mut messages: Streaming<M>, piece: fn(M) -> Option<Piece>) -> Result<(Bytes, u64), Status> {
    let mut file = Vec::new();
    let mut row_count = 0;
    let mut is_done = false;
    while let Some(message) = messages.message().await? {
        let Piece { data, rows, done, .. } = piece(message).unwrap();
        assert!(!is_done && data.len() <= PIECE_BYTES && rows >= row_count);
        file.extend_from_slice(&data);
        row_count = rows;
        is_done = done;
    }
    assert!(is_done, "a stream that ended without an error must be marked as done");
    Ok((file.into(), row_count))
}

fn batches(format: Format, file: Bytes) -> Vec<RecordBatch> {
    match format {
        Format::Arrow => StreamReader::try_new(&file[..], None).unwrap().collect::<Result<_, _>>().unwrap(),
        _ => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            reader.collect::<Result<_, _>>().unwrap()
        }
    }
}

fn text_at(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(column).unwrap();
    let (texts, at) = match column.as_any_dictionary_opt() {
        Some(_) => {
            let column = column.as_dictionary::<Int32Type>();
            (column.values().as_string::<i32>(), column.key(row)?)
        }
        None => (column.as_string::<i32>(), row),
    };
    texts.is_valid(at).then(|| texts.value(at).to_owned())
}

fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let column = |name| batch.column_by_name(name).unwrap();
        let integers = |name| column(name).as_any().downcast_ref::<Int64Array>().unwrap();
        let times = column("time").as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
        let values = column("value").as_any().downcast_ref::<Float64Array>().unwrap();
        for row in 0..batch.num_rows() {
            rows.push((
                text_at(batch, "run", row).unwrap(),
                text_at(batch, "experiment", row),
                text_at(batch, "name", row).unwrap(),
                text_at(batch, "context", row).unwrap(),
                integers("step").value(row),
                integers("epoch").is_valid(row).then(|| integers("epoch").value(row)),
                times.is_valid(row).then(|| times.value(row)),
                values.value(row).to_bits(),
            ));
        }
    }
    rows
}

fn sequence(name: &str, context: &str, points: Vec<(i64, f64)>) -> Sequence {
    Sequence { name: name.to_owned(), context: map(context), dtype: "float64".to_owned(), points }
}

/// The rows of a run, as the harness writes it.
fn expected_rows(run: &RunSpec) -> Vec<Row> {
    let mut rows = Vec::new();
    for sequence in &run.sequences {
        let context = matyan_value::Context::new(&sequence.context).canonical().to_owned();
        for (step, value) in &sequence.points {
            let epoch = (step % 2 == 0).then_some(step / 10);
            let name = sequence.name.clone();
            let experiment = run.experiment.clone();
            let context = context.clone();
            let time_us = Some(step * 1_000_000);
            rows.push((run.id.clone(), experiment, name, context, *step, epoch, time_us, value.to_bits()));
        }
    }
    rows
}

fn metrics_request(format: Format) -> MetricsRequest {
    MetricsRequest { query: query(""), format: format.into(), ..MetricsRequest::default() }
}

fn runs_request(format: Format) -> RunsRequest {
    RunsRequest { query: query(""), format: format.into(), ..RunsRequest::default() }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

fn csv_line(row: &Row) -> String {
    let quoted = |text: &str| {
        if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let time = matyan_value::datetime::UtcTime::from_us(row.6.unwrap()).unwrap().micros();
    let epoch = row.5.map(|epoch| epoch.to_string()).unwrap_or_default();
    let experiment = quoted(row.1.as_deref().unwrap_or_default());
    let value = f64::from_bits(row.7);
    format!(
        "{},{experiment},{},{},{},{epoch},{time},{value:?}",
        quoted(&row.0),
        quoted(&row.2),
        quoted(&row.3),
        row.4
    )
}

#[tokio::test]
async fn every_point_is_exported_bit_by_bit() {
    let harness = Harness::new().await;
    let odd: Vec<_> = (0..).zip(ODD).map(|(step, value)| (step * step - 5, value)).collect();
    let long: Vec<_> = (0..150_000).map(|step| (step, (step as f64).sin())).collect();
    let one = RunSpec {
        experiment: Some("ex, \"p\"".to_owned()),
        sequences: vec![
            sequence("losś", r#"{"a":{"b":[1,"x,y"]}}"#, odd.clone()),
            sequence("loss", "{}", long),
            sequence("empty", "{}", Vec::new()),
        ],
        ..spec("one", 1)
    };
    let many = (0..300).map(|at| sequence(&format!("m{at}"), "{}", odd.clone())).collect();
    let two = RunSpec { sequences: many, ..spec("two", 2) };
    for run in [&one, &two] {
        harness.create(run).await;
    }
    let expected = sorted([expected_rows(&one), expected_rows(&two)].concat());
    for format in FORMATS {
        let (file, row_count) = harness.export_metrics(metrics_request(format)).await.unwrap();
        assert_eq!(row_count, expected.len() as u64);
        if format == Format::Csv {
            let text = String::from_utf8(file.to_vec()).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.remove(0), "run,experiment,name,context,step,epoch,time,value");
            let mut lines_expected: Vec<String> = expected.iter().map(csv_line).collect();
            lines.sort_unstable();
            lines_expected.sort_unstable();
            assert!(lines == lines_expected, "the lines differ");
            continue;
        }
        let rows = rows_of(&batches(format, file));
        assert_eq!(rows.first().map(|row| row.0.as_str()), Some("two"), "the newest run is first");
        let is_ascending = |pair: &[Row]| {
            let series = |row: &Row| (row.0.clone(), row.2.clone(), row.3.clone());
            series(&pair[0]) != series(&pair[1]) || pair[0].4 < pair[1].4
        };
        assert!(rows.windows(2).all(is_ascending), "the steps of a series ascend");
        let different = sorted(rows).into_iter().zip(&expected).find(|(row, expected)| row != *expected);
        assert_eq!(different, None, "{format:?}");
    }
}

#[tokio::test]
async fn rule_76_texts_are_formulas_only_on_request() {
    let harness = Harness::new().await;
    let sequences = vec![sequence("=1+1", "{}", vec![(1, -2.0)])];
    harness.create(&RunSpec { sequences, ..spec("one", 1) }).await;
    for (format, name) in [(Format::Csv, "'=1+1"), (Format::RawCsv, "=1+1")] {
        let (file, _) = harness.export_metrics(metrics_request(format)).await.unwrap();
        let text = String::from_utf8(file.to_vec()).unwrap();
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split(',').collect();
        assert_eq!((cells[2], cells[cells.len() - 1]), (name, "-2.0"), "{text}");
    }
}

#[tokio::test]
async fn an_export_has_what_its_request_selects() {
    let harness = Harness::new().await;
    let sequences =
        || vec![sequence("a", "{}", vec![(1, 1.0), (5, 2.0)]), sequence("b", "{}", vec![(1, 3.0)])];
    for (id, archived) in [("one", false), ("two", false), ("old", true)] {
        harness.create(&RunSpec { sequences: sequences(), archived, ..spec(id, 1) }).await;
    }
    let found = async |request: MetricsRequest| {
        let (file, _) = harness.export_metrics(request).await.unwrap();
        let rows = rows_of(&batches(Format::Arrow, file));
        rows.into_iter().map(|row| format!("{} {} {}", row.0, row.2, row.4)).collect::<Vec<_>>()
    };
    let all = metrics_request(Format::Arrow);
    assert_eq!(found(all.clone()).await, ["two a 1", "two a 5", "two b 1", "one a 1", "one a 5", "one b 1"]);
    let names = vec!["b".to_owned(), "other".to_owned()];
    assert_eq!(found(MetricsRequest { names, ..all.clone() }).await, ["two b 1", "one b 1"]);
    let run_ids = vec!["one".to_owned(), "old".to_owned(), "one".to_owned()];
    let of_runs = MetricsRequest { run_ids, query: query("metric.name == 'a'"), ..all.clone() };
    assert_eq!(found(of_runs.clone()).await, ["one a 1", "one a 5"], "archived runs are excluded");
    let archived = query("metric.name == 'a' and run.archived in [True, False]");
    let of_runs = MetricsRequest { query: archived, ..of_runs };
    assert_eq!(found(of_runs).await, ["old a 1", "old a 5", "one a 1", "one a 5"]);
    let steps = Some(matyan_proto::common::v1::StepRange { start: Some(2), stop: None });
    assert_eq!(found(MetricsRequest { steps, ..all.clone() }).await, ["two a 5", "one a 5"]);
    let nothing = MetricsRequest { query: query("run.name == 'no'"), ..all };
    assert_eq!(found(nothing).await, Vec::<String>::new());
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let harness = Harness::new().await;
    harness.create(&spec("one", 1)).await;
    let csv = metrics_request(Format::Csv);
    let check = async |request: MetricsRequest, code: Code, text: &str| {
        let error = harness.export_metrics(request).await.unwrap_err();
        assert!(error.code() == code && error.message().contains(text), "{error:?}");
    };
    check(MetricsRequest { format: 0, ..csv.clone() }, Code::InvalidArgument, "`format`").await;
    check(MetricsRequest { query: query("metric ="), ..csv.clone() }, Code::InvalidArgument, "<query>").await;
    let run_ids = vec!["one".to_owned(), "absent".to_owned()];
    check(MetricsRequest { run_ids, ..csv.clone() }, Code::NotFound, "`absent`").await;
    let run_ids = vec!["one".to_owned(); 10_001];
    check(MetricsRequest { run_ids, ..csv.clone() }, Code::ResourceExhausted, "`run_ids`").await;
    let names = vec!["one".to_owned(); 1_001];
    check(MetricsRequest { names, ..csv }, Code::ResourceExhausted, "`names`").await;

    let csv = runs_request(Format::Csv);
    let check = async |request: RunsRequest, text: &str| {
        let error = harness.export_runs(request).await.unwrap_err();
        assert!(error.message().contains(text), "{error:?}");
    };
    check(RunsRequest { format: 9, ..csv.clone() }, "`format`").await;
    let param_paths = vec![ParamPath { segments: Vec::new() }];
    check(RunsRequest { param_paths: param_paths.clone(), ..csv.clone() }, "`param_paths`").await;
    check(RunsRequest { param_paths, no_params: true, ..csv.clone() }, "`no_params`").await;
    let metrics = vec![SeriesKey { name: "a".to_owned(), context: "{".to_owned() }];
    check(RunsRequest { metrics, ..csv }, "`context`").await;
}

#[tokio::test]
async fn too_many_params_are_refused() {
    let harness = Harness::new().await;
    let params = (0..2_001).map(|at| format!("\"p{at}\":{at}")).collect::<Vec<_>>().join(",");
    harness.create(&RunSpec { params: map(&format!("{{{params}}}")), ..spec("one", 1) }).await;
    let csv = runs_request(Format::Csv);
    let error = harness.export_runs(csv.clone()).await.unwrap_err();
    assert!(error.code() == Code::InvalidArgument && error.message().contains("`param_paths`"), "{error:?}");
    let param_paths = vec![ParamPath { segments: vec!["p7".to_owned()] }];
    let (file, _) = harness.export_runs(RunsRequest { param_paths, ..csv }).await.unwrap();
    assert!(String::from_utf8(file.to_vec()).unwrap().starts_with(
        "run,name,experiment,description,tags,created,ended,duration,active,archived,outcome,parent,parent_step,params.p7\r\n"
    ));
}

#[tokio::test]
async fn runs_are_exported_with_their_params_and_metrics() {
    let harness = Harness::new().await;
    let one = RunSpec {
        name: "first, \"run\"".to_owned(),
        experiment: Some("e".to_owned()),
        tags: vec!["t".to_owned()],
        finalized_us: Some(3_500_000),
        active: false,
        params: map(r#"{"lr":0.1,"n":9223372036854775807,"o":{"name":"adam","on":true},"mixed":[1,NaN]}"#),
        sequences: vec![
            sequence("loss", "{}", vec![(0, 2.0), (1, -0.0)]),
            sequence("loss", r#"{"subset":"val"}"#, vec![(0, f64::NAN)]),
        ],
        ..spec("one", 1_000_000)
    };
    let two = RunSpec { params: map(r#"{"lr":3,"mixed":"x","none":null}"#), ..spec("two", 2_000_000) };
    for run in [&one, &two] {
        harness.create(run).await;
    }
    let metric = |context: &str| SeriesKey { name: "loss".to_owned(), context: context.to_owned() };
    let metrics = vec![metric(""), metric(r#"{"subset": "val"}"#), metric("{}")];
    for format in [Format::Arrow, Format::Parquet] {
        let request = RunsRequest { metrics: metrics.clone(), ..runs_request(format) };
        let (file, row_count) = harness.export_runs(request).await.unwrap();
        assert_eq!(row_count, 2);
        let batches = batches(format, file);
        let [batch] = &batches[..] else { panic!("{} batches", batches.len()) };
        let texts = |name: &str| [text_at(batch, name, 0), text_at(batch, name, 1)];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(texts("run"), [some("two"), some("one")]);
        assert_eq!(texts("experiment"), [None, some("e")]);
        assert_eq!(texts("params.o.name"), [None, some("adam")]);
        assert_eq!(texts("params.mixed"), [some("\"x\""), some("[1,NaN]")]);
        assert_eq!(texts("params.none"), [None, None]);
        let floats = |name: &str| {
            let column = batch.column_by_name(name).unwrap();
            let column = column.as_any().downcast_ref::<Float64Array>().unwrap();
            column.iter().map(|value| value.map(f64::to_bits)).collect::<Vec<_>>()
        };
        assert_eq!(floats("params.lr"), [Some(3.0_f64.to_bits()), Some(0.1_f64.to_bits())]);
        assert_eq!(floats("metrics.loss {}"), [None, Some((-0.0_f64).to_bits())]);
        assert_eq!(floats(r#"metrics.loss {"subset":"val"}"#), [None, Some(f64::NAN.to_bits())]);
        assert_eq!(floats("duration"), [None, Some(2.5_f64.to_bits())]);
        let integers = batch.column_by_name("params.n").unwrap();
        let integers = integers.as_any().downcast_ref::<Int64Array>().unwrap();
        assert_eq!(integers.iter().collect::<Vec<_>>(), [None, Some(i64::MAX)]);
        let tags = batch.column_by_name("tags").unwrap().as_list::<i32>().value(1);
        assert_eq!(tags.as_any().downcast_ref::<StringArray>().unwrap().value(0), "t");
    }
    let request = RunsRequest { no_params: true, ..runs_request(Format::Csv) };
    let (file, _) = harness.export_runs(request).await.unwrap();
    let expected = "\
        run,name,experiment,description,tags,created,ended,duration,active,archived,outcome,parent,parent_step\r\n\
        two,Run: two,,\"\",[],1970-01-01T00:00:02.000000Z,,,true,false,,,\r\n\
        one,\"first, \"\"run\"\"\",e,\"\",\"[\"\"t\"\"]\",1970-01-01T00:00:01.000000Z,1970-01-01T00:00:03.500000Z,2.5,\
        false,false,,,\r\n";
    assert_eq!(String::from_utf8(file.to_vec()).unwrap(), expected);
}

#[tokio::test]
async fn objects_are_exported() {
    let harness = Harness::new().await;
    let texts = Sequence { dtype: "text".to_owned(), ..sequence("t", "{}", vec![(1, 0.5), (2, -1.0)]) };
    harness.create(&RunSpec { sequences: vec![texts], ..spec("one", 1) }).await;
    let request = ObjectsRequest {
        query: query(""),
        format: Format::Csv.into(),
        r#type: SeriesType::Texts.into(),
        ..ObjectsRequest::default()
    };
    let answer = harness.export().objects(request.clone()).await.unwrap().into_inner();
    let (found, row_count) = file(answer, |it| it.piece).await.unwrap();
    let expected = "run,experiment,name,context,step,epoch,time,index,text\r\n\
        one,,t,{},1,,1970-01-01T00:00:00.000001Z,0,0.5\r\n\
        one,,t,{},2,,1970-01-01T00:00:00.000002Z,0,-1\r\n";
    assert_eq!((String::from_utf8(found.to_vec()).unwrap().as_str(), row_count), (expected, 2));
    for (format, column) in [(Format::Arrow, "text"), (Format::Parquet, "text")] {
        let request = ObjectsRequest { format: format.into(), ..request.clone() };
        let answer = harness.export().objects(request).await.unwrap().into_inner();
        let (found, _) = file(answer, |it| it.piece).await.unwrap();
        let found = batches(format, found);
        assert_eq!(text_at(&found[0], column, 1).as_deref(), Some("-1"));
    }
    let metric = ObjectsRequest { r#type: SeriesType::Metric.into(), ..request };
    let error = harness.export().objects(metric).await.unwrap_err();
    assert!(error.message().contains("`type`"), "{error:?}");
}

#[tokio::test]
async fn an_abandoned_export_ends_and_others_wait_for_none() {
    let harness = Harness::new().await;
    let points: Vec<_> = (0..200_000).map(|step| (step, step as f64)).collect();
    harness.create(&RunSpec { sequences: vec![sequence("a", "{}", points)], ..spec("one", 1) }).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut messages = harness.export().metrics(metrics_request(Format::Csv)).await.unwrap().into_inner();
        messages.message().await.unwrap();
        open.push(messages);
    }
    let refused = harness.export().metrics(metrics_request(Format::Csv)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    drop(open);
    // The tasks of the abandoned exports end.
    while harness.export().metrics(metrics_request(Format::Csv)).await.is_err() {
        tokio::task::yield_now().await;
    }
}
