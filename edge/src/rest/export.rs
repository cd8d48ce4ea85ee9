//! Exports of the results of a query as files.

use axum::body::Body;
use axum::response::Response;
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use matyan_proto::common::v1::SeriesKey;
use matyan_proto::export::v1::{Format, MetricsRequest, ObjectsRequest, Piece, RunsRequest};
use matyan_proto::runs::v1::ParamPath;
use matyan_proto::search::v1::Query;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io;
use tonic::{Status, Streaming};

use super::answer::Answer;
use super::call::{Call, TimeZone};
use super::operation::Operation;
use super::shared::{requested_types, step_range};
use crate::error::{ApiError, ApiResult};

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/export/metrics", "Export every point of the metrics that a query finds", metrics),
        Operation::get("/export/runs", "Export the runs that a query finds", runs),
        Operation::get("/export/objects", "Export the objects of one type that a query finds", objects),
    ]
}

#[derive(Clone, Copy)]
enum FileFormat {
    Arrow,
    Parquet,
    Csv,
    RawCsv,
}

impl FileFormat {
    fn parse(name: &str) -> ApiResult<Self> {
        match name {
            "arrow" => Ok(Self::Arrow),
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "raw-csv" => Ok(Self::RawCsv),
            _ => {
                let message = format!("format: unknown format '{name}': use arrow, parquet, csv or raw-csv");
                Err(ApiError::new(StatusCode::BAD_REQUEST, message))
            }
        }
    }

    fn to_api(self) -> i32 {
        i32::from(match self {
            Self::Arrow => Format::Arrow,
            Self::Parquet => Format::Parquet,
            Self::Csv => Format::Csv,
            Self::RawCsv => Format::RawCsv,
        })
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Arrow => "arrows",
            Self::Parquet => "parquet",
            Self::Csv | Self::RawCsv => "csv",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv | Self::RawCsv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// Parameters of all exports.
#[derive(Deserialize, JsonSchema)]
struct ExportParameters {
    #[serde(default)]
    q: String,
    /// arrow, parquet, csv, or raw-csv: csv without apostrophes before texts that look like formulas
    format: String,
    /// only these runs
    #[serde(default)]
    run: Vec<String>,
}

impl ExportParameters {
    fn query(&self, zone: &TimeZone) -> Option<Query> {
        let text = self.q.clone();
        let timezone_offset_min = zone.offset_min;
        Some(Query { text, timezone_offset_min, report_progress: false })
    }
}

#[derive(Deserialize, JsonSchema)]
struct MetricsParameters {
    #[serde(flatten)]
    export: ExportParameters,
    /// only metrics with these names
    #[serde(default)]
    name: Vec<String>,
    #[serde(default)]
    record_range: String,
    #[serde(flatten)]
    zone: TimeZone,
}

#[derive(Deserialize, JsonSchema)]
struct RunsParameters {
    #[serde(flatten)]
    export: ExportParameters,
    /// only the params at and below these paths, with dots between the keys
    #[serde(default)]
    param: Vec<String>,
    /// leaves out all params
    #[serde(default)]
    no_params: bool,
    /// metrics whose last values are columns: JSON objects with `name` and `context`, or names
    #[serde(default)]
    metric: Vec<String>,
    #[serde(flatten)]
    zone: TimeZone,
}

#[derive(Deserialize, JsonSchema)]
struct ObjectsParameters {
    #[serde(flatten)]
    export: ExportParameters,
    /// images, texts, distributions, audios, figures, htmls or point_clouds
    sequence: String,
    #[serde(flatten)]
    zone: TimeZone,
}

/// A file of any format.
struct ExportedFile(Response);

impl Answer for ExportedFile {
    const MEDIA_TYPE: &str = "*/*";

    fn into_response(self) -> Response {
        self.0
    }
}

async fn metrics(call: Call<MetricsParameters>) -> ApiResult<ExportedFile> {
    let MetricsParameters { export, name: names, record_range, zone } = call.parameters;
    let format = FileFormat::parse(&export.format)?;
    let request = MetricsRequest {
        query: export.query(&zone),
        format: format.to_api(),
        run_ids: export.run,
        names,
        steps: step_range(&record_range)?,
    };
    let messages = call.services.backend().export().metrics(request).await?.into_inner();
    file(messages, |it| it.piece, "metrics", format).await
}

async fn runs(call: Call<RunsParameters>) -> ApiResult<ExportedFile> {
    let RunsParameters { export, param, no_params, metric, zone } = call.parameters;
    let format = FileFormat::parse(&export.format)?;
    let request = RunsRequest {
        query: export.query(&zone),
        format: format.to_api(),
        run_ids: export.run,
        param_paths: param
            .into_iter()
            .map(|path| ParamPath { segments: path.split('.').map(str::to_owned).collect() })
            .collect(),
        no_params,
        metrics: metric.into_iter().map(series_key).collect::<ApiResult<_>>()?,
    };
    let messages = call.services.backend().export().runs(request).await?.into_inner();
    file(messages, |it| it.piece, "runs", format).await
}

async fn objects(call: Call<ObjectsParameters>) -> ApiResult<ExportedFile> {
    let ObjectsParameters { export, sequence, zone } = call.parameters;
    let format = FileFormat::parse(&export.format)?;
    let types = requested_types(std::slice::from_ref(&sequence))?;
    let request = ObjectsRequest {
        query: export.query(&zone),
        format: format.to_api(),
        run_ids: export.run,
        r#type: types.first().copied().unwrap_or_default().into(),
    };
    let messages = call.services.backend().export().objects(request).await?.into_inner();
    file(messages, |it| it.piece, &sequence, format).await
}

fn series_key(text: String) -> ApiResult<SeriesKey> {
    if !text.starts_with('{') {
        return Ok(SeriesKey { name: text, context: String::new() });
    }
    let key: super::shared::SeriesName = serde_json::from_str(&text).map_err(|_| {
        let message = "metric: is neither a name nor a JSON object with `name` and `context`";
        ApiError::new(StatusCode::BAD_REQUEST, message)
    })?;
    Ok(key.into())
}

/// A response with the pieces of a file as they arrive. The first one is awaited, so that an error
/// before it has a status and a body.
async fn file<M: Send + 'static>(
    mut messages: Streaming<M>,
    piece: fn(M) -> Option<Piece>,
    name: &str,
    format: FileFormat,
) -> ApiResult<ExportedFile> {
    let first = messages.message().await?.and_then(piece);
    let mut response = Response::new(body(first, messages, piece));
    let disposition = format!("attachment; filename=\"{name}.{}\"", format.extension());
    let disposition = HeaderValue::from_str(&disposition).expect("the header is plain ASCII");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    Ok(ExportedFile(response))
}

/// The pieces up to the last one. A failure in the middle aborts the connection, and so does an end
/// without the last piece, because a truncated file must not look complete.
fn body<M: Send + 'static>(
    first: Option<Piece>,
    messages: Streaming<M>,
    piece: fn(M) -> Option<Piece>,
) -> Body {
    let state = (first, messages, false);
    Body::from_stream(stream::try_unfold(state, move |(first, mut messages, is_done)| async move {
        if is_done {
            return Ok(None);
        }
        let next = match first {
            Some(first) => Some(first),
            None => messages.message().await.map_err(aborted)?.and_then(piece),
        };
        let Some(Piece { data, done, .. }) = next else {
            return Err(aborted(Status::internal("the export has no last piece")));
        };
        Ok::<_, io::Error>(Some((data, (None, messages, done))))
    }))
}

fn aborted(status: Status) -> io::Error {
    tracing::warn!(code = ?status.code(), message = status.message(), "export aborted");
    io::Error::other(status)
}
