//! Reports: pages of text and charts, stored exactly as written by the UI.

use matyan_model::entity::Report;
use matyan_proto::{
    limits,
    reports::v1::{self as pb, report_service_server::ReportService},
};
use tonic::{Request, Response};

use crate::{
    Backend, Deps, RpcResult,
    call::Call,
    convert::{bounded_text, set_text},
    entities::{CreateOnce, EntityApi},
    error::Result,
    stream::ResponseStream,
};

struct Reports;

impl EntityApi for Reports {
    type Entity = Report;
    type View = pb::Report;

    async fn view(&mut self, _: &Deps, _: &Call, id: String, report: Report) -> Result<pb::Report> {
        Ok(pb::Report {
            id,
            name: report.name,
            code: report.code,
            description: report.description,
            created_us: report.created_us,
            updated_us: report.updated_us,
        })
    }
}

#[tonic::async_trait]
impl ReportService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, _) = self.begin(request).await?;
        Ok(Response::new(self.list_entities(call, Reports, |reports| pb::ListResponse { reports })))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.begin(request).await?;
        let report = Some(self.get_entity(&call, Reports, request.id).await?);
        Ok(Response::new(pb::GetResponse { report }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.begin(request).await?;
        let now = (self.deps.clock)();
        let new = Report {
            created_us: now,
            updated_us: now,
            name: bounded_text("name", &request.name, limits::NAME_BYTES)?,
            code: bounded_text("code", &request.code, limits::DOCUMENT_BYTES)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
        };
        let once = CreateOnce::new(&request.request_id, &request);
        let report = Some(self.create_entity_once(&call, Reports, once, new).await?);
        Ok(Response::new(pb::CreateResponse { report }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, pb::UpdateRequest { id, name, code, description, if_updated_us }) =
            self.begin(request).await?;
        let now = (self.deps.clock)();
        let change = |it: &mut Report| {
            it.updated_us = now;
            set_text(&mut it.name, "name", name.as_deref(), limits::NAME_BYTES)?;
            set_text(&mut it.code, "code", code.as_deref(), limits::DOCUMENT_BYTES)?;
            set_text(&mut it.description, "description", description.as_deref(), limits::DESCRIPTION_BYTES)
        };
        let report = Some(self.update_entity(&call, Reports, id, if_updated_us, change).await?);
        Ok(Response::new(pb::UpdateResponse { report }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.begin(request).await?;
        self.delete_entity(&call, Reports, &request.id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
