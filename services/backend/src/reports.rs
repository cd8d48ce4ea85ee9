//! Reports: pages of text and charts, stored exactly as written by the UI.

use matyan_model::entity::Report;
use matyan_proto::{
    limits,
    reports::v1::{self as pb, report_service_server::ReportService},
};
use tonic::{Request, Response, Status};

use crate::{
    Backend,
    call::Call,
    entities::{self, PlainListing, bounded_text},
    stream::ResponseStream,
};

fn view(id: String, report: Report) -> pb::Report {
    pb::Report {
        id,
        name: report.name,
        code: report.code,
        description: report.description,
        created_us: report.created_us,
        updated_us: report.updated_us,
    }
}

#[tonic::async_trait]
impl ReportService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let list = PlainListing {
            created_us: |report: &Report| report.created_us,
            view: |id, report| Some(view(id, report)),
            answer: |reports| pb::ListResponse { reports },
        };
        Ok(Response::new(self.list_all(call, list)))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let report = entities::get(&self.deps, &call, &id).await?;
        Ok(Response::new(pb::GetResponse { report: Some(view(id, report)) }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.deps.clock)();
        let report = Report {
            created_us: now,
            updated_us: now,
            name: bounded_text("name", &request.name, limits::NAME_BYTES)?,
            code: bounded_text("code", &request.code, limits::DOCUMENT_BYTES)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
        };
        let id = entities::create(&self.deps, &call, &report).await?;
        Ok(Response::new(pb::CreateResponse { report: Some(view(id, report)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::UpdateRequest { id, name, code, description } = request.into_inner();
        let name = entities::optional_text("name", name, limits::NAME_BYTES)?;
        let code = entities::optional_text("code", code, limits::DOCUMENT_BYTES)?;
        let description = entities::optional_text("description", description, limits::DESCRIPTION_BYTES)?;
        let now = (self.deps.clock)();
        let changed = entities::update(&self.deps, &call, &id, |report: &mut Report| {
            report.updated_us = now;
            entities::set_if_some(&mut report.name, name.as_ref());
            entities::set_if_some(&mut report.code, code.as_ref());
            entities::set_if_some(&mut report.description, description.as_ref());
        });
        let changed = changed.await?;
        Ok(Response::new(pb::UpdateResponse { report: Some(view(id, changed)) }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        entities::delete::<Report>(&self.deps, &call, &request.into_inner().id, None).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
