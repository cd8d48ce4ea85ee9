//! Metric series: listing, charts from the pyramid, samples, and all points.

mod align;
mod charts;
mod columns;
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
pub(crate) use select::contexts_match;
pub(crate) use split_series::{SplitOptions, SplitSeries};

use self::run_reader::RunReader;
use matyan_model::series::RunRef;
use matyan_proto::{
    common::v1::SeriesType,
    limits,
    series::v1::{self as pb, series_service_server::SeriesService},
};
use tonic::{Request, Response};

use crate::{Backend, RpcResult, convert, error::Error, stream::ResponseStream, view};

/// Maximum number of series in a message of a list: about 100 kB.
const LISTED: usize = 1_000;

pub(crate) const ALL_TYPES: [SeriesType; 6] = [
    SeriesType::Metric,
    SeriesType::Images,
    SeriesType::Texts,
    SeriesType::Distributions,
    SeriesType::Audios,
    SeriesType::Figures,
];

#[tonic::async_trait]
impl SeriesService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;
    type BucketsStream = ResponseStream<pb::BucketsResponse>;
    type SampleStream = ResponseStream<pb::SampleResponse>;
    type PointsStream = ResponseStream<pb::PointsResponse>;
    type AlignStream = ResponseStream<pb::AlignResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, request) = self.begin(request).await?;
        let found = self.deps.find_run(&call, &request.run_id).await?;
        let run_ref = RunRef { project: call.project, number: found.number };
        let requested: Vec<SeriesType> = request.types().collect();
        let types = if requested.is_empty() { ALL_TYPES.to_vec() } else { requested };
        let wanted = view::WantedSeries { names: &request.names, keys: &[] };
        let listed = view::series_view(found.snapshot.as_ref(), run_ref, &types, wanted).await?;
        Ok(Response::new(self.respond(async move |sender| {
            let mut listed = listed.into_iter();
            loop {
                let series: Vec<_> = listed.by_ref().take(LISTED).collect();
                if series.is_empty() {
                    return Ok(());
                }
                sender.send(pb::ListResponse { series }).await?;
            }
        })))
    }

    async fn buckets(&self, request: Request<pb::BucketsRequest>) -> RpcResult<Self::BucketsStream> {
        let (call, request) = self.begin(request).await?;
        select::check(&request.runs)?;
        if request.pixels == 0 {
            return Err(Error::field("pixels", "is 0: give at least 1").into());
        }
        convert::check_limit("pixels", request.pixels as usize, limits::POINTS_PER_SERIES)?;
        let deps = self.deps.clone();
        Ok(Response::new(
            self.respond(async move |sender| charts::send(&deps, &call, request, &sender).await),
        ))
    }

    async fn sample(&self, request: Request<pb::SampleRequest>) -> RpcResult<Self::SampleStream> {
        let (call, request) = self.begin(request).await?;
        select::check(&request.runs)?;
        let deps = self.deps.clone();
        Ok(Response::new(
            self.respond(async move |sender| points::send_samples(&deps, &call, request, &sender).await),
        ))
    }

    async fn points(&self, request: Request<pb::PointsRequest>) -> RpcResult<Self::PointsStream> {
        let (call, request) = self.begin(request).await?;
        let selection = request.run.clone().ok_or_else(|| Error::field("run", "is missing"))?;
        select::check(std::slice::from_ref(&selection))?;
        let found = self.deps.find_run(&call, &selection.run_id).await?;
        let mut reader = RunReader::new(&self.deps, &call, found);
        let selected = select::series(&mut reader, &selection).await?;
        let run = reader.run_ref;
        drop(reader);
        let deps = self.deps.clone();
        Ok(Response::new(
            self.respond(async move |sender| points::send_all(&deps, run, selected, &request, &sender).await),
        ))
    }

    async fn align(&self, request: Request<pb::AlignRequest>) -> RpcResult<Self::AlignStream> {
        let (call, request) = self.begin(request).await?;
        align::check(&request)?;
        let deps = self.deps.clone();
        Ok(Response::new(self.respond(async move |sender| align::send(&deps, &call, request, &sender).await)))
    }
}
