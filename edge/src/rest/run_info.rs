//! Everything about a run as JSON. What does not fit in the message of a run, up to 200,000 series, is
//! written as it arrives, and its params piece by piece: a client may read them slowly, or not at all.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use http::HeaderValue;
use http::header::ETAG;
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::common::v1::SeriesType;
use matyan_proto::runs::v1::{Run, SeriesInfo};
use matyan_proto::series::v1::ListRequest;
use matyan_value::json::{self, JsonStyle};
use prost::Message as _;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

use super::answer::Answer;
use super::cbor_text::CborText;
use super::edit_condition::etag;
use super::json_list::{JsonItems, JsonStream};
use super::shared::{JsonObject, Props, SeriesByType, type_name};
use super::values::StoredValueError;
use crate::answer_budget;
use crate::call_limit::Permit;
use crate::error::ApiResult;
use crate::services::Services;

/// Series or artifacts of the message of a run that are written at a time.
const LIST_ITEMS: usize = 256;

/// Only its schema is used, because the answer is written piece by piece.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct RunInfo {
    params: JsonObject,
    traces: SeriesByType<Vec<Trace>>,
    #[schemars(with = "Props")]
    props: Option<Props>,
    artifacts: Vec<Artifact>,
}

/// A series of a run. Only its schema is used, because Rust's types have no bare `NaN`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Trace {
    context: JsonObject,
    name: String,
    /// The last value of a metric. If it is infinite or NaN, this is null, a bare name, or a string for the
    /// bundle of Aim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = ["number", "null", "string"]))]
    last_value: Option<Value>,
}

fn trace_text(info: &SeriesInfo, style: JsonStyle) -> ApiResult<String> {
    let context = json::rewrite(&info.context, style).map_err(StoredValueError::from)?;
    let mut text = format!(r#"{{"context":{context},"name":"#);
    json::write_text(&mut text, &info.name, style);
    if info.r#type == i32::from(SeriesType::Metric) {
        text.push_str(r#","last_value":"#);
        json::write_float(&mut text, info.last.unwrap_or(0.0), style);
    }
    text.push('}');
    Ok(text)
}

#[derive(Serialize, JsonSchema)]
struct Artifact {
    name: String,
    path: String,
    uri: String,
}

impl From<artifacts::Artifact> for Artifact {
    fn from(artifact: artifacts::Artifact) -> Self {
        let artifacts::Artifact { path, uri, .. } = artifact;
        Artifact { name: path.rsplit('/').next().unwrap_or(&path).to_owned(), path, uri }
    }
}

/// The JSON of a run, with the version of its properties.
pub(super) struct RunInfoAnswer {
    etag: Option<HeaderValue>,
    text: JsonStream<RunInfo>,
    /// The memory of the message of the run.
    memory: Option<Permit>,
}

impl Answer for RunInfoAnswer {
    fn into_response(self) -> axum::response::Response {
        let mut response = answer_budget::hold(self.text.into_response(), self.memory);
        if let Some(etag) = self.etag {
            response.headers_mut().insert(ETAG, etag);
        }
        response
    }

    fn schema(schemas: &mut SchemaGenerator) -> Value {
        JsonStream::<RunInfo>::schema(schemas)
    }
}

/// Pieces of the text.
type Pieces = BoxStream<'static, ApiResult<Bytes>>;

/// Streams of lists of items.
type Lists<T> = BoxStream<'static, ApiResult<Vec<T>>>;

/// Answers with a run, and with the series of these types and the artifacts that did not fit in its message.
pub(super) async fn answer(
    services: &Services,
    mut run: Run,
    notes: Option<u32>,
    mut types: Vec<SeriesType>,
    style: JsonStyle,
) -> ApiResult<RunInfoAnswer> {
    let memory = answer_budget::take(held_bytes(&run)).await?;
    types.sort_unstable();
    types.dedup();
    let etag = run.props.as_ref().map(|props| etag(props.updated_us));
    let props = run.props.take().map(|props| Props::new(props, notes));
    let mut params = CborText::new(std::mem::take(&mut run.params), style);
    // The error of damaged params has a status if they are short.
    let first_params = params.piece().map_err(StoredValueError::from)?;
    let artifacts = artifacts(services, &mut run);
    let mut traces = traces(services, run, types, style);
    // The start of the first list, and the list: its error is answered with its status.
    let first = [traces.try_next().await?, traces.try_next().await?];

    let mut head = JsonItems::default();
    head.text(r#"{"params":"#);
    head.text(&first_params.unwrap_or_default());
    let mut tail = JsonItems::default();
    tail.text(r#"},"props":"#);
    tail.push(&props);
    tail.text(r#","artifacts":["#);
    let pieces = one(head.take())
        .chain(params_pieces(params))
        .chain(one(Bytes::from_static(br#","traces":{"#)))
        .chain(stream::iter(first.into_iter().flatten().map(Ok)))
        .chain(traces)
        .chain(one(tail.take()))
        .chain(items(artifacts, |artifact, out| {
            out.push(&Artifact::from(artifact));
            Ok(())
        }))
        .chain(one(Bytes::from_static(b"]}")));
    Ok(RunInfoAnswer { etag, text: JsonStream::of_pieces(pieces.boxed()), memory })
}

/// The memory of the message of a run, which an answer holds until it is written.
fn held_bytes(run: &Run) -> usize {
    let series = run.series.len() * size_of::<SeriesInfo>();
    let artifacts = run.artifacts.len() * size_of::<artifacts::Artifact>();
    run.encoded_len() + series + artifacts
}

fn one(piece: Bytes) -> Pieces {
    stream::iter([Ok(piece)]).boxed()
}

fn params_pieces(params: CborText) -> Pieces {
    let pieces = stream::try_unfold(params, |mut params| async move {
        let piece = params.piece().map_err(StoredValueError::from)?;
        ApiResult::Ok(piece.map(|piece| (Bytes::from(piece), params)))
    });
    pieces.boxed()
}

/// The members of `traces`.
fn traces(services: &Services, run: Run, types: Vec<SeriesType>, style: JsonStyle) -> Pieces {
    let Run { run_id, series, more_series, .. } = run;
    // Created here, in the scope of the request.
    let client = services.backend().series();
    // Each list has all series of its type.
    let mut in_hand = if more_series { Vec::new() } else { series };
    let members = types.into_iter().enumerate().map(move |(index, of)| {
        let lists: Lists<SeriesInfo> = if more_series {
            let mut client = client.clone();
            let types = vec![of.into()];
            let request =
                ListRequest { run_id: run_id.clone(), types, names: Vec::new(), typed_values: false };
            let messages = async move { ApiResult::Ok(client.list(request).await?.into_inner()) };
            let messages = stream::once(messages).map_ok(|messages| messages.err_into()).try_flatten();
            messages.map_ok(|message| message.series).boxed()
        } else {
            let (own, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut in_hand).into_iter().partition(|info| info.r#type == i32::from(of));
            in_hand = others;
            stream::iter(own).chunks(LIST_ITEMS).map(Ok).boxed()
        };
        let comma = if index > 0 { "," } else { "" };
        let start = format!(r#"{comma}"{}":["#, type_name(of));
        one(start.into())
            .chain(items(lists, move |info, out| {
                out.comma();
                out.end_item(&trace_text(&info, style)?);
                Ok(())
            }))
            .chain(one(Bytes::from_static(b"]")))
    });
    stream::iter(members).flatten().boxed()
}

fn artifacts(services: &Services, run: &mut Run) -> Lists<artifacts::Artifact> {
    if !run.more_artifacts {
        return stream::iter(std::mem::take(&mut run.artifacts)).chunks(LIST_ITEMS).map(Ok).boxed();
    }
    let mut client = services.backend().artifacts();
    let request = artifacts::ListRequest { run_id: run.run_id.clone(), ..artifacts::ListRequest::default() };
    let messages = async move { ApiResult::Ok(client.list(request).await?.into_inner()) };
    let messages = stream::once(messages).map_ok(|messages| messages.err_into()).try_flatten();
    messages.map_ok(|message| message.artifacts).boxed()
}

/// The items of lists, with commas between them.
fn items<T: Send + 'static>(
    lists: Lists<T>,
    push: impl Fn(T, &mut JsonItems) -> ApiResult<()> + Send + 'static,
) -> Pieces {
    let mut out = JsonItems::default();
    let pieces = lists.map(move |list| {
        for one in list? {
            push(one, &mut out)?;
        }
        Ok(out.take())
    });
    pieces.boxed()
}
