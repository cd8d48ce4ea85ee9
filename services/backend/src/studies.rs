//! Studies of samplers. Each change is one transaction over the rows of the study and the run of the trial;
//! values are also appended to the log as points of the run, see `points`.

mod convert;
mod delete;
mod distribution;
mod list_trials;
mod points;
mod trial_changes;
mod trial_creation;
mod trial_run;

pub(crate) use convert::{
    TrialContent, attribute_kind, check_attribute, content_of_part, directions, study_view,
};
pub(crate) use list_trials::TrialMessage;

use matyan_model::{
    keys,
    study::{
        Study, StudyError, studies_page, study_attribute_put, study_attributes_page, study_create,
        study_find, study_get, study_load, trial_count,
    },
};
use matyan_proto::{
    limits,
    studies::v1::{self as pb, study_service_server::StudyService},
};
use matyan_store::{Snapshot, Transaction, transact};
use prost::Message;
use tonic::{Request, Response};

use crate::server::{
    RpcResult, Server,
    audit::audit_resource,
    call::Call,
    convert::bounded_text,
    deps::Deps,
    error::{Error, Result},
    stream::{MESSAGE_BYTES, ResponseStream, Sender, StreamEnd},
};

/// The service of studies.
pub(crate) struct StudyApi {
    server: Server,
}

impl StudyApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl StudyService for StudyApi {
    type ListStream = ResponseStream<pb::ListResponse>;
    type ListAttributesStream = ResponseStream<pb::ListAttributesResponse>;
    type ListTrialsStream = ResponseStream<pb::ListTrialsResponse>;

    async fn create(&self, request: Request<pb::CreateRequest>) -> RpcResult<pb::CreateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let study = Some(create(&self.server.deps, &call, request).await?);
        Ok(Response::new(pb::CreateResponse { study }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> RpcResult<pb::GetResponse> {
        let (call, pb::GetRequest { study_id }) = self.server.start_call(request).await?;
        let snapshot = snapshot(&self.server.deps).await?;
        let study = Some(view(snapshot.as_ref(), &call, study_id).await?);
        Ok(Response::new(pb::GetResponse { study }))
    }

    async fn find(&self, request: Request<pb::FindRequest>) -> RpcResult<pb::FindResponse> {
        let (call, pb::FindRequest { name }) = self.server.start_call(request).await?;
        let study = Some(find(&self.server.deps, &call, &name).await?);
        Ok(Response::new(pb::FindResponse { study }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> RpcResult<Self::ListStream> {
        let (call, pb::ListRequest {}) = self.server.start_call(request).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.server.respond(async move |sender| list(&deps, &call, &sender).await)))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> RpcResult<pb::DeleteResponse> {
        let (call, pb::DeleteRequest { study_id }) = self.server.start_call(request).await?;
        audit_resource(format!("study {study_id}"));
        delete::delete(&self.server.deps, &call, study_id).await?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn set_attribute(
        &self,
        request: Request<pb::SetAttributeRequest>,
    ) -> RpcResult<pb::SetAttributeResponse> {
        let (call, request) = self.server.start_call(request).await?;
        set_attribute(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::SetAttributeResponse {}))
    }

    async fn list_attributes(
        &self,
        request: Request<pb::ListAttributesRequest>,
    ) -> RpcResult<Self::ListAttributesStream> {
        let (call, pb::ListAttributesRequest { study_id, kind }) = self.server.start_call(request).await?;
        let kind = convert::attribute_kind(kind)?;
        check_exists(&self.server.deps, &call, study_id).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server
                .respond(async move |sender| list_attributes(&deps, &call, (study_id, kind), &sender).await),
        ))
    }

    async fn create_trial(
        &self,
        request: Request<pb::CreateTrialRequest>,
    ) -> RpcResult<pb::CreateTrialResponse> {
        let (call, pb::CreateTrialRequest { study_id, template }) = self.server.start_call(request).await?;
        let number = trial_creation::create(&self.server.deps, &call, study_id, template).await?;
        Ok(Response::new(pb::CreateTrialResponse { number }))
    }

    async fn list_trials(
        &self,
        request: Request<pb::ListTrialsRequest>,
    ) -> RpcResult<Self::ListTrialsStream> {
        let (call, request) = self.server.start_call(request).await?;
        check_exists(&self.server.deps, &call, request.study_id).await?;
        let study = request.study_id;
        let selection = list_trials::Selection::new(request)?;
        let deps = self.server.deps.clone();
        Ok(Response::new(
            self.server.respond(async move |sender| {
                list_trials::send(&deps, &call, study, selection, &sender).await
            }),
        ))
    }

    async fn set_trial_param(
        &self,
        request: Request<pb::SetTrialParamRequest>,
    ) -> RpcResult<pb::SetTrialParamResponse> {
        let (call, request) = self.server.start_call(request).await?;
        trial_changes::set_param(&self.server.deps, &call, request).await?;
        Ok(Response::new(pb::SetTrialParamResponse {}))
    }

    async fn set_trial_state(
        &self,
        request: Request<pb::SetTrialStateRequest>,
    ) -> RpcResult<pb::SetTrialStateResponse> {
        let (call, request) = self.server.start_call(request).await?;
        let updated = trial_changes::set_state(&self.server.deps, &call, request).await?;
        Ok(Response::new(pb::SetTrialStateResponse { updated }))
    }

    async fn set_trial_intermediate_value(
        &self,
        request: Request<pb::SetTrialIntermediateValueRequest>,
    ) -> RpcResult<pb::SetTrialIntermediateValueResponse> {
        let (call, request) = self.server.start_call(request).await?;
        trial_changes::set_intermediate_value(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::SetTrialIntermediateValueResponse {}))
    }

    async fn set_trial_attribute(
        &self,
        request: Request<pb::SetTrialAttributeRequest>,
    ) -> RpcResult<pb::SetTrialAttributeResponse> {
        let (call, request) = self.server.start_call(request).await?;
        trial_changes::set_attribute(&self.server.deps, &call, &request).await?;
        Ok(Response::new(pb::SetTrialAttributeResponse {}))
    }
}

async fn snapshot(deps: &Deps) -> Result<Box<dyn Snapshot>> {
    Ok(deps.store.snapshot().await?)
}

async fn check_exists(deps: &Deps, call: &Call, study: u32) -> Result<()> {
    let found = study_get(snapshot(deps).await?.as_ref(), call.project, study).await?;
    found.map(drop).ok_or_else(|| StudyError::NoStudy { study }.into())
}

async fn create(deps: &Deps, call: &Call, request: pb::CreateRequest) -> Result<pb::Study> {
    let name = bounded_text("name", &request.name, limits::NAME_BYTES)?;
    if name.is_empty() {
        return Err(Error::field("name", "is empty: give a name"));
    }
    let directions = convert::directions(&request.directions)?;
    let now = (deps.clock)();
    let new_experiment = (deps.new_id)();
    let (created, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let experiment =
            trial_run::named_experiment(&mut transaction, call.project, &name, (&new_experiment, now))
                .await?;
        let study = Study { name: name.clone(), directions: directions.clone(), created_us: now, experiment };
        let number = study_create(&mut transaction, call.project, &study).await?;
        Ok::<_, Error>((transaction, convert::study_view(number, study, 0)))
    })
    .await?;
    Ok(created)
}

async fn view(snapshot: &dyn Snapshot, call: &Call, number: u32) -> Result<pb::Study> {
    let study = study_get(snapshot, call.project, number).await?;
    let study = study.ok_or(StudyError::NoStudy { study: number })?;
    let trials = trial_count(snapshot, call.project, number).await?;
    Ok(convert::study_view(number, study, trials))
}

async fn find(deps: &Deps, call: &Call, name: &str) -> Result<pb::Study> {
    let snapshot = snapshot(deps).await?;
    // A name that does not fit in a key belongs to no study.
    let found = match name.len() {
        0..=limits::NAME_BYTES => study_find(snapshot.as_ref(), call.project, name).await?,
        _ => None,
    };
    let number = found.ok_or_else(|| Error::not_found("study", name))?;
    view(snapshot.as_ref(), call, number).await
}

async fn list(deps: &Deps, call: &Call, sender: &Sender<pb::ListResponse>) -> Result<(), StreamEnd> {
    let mut rest = Some(keys::studies(call.project));
    while let Some(range) = rest {
        // A slow client may read for longer than a snapshot lasts.
        let snapshot = snapshot(deps).await?;
        let (page, next) = studies_page(snapshot.as_ref(), call.project, &range).await?;
        let mut studies = Vec::with_capacity(page.len());
        for (number, study) in page {
            let trials = trial_count(snapshot.as_ref(), call.project, number).await?;
            studies.push(convert::study_view(number, study, trials));
        }
        drop(snapshot);
        sender.send(pb::ListResponse { studies }).await?;
        rest = next;
    }
    Ok(())
}

async fn set_attribute(deps: &Deps, call: &Call, request: &pb::SetAttributeRequest) -> Result<()> {
    let kind = convert::attribute_kind(request.kind)?;
    convert::check_attribute(&request.key, &request.value)?;
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        study_load(&transaction, call.project, request.study_id).await?;
        let attribute = (request.key.as_str(), request.value.as_str());
        study_attribute_put(transaction.batch(), call.project, request.study_id, kind, attribute);
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

async fn list_attributes(
    deps: &Deps,
    call: &Call,
    (study, kind): (u32, keys::AttributeKind),
    sender: &Sender<pb::ListAttributesResponse>,
) -> Result<(), StreamEnd> {
    let mut rest = Some(keys::study_attributes(call.project, study, kind));
    while let Some(range) = rest {
        let snapshot = snapshot(deps).await?;
        let (page, next) =
            study_attributes_page(snapshot.as_ref(), call.project, (study, kind), &range).await?;
        drop(snapshot);
        let mut attributes = Vec::new();
        let mut bytes = 0;
        for (key, value) in page {
            let attribute = pb::Attribute { key, value };
            bytes += attribute.encoded_len();
            attributes.push(attribute);
            if bytes >= MESSAGE_BYTES {
                bytes = 0;
                sender
                    .send(pb::ListAttributesResponse { attributes: std::mem::take(&mut attributes) })
                    .await?;
            }
        }
        sender.send(pb::ListAttributesResponse { attributes }).await?;
        rest = next;
    }
    Ok(())
}
