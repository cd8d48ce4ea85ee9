//! The project itself: its name, activity and params, and the sequences pinned in the UI; and
//! the list of projects.

mod activity;
mod columns;
mod projects;

use matyan_model::{
    ids::Job,
    lock::lock_holder,
    project::{ProjectInfo, pinned_get, pinned_put, project_info_get, project_info_load, project_info_put},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    limits,
    project::v1::{self as pb, project_service_server::ProjectService},
};
use matyan_store::{Transaction, transact};
use prost::Message;
use tonic::{Request, Response};

use super::entities::check_unchanged;
use crate::{
    admin::REINDEX,
    query::params::{MergeStream, ParamsCache},
    server::{
        RpcResult, Server,
        audit::audit_resource,
        call::{Call, known_projects},
        convert::{self, set_text},
        deps::Deps,
        error::{Error, Result},
    },
    view::run_lookup::has_run,
};

/// The name of the pinned sequences in errors.
const PINNED: &str = "list of pinned sequences of project";

/// The stored form of a pinned sequence: its message, with the context in canonical form.
fn encode_pinned(key: &SeriesKey) -> Result<Vec<u8>> {
    convert::check_limit("name", key.name.len(), limits::NAME_BYTES)?;
    let context = convert::context(key)?.canonical().to_owned();
    Ok(SeriesKey { name: key.name.clone(), context }.encode_to_vec())
}

fn decode_pinned(stored: &[Vec<u8>]) -> Result<Vec<SeriesKey>> {
    let corrupt =
        |error| Error::Internal(matyan_store::Error::corrupt(format!("invalid pinned sequence: {error}")));
    stored.iter().map(|one| SeriesKey::decode(one.as_slice()).map_err(corrupt)).collect()
}

/// The version of something of a project after a change, unless it has changed since the caller read it.
fn new_version(
    resource: &'static str,
    call: &Call,
    last_us: i64,
    if_updated_us: Option<i64>,
    now_us: i64,
) -> Result<i64> {
    check_unchanged(resource, &call.project_name, last_us, if_updated_us)?;
    Ok(now_us.max(last_us.saturating_add(1)))
}

async fn get(deps: &Deps, call: &Call, run_id: &str) -> Result<pb::GetResponse> {
    let snapshot = deps.store.snapshot().await?;
    let snapshot = snapshot.as_ref();
    let ProjectInfo { name, description, updated_us, .. } = project_info_get(snapshot, call.project).await?;
    Ok(pb::GetResponse {
        name,
        description,
        updated_us,
        exceeded_quota: deps.quotas.exceeded(snapshot, &call.named_project()).await?,
        has_run: has_run(snapshot, call.project, run_id).await?,
    })
}

/// The service of projects.
pub(crate) struct ProjectApi {
    server: Server,
    params: ParamsCache,
}

impl ProjectApi {
    pub(crate) fn new(server: Server, params: ParamsCache) -> Self {
        Self { server, params }
    }
}

#[tonic::async_trait]
impl ProjectService for ProjectApi {
    type ParamsStream = MergeStream<pb::ParamsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<pb::ListResponse> {
        let known = known_projects(request.metadata())?;
        self.server.start_call(request).await?;
        let projects = projects::list(&self.server.deps, known.as_ref()).await?;
        Ok(Response::new(pb::ListResponse { projects }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (_, request) = self.server.start_call(request).await?;
        audit_resource(&request.name);
        let project = projects::create(&self.server.deps, request).await?;
        Ok(Response::new(pb::CreateResponse { project: Some(project) }))
    }

    async fn delete(&self, mut request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let name = request.get_ref().name.clone();
        projects::check_deleted_project(request.metadata_mut(), &name)?;
        let (_, pb::DeleteRequest { name }) = self.server.start_call(request).await?;
        audit_resource(&name);
        let project = projects::delete(&self.server.deps, &name).await?;
        Ok(Response::new(pb::DeleteResponse { project: Some(project) }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, pb::GetRequest { run_id }) = self.server.start_call(request).await?;
        Ok(Response::new(get(&self.server.deps, &call, &run_id).await?))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, pb::UpdateRequest { name, description, if_updated_us }) =
            self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let (info, _) = transact(self.server.deps.store.as_ref(), async |mut transaction: Transaction| {
            let mut info: ProjectInfo = project_info_load(&transaction, call.project).await?;
            let last = &mut info.updated_us;
            *last = new_version("project", &call, *last, if_updated_us, now)?;
            set_text(&mut info.name, "name", name.as_deref(), limits::NAME_BYTES)?;
            set_text(
                &mut info.description,
                "description",
                description.as_deref(),
                limits::DESCRIPTION_BYTES,
            )?;
            project_info_put(transaction.batch(), call.project, &info);
            Ok::<_, Error>((transaction, info))
        })
        .await?;
        let ProjectInfo { name, description, updated_us, .. } = info;
        Ok(Response::new(pb::UpdateResponse { name, description, updated_us }))
    }

    async fn activity(&self, request: Request<pb::ActivityRequest>) -> RpcResult<pb::ActivityResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let offset = request.timezone_offset_min;
        Ok(Response::new(activity::activity(&self.server.deps, &call, offset).await?))
    }

    async fn params(&self, request: Request<pb::ParamsRequest>) -> RpcResult<Self::ParamsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let types: Vec<SeriesType> = request.types().collect();
        if types.contains(&SeriesType::Unspecified) || types.len() < request.types.len() {
            return Err(Error::field("types", "contains an unknown type").into());
        }
        let merged = self.params.merged(call.project).await?;
        let work = async move |sender| merged.send(!request.exclude_params, types, &sender).await;
        Ok(Response::new(self.params.hold(self.server.respond(work), call.origin.answer)))
    }

    async fn find_columns(
        &self,
        request: Request<pb::FindColumnsRequest>,
    ) -> RpcResult<pb::FindColumnsResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let search = columns::ColumnSearch::new(&request)?;
        let merged = self.params.merged(call.project).await?;
        Ok(Response::new(search.find(&self.server.deps.evaluation, merged).await?))
    }

    async fn get_pinned_sequences(
        &self,
        request: Request<pb::GetPinnedSequencesRequest>,
    ) -> RpcResult<pb::GetPinnedSequencesResponse> {
        let (call, _) = self.server.start_call(request).await?;
        let snapshot = self.server.deps.store.snapshot().await.map_err(Error::from)?;
        let pinned = pinned_get(snapshot.as_ref(), call.project).await.map_err(Error::from)?;
        let info = project_info_get(snapshot.as_ref(), call.project).await.map_err(Error::from)?;
        let sequences = decode_pinned(&pinned)?;
        let updated_us = info.pinned_updated_us;
        Ok(Response::new(pb::GetPinnedSequencesResponse { sequences, updated_us }))
    }

    async fn set_pinned_sequences(
        &self,
        request: Request<pb::SetPinnedSequencesRequest>,
    ) -> RpcResult<pb::SetPinnedSequencesResponse> {
        let (call, pb::SetPinnedSequencesRequest { sequences, if_updated_us }) =
            self.server.start_call(request).await?;
        convert::check_limit("sequences", sequences.len(), limits::PINNED_SEQUENCES)?;
        let pinned = sequences.iter().map(encode_pinned).collect::<Result<Vec<_>>>()?;
        let now = (self.server.deps.clock)();
        let (updated_us, _) =
            transact(self.server.deps.store.as_ref(), async |mut transaction: Transaction| {
                let mut info: ProjectInfo = project_info_load(&transaction, call.project).await?;
                let updated_us = new_version(PINNED, &call, info.pinned_updated_us, if_updated_us, now)?;
                info.pinned_updated_us = updated_us;
                project_info_put(transaction.batch(), call.project, &info);
                pinned_put(transaction.batch(), call.project, &pinned);
                Ok::<_, Error>((transaction, updated_us))
            })
            .await?;
        let sequences = decode_pinned(&pinned)?;
        Ok(Response::new(pb::SetPinnedSequencesResponse { sequences, updated_us }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> RpcResult<pb::StatusResponse> {
        let (call, _) = self.server.start_call(request).await?;
        let snapshot = self.server.deps.store.snapshot().await.map_err(Error::from)?;
        let held =
            lock_holder(snapshot.as_ref(), Job::new(REINDEX, call.project)).await.map_err(Error::from)?;
        Ok(Response::new(pb::StatusResponse { up_to_date: held.is_none() }))
    }
}
