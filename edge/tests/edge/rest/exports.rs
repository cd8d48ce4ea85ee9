//! Exports: parameters, headers, and errors before and in the middle of a file.

use matyan_proto::export::v1::{
    Format, MetricsRequest, MetricsResponse, ObjectsRequest, ObjectsResponse, Piece, RunsRequest,
    RunsResponse,
};

use super::*;

const METRICS: &str = "export.v1.ExportService/Metrics";
const RUNS: &str = "export.v1.ExportService/Runs";

fn piece(data: &'static [u8], done: bool) -> MetricsResponse {
    MetricsResponse { piece: Some(Piece { data: data.into(), done, ..Default::default() }) }
}

#[tokio::test]
async fn files_are_passed_through() {
    let rest = Rest::new();
    rest.backend.answers(METRICS, [piece(b"a,", false), piece(b"b\r\n", false), piece(b"", true)]);
    let path = "/export/metrics/?q=run.active&format=csv&run=r&run=s&name=loss&record_range=1:";
    let answer = rest.get(path).await;
    assert_eq!((answer.status, answer.text()), (200, "a,b\r\n"));
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"metrics.csv\""));
    let request: MetricsRequest = rest.backend.last_request(METRICS);
    assert_eq!((request.run_ids.join(","), request.names.join(",")), ("r,s".to_owned(), "loss".to_owned()));
    assert_eq!((request.query.unwrap().text.as_str(), request.format), ("run.active", Format::Csv as i32));
    assert_eq!(request.steps, Some(StepRange { start: Some(1), stop: None }));

    let done = Piece { data: "x".into(), done: true, ..Default::default() };
    rest.backend.answers("export.v1.ExportService/Objects", [ObjectsResponse { piece: Some(done) }]);
    let answer = rest.get("/export/objects/?format=arrow&sequence=texts").await;
    assert_eq!((answer.status, answer.text()), (200, "x"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"texts.arrows\""));
    let request: ObjectsRequest = rest.backend.last_request("export.v1.ExportService/Objects");
    assert_eq!(request.r#type(), SeriesType::Texts);

    let done = Piece { data: "PAR1".into(), done: true, ..Default::default() };
    rest.backend.answers(RUNS, [RunsResponse { piece: Some(done) }]);
    let metric = r#"{"name":"loss","context":{"a":1}}"#.replace('"', "%22");
    let path = format!("/export/runs/?format=parquet&param=hparams.lr&metric=acc&metric={metric}");
    let answer = rest.get(&path).await;
    assert_eq!((answer.status, answer.text()), (200, "PAR1"));
    assert_eq!(answer.header("content-type"), Some("application/vnd.apache.parquet"));
    let request: RunsRequest = rest.backend.last_request(RUNS);
    assert_eq!(request.param_paths[0].segments, ["hparams", "lr"]);
    let key = |name: &str, context: &str| SeriesKey { name: name.into(), context: context.into() };
    assert_eq!(request.metrics, [key("acc", ""), key("loss", r#"{"a":1}"#)]);
}

#[tokio::test]
async fn errors_before_the_file_are_json_and_later_ones_break_the_connection() {
    let rest = Rest::new();
    for (path, status) in [("/export/metrics/", 422), ("/export/metrics/?format=xml", 400)] {
        let answer = rest.get(path).await;
        assert_eq!(answer.status, status);
        assert!(answer.text().contains("format"), "{}", answer.text());
    }
    let answer = rest.get("/export/runs/?format=csv&metric={").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("metric"), "{}", answer.text());
    let refused = || {
        let info = [("field".to_owned(), "names".to_owned())];
        let details = ErrorDetails::with_error_info("INVALID_FIELD", "matyan", info);
        Status::with_error_details(tonic::Code::InvalidArgument, "`names` is wrong", details)
    };
    rest.backend.fails::<MetricsResponse>(METRICS, [], refused());
    let answer = rest.get("/export/metrics/?format=csv").await;
    assert!(answer.status == 422 && answer.text().contains("names"), "{}", answer.text());

    let broken = async || {
        let request = Request::get("/api/v1/rest/export/metrics/?format=csv").body(Body::empty()).unwrap();
        rest.edge.answer(request).await.into_body().collect().await.is_err()
    };
    rest.backend.fails(METRICS, [piece(b"a", false)], Status::unavailable("gone"));
    assert!(broken().await, "a truncated file must not look complete");
    rest.backend.answers(METRICS, [piece(b"a", false)]);
    assert!(broken().await, "a file without its last piece is truncated");
}
