//! Searches. Without a query they list every run that is not archived, newest first.

use matyan_model::{
    ids::RunId,
    keys,
    run::{Document, runs_list},
};
use matyan_proto::{
    common::v1::Progress,
    runs::v1::RunParts,
    search::v1::{self as pb, search_service_server::SearchService},
};
use matyan_store::Scan;
use tonic::{Request, Response, Status};

use crate::{
    Backend, Context,
    call::Call,
    context::Found,
    error::Error,
    stream::{Answers, End, Sender, answers},
    view::{Names, run_view},
};

/// Documents read with one snapshot: what a slow client may keep waiting is no snapshot.
const PAGE: Scan = Scan { rows: 256, bytes: 1 << 20, reverse: true };

#[tonic::async_trait]
impl SearchService for Backend {
    type RunsStream = Answers<pb::RunsResponse>;
    type MetricsStream = Answers<pb::MetricsResponse>;
    type ObjectsStream = Answers<pb::ObjectsResponse>;

    async fn runs(&self, request: Request<pb::RunsRequest>) -> Result<Response<Self::RunsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        let has_query = request.query.as_ref().is_some_and(|query| !query.text.trim().is_empty());
        if has_query || !request.sort.is_empty() {
            return Err(Error::Unimplemented("searching by a query or an order").into());
        }
        let context = self.context.clone();
        Ok(Response::new(answers(async move |sender| {
            Listing::new(request).send(&context, &call, &sender).await
        })))
    }

    async fn metrics(&self, _: Request<pb::MetricsRequest>) -> Result<Response<Self::MetricsStream>, Status> {
        Err(Error::Unimplemented("searching metrics").into())
    }

    async fn objects(&self, _: Request<pb::ObjectsRequest>) -> Result<Response<Self::ObjectsStream>, Status> {
        Err(Error::Unimplemented("searching objects").into())
    }

    async fn explain(&self, _: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainResponse>, Status> {
        Err(Error::Unimplemented("explaining a query").into())
    }
}

/// A list under way.
struct Listing {
    parts: RunParts,
    report_progress: bool,
    /// Runs still wanted; `None`: all.
    left: Option<u32>,
    /// The run that the page begins behind, until it was met.
    after: Option<String>,
    checked: u64,
    matched: u64,
}

impl Listing {
    fn new(request: pb::RunsRequest) -> Self {
        Self {
            parts: request.parts.unwrap_or_default(),
            report_progress: request.query.is_some_and(|query| query.report_progress),
            left: (request.limit > 0).then_some(request.limit),
            after: (!request.after_run_id.is_empty()).then_some(request.after_run_id),
            checked: 0,
            matched: 0,
        }
    }

    async fn send(
        mut self,
        context: &Context,
        call: &Call,
        sender: &Sender<pb::RunsResponse>,
    ) -> Result<(), End> {
        let mut names = Names::new(call.project);
        let mut rest = Some(keys::documents(call.project));
        while let Some(range) = rest.filter(|_| self.left != Some(0)) {
            let snapshot = context.store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), call.project, &range, PAGE).await?;
            rest = page.rest;
            let mut runs = Vec::new();
            drop(snapshot);
            for (number, document) in page.runs {
                self.checked += 1;
                if !self.takes(&document) {
                    continue;
                }
                let id = RunId::new(document.props.run_id.clone());
                let found = Found { snapshot: context.store.snapshot().await?, id, number, document };
                runs.push(run_view(context, &mut names, &found, &self.parts).await?);
            }
            let first_place = self.matched + 1 - runs.len() as u64;
            sender
                .send(pb::RunsResponse {
                    runs,
                    first_place,
                    progress: self.progress(),
                    ..pb::RunsResponse::default()
                })
                .await?;
        }
        sender
            .send(pb::RunsResponse { done: true, progress: self.progress(), ..pb::RunsResponse::default() })
            .await?;
        Ok(())
    }

    fn takes(&mut self, document: &Document) -> bool {
        let props = &document.props;
        if props.pending_delete || props.archived || self.left == Some(0) {
            return false;
        }
        self.matched += 1;
        if let Some(after) = &self.after {
            if *after == props.run_id {
                self.after = None;
            }
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        true
    }

    fn progress(&self) -> Option<Progress> {
        self.report_progress.then_some(Progress { checked: self.checked, total: 0, matched: self.matched })
    }
}
