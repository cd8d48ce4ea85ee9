//! Experiments, and the runs in them.

use matyan_model::{
    entity::{Entity, Experiment, runs_count},
    keys,
    run::Props,
};
use matyan_proto::{
    experiments::v1::{self as pb, experiment_service_server::ExperimentService},
    limits,
    log::v1::{ExperimentDeleted, control_event::Kind},
};
use tonic::{Request, Response, Status};

use crate::{
    Backend, Context,
    call::Call,
    entities::{self, Counts, Plain, bounded},
    error::Result,
    linked::{Hours, Linked},
    stream::Answers,
    view::ended_us,
};

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

fn run(props: Props) -> pb::ExperimentRun {
    pb::ExperimentRun {
        ended_us: ended_us(&props),
        run_id: props.run_id,
        name: props.name,
        created_us: props.created_us,
        archived: props.archived,
    }
}

/// The experiment's view with its number of runs.
async fn counted(context: &Context, call: &Call, id: &str, experiment: Experiment) -> Result<pb::Experiment> {
    let snapshot = context.store.snapshot().await?;
    let runs = runs_count(snapshot.as_ref(), call.project, Experiment::KIND, id).await?;
    Ok(view(id.to_owned(), experiment, runs))
}

#[tonic::async_trait]
impl ExperimentService for Backend {
    type ListStream = Answers<pb::ListResponse>;
    type ListRunsStream = Answers<pb::ListRunsResponse>;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let part = request.into_inner().name_contains;
        let counts = Counts::read::<Experiment>(&self.context, &call, part).await?;
        let list = Plain {
            created_us: |experiment: &Experiment| experiment.created_us,
            view: move |id: String, experiment: Experiment| {
                let runs = counts.of(&id, &experiment.name)?;
                Some(view(id, experiment, runs))
            },
            answer: |experiments| pb::ListResponse { experiments },
        };
        Ok(Response::new(self.list_all(call, list)))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let id = request.into_inner().id;
        let experiment = entities::get(&self.context, &call, &id).await?;
        let experiment = counted(&self.context, &call, &id, experiment).await?;
        Ok(Response::new(pb::GetResponse { experiment: Some(experiment) }))
    }

    async fn create(
        &self,
        request: Request<pb::CreateRequest>,
    ) -> Result<Response<pb::CreateResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        let now = (self.context.clock)();
        let experiment = Experiment {
            created_us: now,
            updated_us: now,
            name: entities::name("name", &request.name)?,
            description: bounded("description", &request.description, limits::DESCRIPTION_BYTES)?,
            archived: false,
        };
        let id = entities::create(&self.context, &call, &experiment).await?;
        Ok(Response::new(pb::CreateResponse { experiment: Some(view(id, experiment, 0)) }))
    }

    async fn update(
        &self,
        request: Request<pb::UpdateRequest>,
    ) -> Result<Response<pb::UpdateResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let pb::UpdateRequest { id, name, description, archived } = request.into_inner();
        let name = entities::new_name("name", name.as_deref())?;
        let description = entities::new_text("description", description, limits::DESCRIPTION_BYTES)?;
        let now = (self.context.clock)();
        let changed = entities::update(&self.context, &call, &id, |experiment: &mut Experiment| {
            experiment.updated_us = now;
            entities::set(&mut experiment.name, name.as_ref());
            entities::set(&mut experiment.description, description.as_ref());
            experiment.archived = archived.unwrap_or(experiment.archived);
        });
        let experiment = counted(&self.context, &call, &id, changed.await?).await?;
        Ok(Response::new(pb::UpdateResponse { experiment: Some(experiment) }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let id = request.into_inner().id;
        let event = Kind::ExperimentDeleted(ExperimentDeleted { experiment_id: id.clone() });
        entities::delete::<Experiment>(&self.context, &call, &id, Some(event)).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<Self::ListRunsStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let pb::ListRunsRequest { id, limit, after_run_id } = request.into_inner();
        entities::get::<Experiment>(&self.context, &call, &id).await?;
        let range = keys::index_experiment_all(call.project, &id);
        let row = |number| keys::index_experiment(call.project, &id, number);
        let mut linked = Linked::behind(&self.context, &call, range, &after_run_id, row).await?;
        let context = self.context.clone();
        Ok(Response::new(self.answers(async move |sender| {
            let mut left = if limit == 0 { usize::MAX } else { limit as usize };
            while left > 0
                && let Some(page) = linked.next(&context, &call).await?
            {
                // Index rows may be outdated, so the document is checked.
                let own =
                    page.into_iter().filter(|(_, document)| document.props.experiment.as_ref() == Some(&id));
                let runs: Vec<_> = own.take(left).map(|(_, document)| run(document.props)).collect();
                left -= runs.len();
                if !runs.is_empty() {
                    sender.send(pb::ListRunsResponse { runs }).await?;
                }
            }
            Ok(())
        })))
    }

    async fn activity(
        &self,
        request: Request<pb::ActivityRequest>,
    ) -> Result<Response<pb::ActivityResponse>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let pb::ActivityRequest { id, timezone_offset_min } = request.into_inner();
        entities::get::<Experiment>(&self.context, &call, &id).await?;
        let mut answer = pb::ActivityResponse::default();
        let mut hours = Hours::new(timezone_offset_min);
        let mut linked = Linked::all(keys::index_experiment_all(call.project, &id));
        while let Some(page) = linked.next(&self.context, &call).await? {
            for (_, document) in page {
                let props = document.props;
                if props.experiment.as_ref() == Some(&id) {
                    answer.run_count += 1;
                    answer.archived_run_count += u32::from(props.archived);
                    answer.active_run_count += u32::from(props.active);
                    hours.add(props.created_us);
                }
            }
        }
        answer.hours = hours.into_counts();
        Ok(Response::new(answer))
    }
}
