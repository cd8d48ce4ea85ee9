//! Searches: a query is compiled, indexes propose runs, the documents decide, and matches are
//! streamed. The order of sorted lists, and groups, come from the tables in `query::table`.

mod groups;
mod run_request;
mod runs;
mod sort;
mod unknown_names;

mod metrics;
mod objects;
mod sequences;

mod complete;
mod explain;
mod watch;

pub(crate) use {
    metrics::{MetricSequences, search as search_metrics},
    objects::{ObjectSequences, search as search_objects},
    sequences::{SearchScope, SequenceKind, SequencePage, SequenceSearch},
    watch::{RunsWatch, start as watch_runs},
};

use matyan_proto::search::v1::{self as pb, search_service_server::SearchService};
use tonic::{Request, Response};

use super::catalog::Catalog;
use crate::{
    changes::Watches,
    server::{RpcResult, Server, large_runs::LargeRunStream, stream::ResponseStream},
};

/// The service of searches.
pub(crate) struct SearchApi {
    server: Server,
    catalog: Catalog,
    watches: Watches,
}

impl SearchApi {
    pub(crate) fn new(server: Server, catalog: Catalog, watches: Watches) -> Self {
        Self { server, catalog, watches }
    }
}

#[tonic::async_trait]
impl SearchService for SearchApi {
    type RunsStream = LargeRunStream<pb::RunsResponse>;
    type WatchRunsStream = ResponseStream<pb::WatchRunsResponse>;
    type MetricsStream = LargeRunStream<pb::MetricsResponse>;
    type ObjectsStream = LargeRunStream<pb::ObjectsResponse>;

    async fn runs(&self, request: Request<pb::RunsRequest>) -> RpcResult<Self::RunsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let origin = call.origin.clone();
        let search = run_request::RunSearch::new(&self.catalog, call, request).await?;
        Ok(Response::new(self.server.large_runs.stream(origin, |room| {
            self.server.respond_on_query_threads(async move |sender| search.send(&sender, room).await)
        })))
    }

    async fn watch_runs(&self, request: Request<pb::WatchRunsRequest>) -> RpcResult<Self::WatchRunsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let watch = watch::start(&self.catalog, &self.watches, call, request).await?;
        Ok(Response::new(self.server.respond(async move |sender| watch.run(&sender).await)))
    }

    async fn groups(&self, request: Request<pb::GroupsRequest>) -> RpcResult<pb::GroupsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let found = groups::groups(&self.server.deps, &self.catalog.tables, &call, request).await?;
        Ok(Response::new(found))
    }

    async fn metrics(&self, request: Request<pb::MetricsRequest>) -> RpcResult<Self::MetricsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let origin = call.origin.clone();
        let (search, metrics) = metrics::search(&self.catalog, call, request).await?;
        Ok(Response::new(self.server.large_runs.stream(origin, |mut room| {
            self.server.respond_on_query_threads(async move |sender| {
                search.send(metrics, &sender, Some(&mut room)).await
            })
        })))
    }

    async fn objects(&self, request: Request<pb::ObjectsRequest>) -> RpcResult<Self::ObjectsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let origin = call.origin.clone();
        let (search, objects) = objects::search(&self.catalog, call, request).await?;
        Ok(Response::new(self.server.large_runs.stream(origin, |mut room| {
            self.server.respond_on_query_threads(async move |sender| {
                search.send(objects, &sender, Some(&mut room)).await
            })
        })))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> RpcResult<pb::ExplainResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let explained = explain::explain(&self.server.deps, &call, request).await?;
        Ok(Response::new(explained))
    }

    async fn complete(&self, request: Request<pb::CompleteRequest>) -> RpcResult<pb::CompleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let completed = complete::complete(&self.catalog, &call, request).await?;
        Ok(Response::new(completed))
    }
}
