//! Searches: a query is compiled, indexes propose runs, the documents decide, and matches are
//! streamed.
//!
//! `text` compiles the query, `index` reads the indexes, `scan` reads the proposed runs page by
//! page, `columns` avoids reading documents, `load` and `candidate` present a document to the
//! query language, `judge` evaluates, and `delivery` and `pulse` send the matches to a client.

mod text;

mod columns;
mod index;
mod scan;

mod candidate;
mod load;

mod judge;

mod delivery;
mod pulse;

mod dated;
mod runs;
mod sort;

mod metrics;
mod objects;
mod sequences;

mod explain;

pub(crate) use {
    judge::Judge,
    load::Loader,
    text::{Place, compiled},
};

use matyan_proto::search::v1::{self as pb, search_service_server::SearchService};
use tonic::{Request, Response, Status};

use crate::{Backend, call::Call, stream::Answers};

#[tonic::async_trait]
impl SearchService for Backend {
    type RunsStream = Answers<pb::RunsResponse>;
    type MetricsStream = Answers<pb::MetricsResponse>;
    type ObjectsStream = Answers<pb::ObjectsResponse>;

    async fn runs(&self, request: Request<pb::RunsRequest>) -> Result<Response<Self::RunsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let search = runs::RunSearch::new(self.context.clone(), call, request.into_inner())?;
        Ok(Response::new(self.answers(async move |sender| search.send(&sender).await)))
    }

    async fn metrics(
        &self,
        request: Request<pb::MetricsRequest>,
    ) -> Result<Response<Self::MetricsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let (search, metrics) = metrics::search(self.context.clone(), call, request.into_inner())?;
        Ok(Response::new(self.answers(async move |sender| search.send(metrics, &sender).await)))
    }

    async fn objects(
        &self,
        request: Request<pb::ObjectsRequest>,
    ) -> Result<Response<Self::ObjectsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let (search, objects) = objects::search(self.context.clone(), call, request.into_inner())?;
        Ok(Response::new(self.answers(async move |sender| search.send(objects, &sender).await)))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let explained = explain::explain(&self.context, &call, request.into_inner()).await?;
        Ok(Response::new(explained))
    }
}
