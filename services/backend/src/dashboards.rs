//! Dashboards: named references to saved explorer states. Deleting one only hides it from the
//! list.

use std::collections::HashMap;

use matyan_model::entity::{App, Dashboard, entity_get};
use matyan_proto::{
    dashboards::v1::{self as pb, dashboard_service_server::DashboardService},
    limits,
};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Deps,
    call::Call,
    entities::{self, Listing, bounded_text},
    error::Result,
    stream::ResponseStream,
};

/// App types by app id, each read once.
#[derive(Default)]
struct AppTypes(HashMap<String, String>);

impl AppTypes {
    /// The type of an app; empty if it does not exist. The app id of a dashboard is not
    /// validated when it is stored, so it may not even be an id.
    async fn app_type(&mut self, deps: &Deps, call: &Call, app_id: &str) -> Result<String> {
        if !self.0.contains_key(app_id) && app_id.len() <= limits::NAME_BYTES {
            let snapshot = deps.store.snapshot().await?;
            let app: Option<App> = entity_get(snapshot.as_ref(), call.project, app_id).await?;
            self.0.insert(app_id.to_owned(), app.map(|app| app.app_type).unwrap_or_default());
        }
        Ok(self.0.get(app_id).cloned().unwrap_or_default())
    }

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
            app_type: if app_id.is_empty() {
                String::new()
            } else {
                self.app_type(deps, call, &app_id).await?
            },
            app_id,
            created_us: dashboard.created_us,
            updated_us: dashboard.updated_us,
        })
    }
}

impl Listing for AppTypes {
    type Entity = Dashboard;
    type View = pb::Dashboard;
    type Answer = pb::ListResponse;

    fn created_us(&self, dashboard: &Dashboard) -> i64 {
        dashboard.created_us
    }

    async fn view(
        &mut self,
        deps: &Deps,
        call: &Call,
        id: String,
        dashboard: Dashboard,
    ) -> Result<Option<pb::Dashboard>> {
        match dashboard.archived {
            true => Ok(None),
            false => self.view(deps, call, id, dashboard).await.map(Some),
        }
    }

    fn answer(&self, dashboards: Vec<pb::Dashboard>) -> pb::ListResponse {
        pb::ListResponse { dashboards }
    }
}

async fn dashboard_view(
    deps: &Deps,
    call: &Call,
    id: String,
    dashboard: Dashboard,
) -> Result<Option<pb::Dashboard>> {
    AppTypes::default().view(deps, call, id, dashboard).await.map(Some)
}

#[tonic::async_trait]
impl DashboardService for Backend {
    type ListStream = ResponseStream<pb::ListResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        Ok(Response::new(self.list_all(call, AppTypes::default())))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        let found = entities::get(&self.deps, &call, &id).await?;
        let dashboard = dashboard_view(&self.deps, &call, id, found).await?;
        Ok(Response::new(pb::GetResponse { dashboard }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.deps.clock)();
        let app_id = bounded_text("app_id", &request.app_id, limits::NAME_BYTES)?;
        let made = Dashboard {
            created_us: now,
            updated_us: now,
            name: bounded_text("name", &request.name, limits::NAME_BYTES)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
            archived: false,
            app_id: (!app_id.is_empty()).then_some(app_id),
        };
        let id = entities::create(&self.deps, &call, &made).await?;
        let dashboard = dashboard_view(&self.deps, &call, id, made).await?;
        Ok(Response::new(pb::CreateResponse { dashboard }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let pb::UpdateRequest { id, name, description } = request.into_inner();
        let name = entities::optional_text("name", name, limits::NAME_BYTES)?;
        let description = entities::optional_text("description", description, limits::DESCRIPTION_BYTES)?;
        let now = (self.deps.clock)();
        let changed = entities::update(&self.deps, &call, &id, |dashboard: &mut Dashboard| {
            dashboard.updated_us = now;
            entities::set_if_some(&mut dashboard.name, name.as_ref());
            entities::set_if_some(&mut dashboard.description, description.as_ref());
        });
        let changed = changed.await?;
        let dashboard = dashboard_view(&self.deps, &call, id, changed).await?;
        Ok(Response::new(pb::UpdateResponse { dashboard }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.deps, request.metadata()).await?;
        let id = request.into_inner().id;
        // It is only hidden from the list: `get` still returns it.
        entities::update(&self.deps, &call, &id, |dashboard: &mut Dashboard| dashboard.archived = true)
            .await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }
}
