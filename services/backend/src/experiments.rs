//! Experiments: listing and reading them.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, Experiment, entity_get, entity_list, runs_count, runs_counts},
    keys::EntityKind,
};
use matyan_proto::experiments::v1::{self as pb, experiment_service_server::ExperimentService};
use tonic::{Request, Response, Status};

use crate::{Backend, call::Call, error::Error};

fn view(id: String, experiment: Experiment, runs: i64) -> pb::Experiment {
    pb::Experiment {
        id,
        name: experiment.name,
        description: experiment.description,
        run_count: u32::try_from(runs).unwrap_or_default(),
        archived: experiment.archived,
        created_us: Some(experiment.created_us),
        updated_us: Some(experiment.updated_us),
    }
}

/// Whether a name holds a part, in any case.
fn name_contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.trim().to_lowercase())
}

#[tonic::async_trait]
impl ExperimentService for Backend {
    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let part = request.into_inner().name_contains;
        let snapshot = self.context.store.snapshot().await.map_err(Error::from)?;
        let listed = entity_list::<Experiment>(snapshot.as_ref(), call.project).await.map_err(Error::from)?;
        let counts =
            runs_counts(snapshot.as_ref(), call.project, Experiment::KIND).await.map_err(Error::from)?;
        let counts: HashMap<String, i64> = counts.into_iter().collect();
        let found = listed.into_iter().filter(|(_, experiment)| name_contains(&experiment.name, &part));
        let experiments = found
            .map(|(id, experiment)| {
                let runs = counts.get(&id).copied().unwrap_or_default();
                view(id, experiment, runs)
            })
            .collect();
        Ok(Response::new(pb::ListResponse { experiments }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let id = request.into_inner().id;
        let snapshot = self.context.store.snapshot().await.map_err(Error::from)?;
        let found = entity_get(snapshot.as_ref(), call.project, &id).await.map_err(Error::from)?;
        let experiment = found.ok_or_else(|| Error::not_found("experiment", &id))?;
        let runs = runs_count(snapshot.as_ref(), call.project, EntityKind::Experiment, &id).await;
        let experiment = view(id, experiment, runs.map_err(Error::from)?);
        Ok(Response::new(pb::GetResponse { experiment: Some(experiment) }))
    }

    async fn create(&self, _: Request<pb::CreateRequest>) -> Result<Response<pb::CreateResponse>, Status> {
        Err(Error::Unimplemented("creating experiments by a call").into())
    }

    async fn update(&self, _: Request<pb::UpdateRequest>) -> Result<Response<pb::UpdateResponse>, Status> {
        Err(Error::Unimplemented("changing experiments").into())
    }

    async fn delete(&self, _: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        Err(Error::Unimplemented("deleting experiments").into())
    }

    async fn list_runs(
        &self,
        _: Request<pb::ListRunsRequest>,
    ) -> Result<Response<pb::ListRunsResponse>, Status> {
        Err(Error::Unimplemented("runs of an experiment").into())
    }

    async fn activity(
        &self,
        _: Request<pb::ActivityRequest>,
    ) -> Result<Response<pb::ActivityResponse>, Status> {
        Err(Error::Unimplemented("activity of an experiment").into())
    }
}
