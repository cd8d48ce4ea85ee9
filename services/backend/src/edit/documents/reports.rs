//! Reports: pages of text and charts, stored exactly as written by the UI.

use matyan_model::entity::Report;
use matyan_proto::{
    limits,
    reports::v1::{self as pb, report_service_server::ReportService},
};
use tonic::{Request, Response};

use crate::{
    edit::entities::{self, EntitySet},
    server::{
        RpcResult, Server,
        audit::audit_resource,
        call::Call,
        convert::{bounded_text, set_text},
        create_once::CreateOnce,
        deps::Deps,
        error::Result,
        stream::ResponseStream,
    },
};

struct Reports;

impl EntitySet for Reports {
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

/// The service of reports.
pub(crate) struct ReportApi {
    server: Server,
}

impl ReportApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl ReportService for ReportApi {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, _) = self.server.start_call(request).await?;
        Ok(Response::new(entities::list_entities(&self.server, call, Reports, |reports| pb::ListResponse {
            reports,
        })))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let report = Some(entities::get_entity(&self.server.deps, &call, Reports, request.id).await?);
        Ok(Response::new(pb::GetResponse { report }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let new = Report {
            created_us: now,
            updated_us: now,
            name: bounded_text("name", &request.name, limits::NAME_BYTES)?,
            code: bounded_text("code", &request.code, limits::DOCUMENT_BYTES)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
        };
        let once = CreateOnce::new(&request.request_id, &request);
        let report = Some(entities::create_entity_once(&self.server.deps, &call, Reports, once, new).await?);
        Ok(Response::new(pb::CreateResponse { report }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, pb::UpdateRequest { id, name, code, description, if_updated_us }) =
            self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let change = |it: &mut Report| {
            it.updated_us = now;
            set_text(&mut it.name, "name", name.as_deref(), limits::NAME_BYTES)?;
            set_text(&mut it.code, "code", code.as_deref(), limits::DOCUMENT_BYTES)?;
            set_text(&mut it.description, "description", description.as_deref(), limits::DESCRIPTION_BYTES)
        };
        let report = Some(
            entities::update_entity(&self.server.deps, &call, Reports, id, if_updated_us, change).await?,
        );
        Ok(Response::new(pb::UpdateResponse { report }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.id);
        entities::delete_entity(&self.server.deps, &call, Reports, &request.id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
