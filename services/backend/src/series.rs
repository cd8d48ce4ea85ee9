//! Metric series: listing, charts from the pyramid, samples, and all points.

mod align;
mod bands;
mod chart_axis;
mod chart_memory;
mod charts;
mod columns;
mod edit;
pub(crate) mod follow;
mod grid;
pub(crate) mod objects;
mod point_pieces;
mod points;
mod run_reader;
mod select;
mod split_series;

pub(crate) use charts::{bucket_columns, chart};
pub(crate) use columns::{DEFAULT_COLUMNS, columnar};
pub(crate) use point_pieces::{AxisReader, PointPieces};
pub(crate) use points::{is_sent_in_pieces, sample_for_search, x_axis};
pub(crate) use run_reader::batch_size;
pub(crate) use split_series::{SplitOptions, SplitSeries};

use matyan_model::series::{RunRef, StepRange};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange as HalfOpen},
    ingest::v1::edit_series::Edit,
    limits,
    series::v1::{self as pb, series_service_server::SeriesService},
};
use tonic::{Request, Response};

use crate::{
    changes::Watches,
    server::{
        RpcResult, Server, audit::audit_resource, convert, create_once::CreateOnce, error::Error,
        stream::ResponseStream,
    },
    view::{self, typed_values::add_context_values},
};
use chart_memory::{ChartMemory, ChartStream};
use edit::EditRequest;
use run_reader::RunReader;

/// Maximum number of series in a message of a list: about 100 kB.
const LISTED: usize = 1_000;

pub(crate) const ALL_TYPES: [SeriesType; 8] = [
    SeriesType::Metric,
    SeriesType::Images,
    SeriesType::Texts,
    SeriesType::Distributions,
    SeriesType::Audios,
    SeriesType::Figures,
    SeriesType::Htmls,
    SeriesType::PointClouds,
];

fn check_pixels(pixels: u32) -> Result<(), Error> {
    if pixels == 0 {
        return Err(Error::field("pixels", "is 0: give at least 1"));
    }
    convert::check_limit("pixels", pixels as usize, limits::POINTS_PER_SERIES)
}

/// The service of series.
pub(crate) struct SeriesApi {
    server: Server,
    charts: ChartMemory,
    watches: Watches,
}

impl SeriesApi {
    pub(crate) fn new(server: Server, watches: Watches) -> Self {
        Self { server, charts: ChartMemory::default(), watches }
    }
}

#[tonic::async_trait]
impl SeriesService for SeriesApi {
    type ListStream = ChartStream<pb::ListResponse>;
    type BucketsStream = ChartStream<pb::BucketsResponse>;
    type BandsStream = ChartStream<pb::BandsResponse>;
    type FollowStream = ResponseStream<pb::FollowResponse>;
    type SampleStream = ResponseStream<pb::SampleResponse>;
    type PointsStream = ResponseStream<pb::PointsResponse>;
    type AlignStream = ResponseStream<pb::AlignResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, request) = self.server.start_call(request).await?;
        let requested: Vec<SeriesType> = request.types().collect();
        let types = if requested.is_empty() { ALL_TYPES.to_vec() } else { requested };
        convert::check_limit("names", request.names.len(), convert::MAX_COLUMNS)?;
        let wanted = view::WantedSeries { names: &request.names, keys: &[] };
        let (found, turn) = self.server.find_run_with_series(&call, &request.run_id, &types, wanted).await?;
        let run_ref = RunRef { project: call.project, number: found.number };
        let page = view::SeriesPage::ALL;
        let (mut listed, _) =
            view::series_view(found.snapshot.as_ref(), run_ref, &types, wanted, page).await?;
        if request.typed_values {
            listed = listed.into_iter().map(add_context_values).collect();
        }
        // No snapshot stays open while the call waits.
        drop(found);
        let memory = self.charts.take(chart_memory::of_list(&listed)).await;
        drop(turn);
        let messages = self.server.respond(async move |sender| {
            let mut listed = listed.into_iter();
            loop {
                let series: Vec<_> = listed.by_ref().take(LISTED).collect();
                if series.is_empty() {
                    return Ok(());
                }
                sender.send(pb::ListResponse { series }).await?;
            }
        });
        Ok(Response::new(self.charts.hold(memory, messages, call.origin.answer)))
    }

    async fn buckets(&self, request: Request<pb::BucketsRequest>) -> RpcResult<Self::BucketsStream> {
        let (call, request) = self.server.start_call(request).await?;
        select::check(&request.runs)?;
        check_pixels(request.pixels)?;
        if request.x_range.is_some() && request.axis.is_none() {
            return Err(Error::field("x_range", "needs an `axis`: without one, give `steps`").into());
        }
        let memory = self.charts.take(chart_memory::of_buckets(&request)).await;
        let deps = self.server.deps.clone();
        let answer = call.origin.answer.clone();
        let work = async move |sender| charts::send(&deps, &call, request, &sender).await;
        Ok(Response::new(self.charts.hold(memory, self.server.respond_on_query_threads(work), answer)))
    }

    async fn bands(&self, request: Request<pb::BandsRequest>) -> RpcResult<Self::BandsStream> {
        let (call, request) = self.server.start_call(request).await?;
        check_pixels(request.pixels)?;
        bands::check(&request)?;
        let memory = self.charts.take(chart_memory::of_bands(&request)).await;
        let deps = self.server.deps.clone();
        let answer = call.origin.answer.clone();
        let work = async move |sender| bands::send(&deps, &call, request, &sender).await;
        Ok(Response::new(self.charts.hold(memory, self.server.respond_on_query_threads(work), answer)))
    }

    async fn sample(&self, request: Request<pb::SampleRequest>) -> RpcResult<Self::SampleStream> {
        let (call, request) = self.server.start_call(request).await?;
        select::check(&request.runs)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond_on_query_threads(async move |sender| {
            points::send_samples(&deps, &call, request, &sender).await
        })))
    }

    async fn points(&self, request: Request<pb::PointsRequest>) -> RpcResult<Self::PointsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let selection = request.run.clone().ok_or_else(|| Error::field("run", "is missing"))?;
        select::check(std::slice::from_ref(&selection))?;
        let found = self.server.deps.find_run(&call, &selection.run_id).await?;
        let mut reader = RunReader::new(&self.server.deps, &call, found);
        let steps = convert::step_range(request.steps);
        let selected = select::series(&mut reader, &selection, steps).await?;
        let run = reader.run_ref;
        drop(reader);
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond_on_query_threads(async move |sender| {
            points::send_all(&deps, run, selected, &request, &sender).await
        })))
    }

    async fn align(&self, request: Request<pb::AlignRequest>) -> RpcResult<Self::AlignStream> {
        let (call, request) = self.server.start_call(request).await?;
        align::check(&request)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond_on_query_threads(async move |sender| {
                align::send(&deps, &call, request, &sender).await
            }),
        ))
    }

    async fn follow(&self, request: Request<pb::FollowRequest>) -> RpcResult<Self::FollowStream> {
        let (call, request) = self.server.start_call(request).await?;
        let follow = follow::start(&self.server.deps, &self.watches, call, request).await?;
        Ok(Response::new(self.server.respond(async move |sender| follow.run(&sender).await)))
    }

    async fn rename(&self, request: Request<pb::RenameRequest>) -> RpcResult<pb::RenameResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let new_key = request.new_key.clone();
        let new_key = new_key.ok_or_else(|| Error::field("new_key", "is missing: give the new name"))?;
        let edited = EditRequest {
            run_id: request.run_id.clone(),
            series_type: request.r#type(),
            key: request.key.clone(),
            edit: Edit::NewKey(new_key),
            call: "rename series",
            once: CreateOnce::new(&request.request_id, &request),
        };
        edit::edit(&self.server.deps, &call, edited).await?;
        Ok(Response::new(pb::RenameResponse {}))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_series(&request.run_id, request.key.as_ref(), None);
        let edited = EditRequest {
            run_id: request.run_id.clone(),
            series_type: request.r#type(),
            key: request.key.clone(),
            edit: Edit::DeletedSteps(HalfOpen::default()),
            call: "delete series",
            once: CreateOnce::new(&request.request_id, &request),
        };
        edit::edit(&self.server.deps, &call, edited).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn delete_steps(
        &self,
        request: Request<pb::DeleteStepsRequest>,
    ) -> RpcResult<pb::DeleteStepsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_series(&request.run_id, request.key.as_ref(), request.steps);
        let steps = request.steps.ok_or_else(|| Error::field("steps", "is missing: give a range"))?;
        if StepRange::from(steps).is_empty() {
            return Err(Error::field("steps", "selects no step: `stop` is after the last one").into());
        }
        let edited = EditRequest {
            run_id: request.run_id.clone(),
            series_type: request.r#type(),
            key: request.key.clone(),
            edit: Edit::DeletedSteps(steps),
            call: "delete steps",
            once: CreateOnce::new(&request.request_id, &request),
        };
        edit::edit(&self.server.deps, &call, edited).await?;
        Ok(Response::new(pb::DeleteStepsResponse {}))
    }
}

/// Says which series a call deletes, or which steps of it.
fn audit_series(run_id: &str, key: Option<&SeriesKey>, steps: Option<HalfOpen>) {
    let Some(SeriesKey { name, context }) = key else { return audit_resource(run_id) };
    let Some(HalfOpen { start, stop }) = steps else {
        return audit_resource(format_args!("{run_id} {name} {context}"));
    };
    let shown = |end: Option<i64>| end.map_or_else(String::new, |end| end.to_string());
    let steps = format!("{}..{}", shown(start), shown(stop));
    audit_resource(format_args!("{run_id} {name} {context} steps {steps}"));
}
