//! Apps: saved states of explorers. A state is stored such that every null and number type
//! survives a round trip.

use bytes::Bytes;
use matyan_model::entity::App;
use matyan_proto::{
    apps::v1::{self as pb, app_service_server::AppService},
    limits,
};
use matyan_value::cbor;
use tonic::{Request, Response, Status};

use crate::{
    Backend,
    call::Call,
    convert,
    entities::{self, PlainListing, bounded_text},
    error::{Error, Result},
    stream::ResponseStream,
};

fn view(id: String, app: App) -> pb::App {
    pb::App {
        id,
        r#type: app.app_type,
        state: app.state.into(),
        created_us: app.created_us,
        updated_us: app.updated_us,
    }
}

/// Checks that a state can be read back; empty input is an empty state.
fn state(encoded: &Bytes) -> Result<Vec<u8>> {
    convert::check_limit("state", encoded.len(), limits::DOCUMENT_BYTES)?;
    let map = if encoded.is_empty() { Ok(Default::default()) } else { cbor::decode_map(encoded) };
    map.map(|map| cbor::encode_map(&map))
        .map_err(|error| Error::field("state", format!("is not a map: {error}")))
}

#[tonic::async_trait]
impl AppService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let list = PlainListing {
            created_us: |app: &App| app.created_us,
            view: |id, app| Some(view(id, app)),
            answer: |apps| pb::ListResponse { apps },
        };
        Ok(Response::new(self.list_all(call, list)))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let app = entities::get(&self.deps, &call, &id).await?;
        Ok(Response::new(pb::GetResponse { app: Some(view(id, app)) }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.deps.clock)();
        let app = App {
            created_us: now,
            updated_us: now,
            app_type: bounded_text("type", &request.r#type, limits::NAME_BYTES)?,
            state: state(&request.state)?,
            dashboard_id: None,
        };
        let id = entities::create(&self.deps, &call, &app).await?;
        Ok(Response::new(pb::CreateResponse { app: Some(view(id, app)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let app_type = entities::optional_text("type", request.r#type, limits::NAME_BYTES)?;
        let state = request.state.as_ref().map(state).transpose()?;
        let now = (self.deps.clock)();
        let changed = entities::update(&self.deps, &call, &request.id, |app: &mut App| {
            app.updated_us = now;
            entities::set_if_some(&mut app.app_type, app_type.as_ref());
            entities::set_if_some(&mut app.state, state.as_ref());
        });
        let app = Some(view(request.id.clone(), changed.await?));
        Ok(Response::new(pb::UpdateResponse { app }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        entities::delete::<App>(&self.deps, &call, &request.into_inner().id, None).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
