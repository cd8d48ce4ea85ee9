//! Dashboards: named references to saved explorer states. Deleting one only hides it from the
//! list.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use matyan_model::entity::{App, Dashboard, entity_get};
use matyan_proto::{
    dashboards::v1::{self as pb, dashboard_service_server::DashboardService},
    limits,
};
use tonic::{Request, Response};

use crate::{
    edit::entities::{self, EntitySet},
    server::{
        RpcResult, Server,
        audit::{audit_no_effect, audit_resource},
        call::Call,
        convert::{bounded_text, set_text},
        create_once::CreateOnce,
        deps::Deps,
        error::Result,
        stream::ResponseStream,
    },
};

/// Dashboards with the types of their apps, each read once.
#[derive(Default)]
struct Dashboards {
    types: HashMap<String, String>,
}

impl Dashboards {
    /// The type of an app; empty if it does not exist. The app id of a dashboard is not
    /// validated when it is stored, so it may not even be an id.
    async fn app_type(&mut self, deps: &Deps, call: &Call, app_id: &str) -> Result<String> {
        if app_id.is_empty() || app_id.len() > limits::NAME_BYTES {
            return Ok(String::new());
        }
        if !self.types.contains_key(app_id) {
            let snapshot = deps.store.snapshot().await?;
            let app: Option<App> = entity_get(snapshot.as_ref(), call.project, app_id).await?;
            self.types.insert(app_id.to_owned(), app.map(|app| app.app_type).unwrap_or_default());
        }
        Ok(self.types.get(app_id).cloned().unwrap_or_default())
    }
}

impl EntitySet for Dashboards {
    type Entity = Dashboard;
    type View = pb::Dashboard;

    async fn view(
        &mut self,
        deps: &Deps,
        call: &Call,
        id: String,
        dashboard: Dashboard,
    ) -> Result<pb::Dashboard> {
        let app_id = dashboard.app_id.unwrap_or_default();
        Ok(pb::Dashboard {
            id,
            name: dashboard.name,
            description: dashboard.description,
            app_type: self.app_type(deps, call, &app_id).await?,
            app_id,
            created_us: dashboard.created_us,
            updated_us: dashboard.updated_us,
        })
    }

    fn is_listed(&self, dashboard: &Dashboard) -> bool {
        !dashboard.archived
    }
}

/// The service of dashboards.
pub(crate) struct DashboardApi {
    server: Server,
}

impl DashboardApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl DashboardService for DashboardApi {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, _) = self.server.start_call(request).await?;
        Ok(Response::new(entities::list_entities(&self.server, call, Dashboards::default(), |dashboards| {
            pb::ListResponse { dashboards }
        })))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let dashboard =
            Some(entities::get_entity(&self.server.deps, &call, Dashboards::default(), request.id).await?);
        Ok(Response::new(pb::GetResponse { dashboard }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let app_id = bounded_text("app_id", &request.app_id, limits::NAME_BYTES)?;
        let new = Dashboard {
            created_us: now,
            updated_us: now,
            name: bounded_text("name", &request.name, limits::NAME_BYTES)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
            archived: false,
            app_id: (!app_id.is_empty()).then_some(app_id),
        };
        let once = CreateOnce::new(&request.request_id, &request);
        let dashboard = Some(
            entities::create_entity_once(&self.server.deps, &call, Dashboards::default(), once, new).await?,
        );
        Ok(Response::new(pb::CreateResponse { dashboard }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, pb::UpdateRequest { id, name, description, if_updated_us }) =
            self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let change = |it: &mut Dashboard| {
            it.updated_us = now;
            set_text(&mut it.name, "name", name.as_deref(), limits::NAME_BYTES)?;
            set_text(&mut it.description, "description", description.as_deref(), limits::DESCRIPTION_BYTES)
        };
        let dashboard = Some(
            entities::update_entity(
                &self.server.deps,
                &call,
                Dashboards::default(),
                id,
                if_updated_us,
                change,
            )
            .await?,
        );
        Ok(Response::new(pb::UpdateResponse { dashboard }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.id);
        let was_archived = AtomicBool::new(false);
        // The dashboard is only hidden from the list: `get` still returns it.
        entities::update(
            &self.server.deps,
            &call,
            &Dashboards::default(),
            &request.id,
            |dashboard: &mut Dashboard| {
                was_archived.store(dashboard.archived, Ordering::Relaxed);
                dashboard.archived = true;
                Ok(())
            },
        )
        .await?;
        if was_archived.into_inner() {
            audit_no_effect();
        }
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
