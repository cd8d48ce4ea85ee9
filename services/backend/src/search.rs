//! Searches: a query is compiled, indexes propose runs, the documents decide, and matches are
//! streamed.
//!
//! `query_text` compiles the query, `index` reads the indexes, `scan` reads the proposed runs page
//! by page, `columns` avoids reading documents, `load` and `candidate` present a document to the
//! query language, `filter` evaluates, `unknown_names` warns, and `delivery` and `keep_alive` send the matches to a client.
//! The order of sorted lists, and groups, come from the tables in `crate::table`.

mod query_text;
mod text_position;

mod columns;
mod index;
mod scan;

mod candidate;
mod load;

mod filter;
mod unknown_names;

mod delivery;
mod keep_alive;

mod by_created;
mod groups;
mod run_request;
mod runs;
mod sort;

mod metrics;
mod objects;
mod sequences;

mod complete;
mod explain;
mod watch;

pub(crate) use {
    candidate::Sequence,
    filter::QueryFilter,
    index::find_matches,
    load::CandidateLoader,
    metrics::{MetricSequences, search as search_metrics},
    objects::{ObjectSequences, search as search_objects},
    query_text::{CompiledQuery, compile_query},
    scan::{RunScanner, newest_run},
    sequences::{MessageStatus, SearchScope, SequenceKind, SequencePage, SequenceSearch},
    text_position::TextPosition,
    watch::{RunsWatch, begin as watch_runs},
};

use matyan_proto::search::v1::{self as pb, search_service_server::SearchService};
use tonic::{Request, Response};

use crate::{Backend, RpcResult, stream::ResponseStream};

#[tonic::async_trait]
impl SearchService for Backend {
    type RunsStream = ResponseStream<pb::RunsResponse>;
    type WatchRunsStream = ResponseStream<pb::WatchRunsResponse>;
    type MetricsStream = ResponseStream<pb::MetricsResponse>;
    type ObjectsStream = ResponseStream<pb::ObjectsResponse>;

    async fn runs(&self, request: Request<pb::RunsRequest>) -> RpcResult<Self::RunsStream> {
        let (call, request) = self.begin(request).await?;
        let search = run_request::RunSearch::new(self, call, request).await?;
        Ok(Response::new(self.respond(async move |sender| search.send(&sender).await)))
    }

    async fn watch_runs(&self, request: Request<pb::WatchRunsRequest>) -> RpcResult<Self::WatchRunsStream> {
        let (call, request) = self.begin(request).await?;
        let watch = watch::begin(self, call, request).await?;
        Ok(Response::new(self.respond(async move |sender| watch.run(&sender).await)))
    }

    async fn groups(&self, request: Request<pb::GroupsRequest>) -> RpcResult<pb::GroupsResponse> {
        let (call, request) = self.begin(request).await?;
        let found = groups::groups(&self.deps, &self.tables, &call, request).await?;
        Ok(Response::new(found))
    }

    async fn metrics(&self, request: Request<pb::MetricsRequest>) -> RpcResult<Self::MetricsStream> {
        let (call, request) = self.begin(request).await?;
        let (search, metrics) = metrics::search(self, call, request).await?;
        Ok(Response::new(self.respond(async move |sender| search.send(metrics, &sender).await)))
    }

    async fn objects(&self, request: Request<pb::ObjectsRequest>) -> RpcResult<Self::ObjectsStream> {
        let (call, request) = self.begin(request).await?;
        let (search, objects) = objects::search(self, call, request).await?;
        Ok(Response::new(self.respond(async move |sender| search.send(objects, &sender).await)))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> RpcResult<pb::ExplainResponse> {
        let (call, request) = self.begin(request).await?;
        let explained = explain::explain(&self.deps, &call, request).await?;
        Ok(Response::new(explained))
    }

    async fn complete(&self, request: Request<pb::CompleteRequest>) -> RpcResult<pb::CompleteResponse> {
        let (call, request) = self.begin(request).await?;
        let completed = complete::complete(self, &call, request).await?;
        Ok(Response::new(completed))
    }
}
