//! Apps: saved states of explorers. A state is stored in a form in which every null and number type
//! survives a round trip.

use std::collections::HashSet;

use bytes::Bytes;
use matyan_model::entity::App;
use matyan_proto::{
    apps::v1::{self as pb, app_service_server::AppService},
    limits,
};
use matyan_value::cbor;
use tonic::{Request, Response};

use crate::{
    edit::entities::{self, EntitySet},
    server::{
        RpcResult, Server,
        audit::audit_resource,
        call::Call,
        convert::{bounded_text, check_limit, set_text},
        create_once::CreateOnce,
        deps::Deps,
        error::{Error, Result},
        stream::ResponseStream,
    },
};

/// Most types in a request.
const MAX_TYPES: usize = 100;

#[derive(Default)]
struct Apps {
    /// Only apps of these types are listed; empty: all apps.
    types: HashSet<String>,
}

impl EntitySet for Apps {
    type Entity = App;
    type View = pb::App;

    fn is_listed(&self, app: &App) -> bool {
        self.contains(app) && (self.types.is_empty() || self.types.contains(&app.app_type))
    }

    async fn view(&mut self, _: &Deps, _: &Call, id: String, app: App) -> Result<pb::App> {
        Ok(pb::App {
            id,
            r#type: app.app_type,
            state: app.state.into(),
            created_us: app.created_us,
            updated_us: app.updated_us,
        })
    }
}

/// Checks that a state can be read back; empty input is an empty state.
fn state(encoded: &Bytes) -> Result<Vec<u8>> {
    check_limit("state", encoded.len(), limits::DOCUMENT_BYTES)?;
    let map = if encoded.is_empty() { Ok(Default::default()) } else { cbor::decode_map(encoded) };
    map.map(|map| cbor::encode_map(&map))
        .map_err(|error| Error::field("state", format!("is not a map: {error}")))
}

/// The service of apps.
pub(crate) struct AppApi {
    server: Server,
}

impl AppApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl AppService for AppApi {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, request) = self.server.start_call(request).await?;
        check_limit("types", request.types.len(), MAX_TYPES)?;
        let apps = Apps { types: request.types.into_iter().collect() };
        Ok(Response::new(entities::list_entities(&self.server, call, apps, |apps| pb::ListResponse { apps })))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let app = Some(entities::get_entity(&self.server.deps, &call, Apps::default(), request.id).await?);
        Ok(Response::new(pb::GetResponse { app }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let new = App {
            created_us: now,
            updated_us: now,
            app_type: bounded_text("type", &request.r#type, limits::NAME_BYTES)?,
            state: state(&request.state)?,
            dashboard_id: None,
        };
        let once = CreateOnce::new(&request.request_id, &request);
        let app =
            Some(entities::create_entity_once(&self.server.deps, &call, Apps::default(), once, new).await?);
        Ok(Response::new(pb::CreateResponse { app }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let state = request.state.as_ref().map(state).transpose()?;
        let change = |app: &mut App| {
            app.updated_us = now;
            if let Some(state) = &state {
                app.state.clone_from(state);
            }
            set_text(&mut app.app_type, "type", request.r#type.as_deref(), limits::NAME_BYTES)
        };
        let app = Some(
            entities::update_entity(
                &self.server.deps,
                &call,
                Apps::default(),
                request.id,
                request.if_updated_us,
                change,
            )
            .await?,
        );
        Ok(Response::new(pb::UpdateResponse { app }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.id);
        entities::delete_entity(&self.server.deps, &call, Apps::default(), &request.id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
