//! Experiments, and the runs in them.

use matyan_model::{
    entity::{Entity, Experiment},
    keys,
    run::Props,
};
use matyan_proto::{
    experiments::v1::{self as pb, experiment_service_server::ExperimentService},
    limits,
    log::v1::{ExperimentDeleted, control_event::Kind},
};
use tonic::{Request, Response};

use super::entities::{self, EntitySet, RunCounts, name_contains};
use crate::{
    listing::{ActivityHours, IndexedRuns, LinkedRuns, PageEnd, request_digest},
    server::{
        RpcResult, Server,
        audit::audit_resource,
        call::Call,
        convert::{bounded_text, required_name, set_name, set_text},
        deps::Deps,
        error::Result,
        stream::ResponseStream,
    },
    view::ended_us,
};

/// Experiments with their numbers of runs. Lists contain an entity if its name contains `name_part`.
#[derive(Default)]
struct Experiments {
    name_part: String,
    runs: RunCounts,
}

impl EntitySet for Experiments {
    type Entity = Experiment;
    type View = pb::Experiment;

    async fn view(
        &mut self,
        deps: &Deps,
        call: &Call,
        id: String,
        experiment: Experiment,
    ) -> Result<pb::Experiment> {
        Ok(pb::Experiment {
            run_count: self.runs.count(deps, call, Experiment::KIND, &id).await?,
            id,
            name: experiment.name,
            description: experiment.description,
            archived: experiment.archived,
            created_us: Some(experiment.created_us),
            updated_us: Some(experiment.updated_us),
        })
    }

    fn is_listed(&self, experiment: &Experiment) -> bool {
        name_contains(&experiment.name, &self.name_part)
    }

    fn deletion(id: &str) -> Option<Kind> {
        Some(Kind::ExperimentDeleted(ExperimentDeleted { experiment_id: id.to_owned() }))
    }
}

fn run(props: Props) -> pb::ExperimentRun {
    pb::ExperimentRun {
        ended_us: ended_us(&props),
        run_id: props.run_id,
        name: props.name,
        created_us: props.created_us,
        archived: props.archived,
    }
}

/// The service of experiments.
pub(crate) struct ExperimentApi {
    server: Server,
}

impl ExperimentApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl ExperimentService for ExperimentApi {
    type ListStream = ResponseStream<pb::ListResponse>;
    type ListRunsStream = ResponseStream<pb::ListRunsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, pb::ListRequest { name_contains: name_part }) = self.server.start_call(request).await?;
        let runs = RunCounts::read_all(&self.server.deps, &call, Experiment::KIND).await?;
        Ok(Response::new(entities::list_entities(
            &self.server,
            call,
            Experiments { name_part, runs },
            |experiments| pb::ListResponse { experiments },
        )))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let experiment =
            Some(entities::get_entity(&self.server.deps, &call, Experiments::default(), request.id).await?);
        Ok(Response::new(pb::GetResponse { experiment }))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let new = Experiment {
            created_us: now,
            updated_us: now,
            name: required_name("name", &request.name)?,
            description: bounded_text("description", &request.description, limits::DESCRIPTION_BYTES)?,
            archived: false,
        };
        let without_runs = Experiments { runs: RunCounts::none(), ..Experiments::default() };
        let experiment = Some(entities::create_entity(&self.server.deps, &call, without_runs, new).await?);
        Ok(Response::new(pb::CreateResponse { experiment }))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> RpcResult<pb::UpdateResponse> {
        let (call, pb::UpdateRequest { id, name, description, archived, if_updated_us }) =
            self.server.start_call(request).await?;
        let now = (self.server.deps.clock)();
        let change = |it: &mut Experiment| {
            it.updated_us = now;
            it.archived = archived.unwrap_or(it.archived);
            set_name(&mut it.name, "name", name.as_deref())?;
            set_text(&mut it.description, "description", description.as_deref(), limits::DESCRIPTION_BYTES)
        };
        let experiment = Some(
            entities::update_entity(
                &self.server.deps,
                &call,
                Experiments::default(),
                id,
                if_updated_us,
                change,
            )
            .await?,
        );
        Ok(Response::new(pb::UpdateResponse { experiment }))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, request) = self.server.start_call(request).await?;
        audit_resource(&request.id);
        entities::delete_entity(&self.server.deps, &call, Experiments::default(), &request.id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> RpcResult<Self::ListRunsStream> {
        let (call, pb::ListRunsRequest { id, limit, after_run_id, cursor }) =
            self.server.start_call(request).await?;
        entities::get::<Experiment>(&self.server.deps, &call, &id).await?;
        let range = keys::index_experiment_all(call.project, &id);
        let row = |number| keys::index_experiment(call.project, &id, number);
        let list = request_digest(&[b"experiment", id.as_bytes()]);
        let last = PageEnd::of_request(&after_run_id, &cursor, list)?;
        let indexed = IndexedRuns::after(&self.server.deps, &call, range, &last, row).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| {
            let mut linked = LinkedRuns::new(indexed, limit, |props| props.experiment.as_ref() == Some(&id));
            while let Some(page) = linked.next(&deps, &call).await? {
                let runs = page.into_iter().map(run).collect();
                sender.send(pb::ListRunsResponse { runs, next_cursor: linked.next_cursor(list) }).await?;
            }
            Ok(())
        })))
    }

    async fn activity(&self, request: Request<pb::ActivityRequest>) -> RpcResult<pb::ActivityResponse> {
        let (call, pb::ActivityRequest { id, timezone_offset_min }) = self.server.start_call(request).await?;
        entities::get::<Experiment>(&self.server.deps, &call, &id).await?;
        let mut response = pb::ActivityResponse::default();
        let mut hours = ActivityHours::new(timezone_offset_min);
        let indexed = IndexedRuns::all(keys::index_experiment_all(call.project, &id));
        let mut linked = LinkedRuns::new(indexed, 0, |props| props.experiment.as_ref() == Some(&id));
        while let Some(page) = linked.next(&self.server.deps, &call).await? {
            for props in page {
                response.run_count += 1;
                response.archived_run_count += u32::from(props.archived);
                response.active_run_count += u32::from(props.active);
                hours.add(props.created_us);
            }
        }
        response.hours = hours.into_counts();
        Ok(Response::new(response))
    }
}
