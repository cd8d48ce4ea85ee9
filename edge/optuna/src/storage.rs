//! The operations of the storage service, each as calls of the service of studies.

use std::sync::Arc;

use matyan_channels::Channel;
use matyan_proto::studies::v1::{self as pb, study_service_client::StudyServiceClient};
use tonic::{Request, Response, Status};

use crate::{
    errors::{forwarded, missing, no_trial},
    ids::{self, TrialKey, WantedTrials},
    large_answers::LargeAnswers,
    optuna::{self, storage_service_server::StorageService},
    parts::{self, AnswerSize},
    trials,
};

type Answer<T> = Result<Response<T>, Status>;

/// The storage service.
pub struct Storage {
    connect: Arc<dyn Fn() -> Channel + Send + Sync>,
    answers: LargeAnswers,
}

impl Storage {
    pub(crate) fn new(connect: impl Fn() -> Channel + Send + Sync + 'static) -> Self {
        Self { connect: Arc::new(connect), answers: LargeAnswers::default() }
    }

    /// A client for the calls of the current request.
    fn studies(&self) -> StudyServiceClient<Channel> {
        (self.connect)().studies()
    }

    async fn study(&self, id: i64) -> Result<pb::Study, Status> {
        let request = pb::GetRequest { study_id: ids::study(id)? };
        let found = self.studies().get(request).await.map_err(forwarded)?;
        found.into_inner().study.ok_or_else(|| missing("study"))
    }

    async fn attributes(
        &self,
        study_id: u32,
        kind: pb::AttributeKind,
        size: &mut AnswerSize,
    ) -> Result<Vec<optuna::TextEntry>, Status> {
        let request = pb::ListAttributesRequest { study_id, kind: kind.into() };
        let listed = self.studies().list_attributes(request).await.map_err(forwarded)?;
        let attributes = parts::attributes(listed.into_inner(), size).await?;
        let entries =
            attributes.into_iter().map(|pb::Attribute { key, value }| optuna::TextEntry { key, value });
        Ok(entries.collect())
    }

    async fn study_attributes(
        &self,
        request: Request<optuna::StudyRequest>,
        kind: pb::AttributeKind,
    ) -> Answer<optuna::GetStudyAttributesReply> {
        let mut size = self.answer_size(&request);
        let study = ids::study(request.into_inner().study_id)?;
        let attributes = self.attributes(study, kind, &mut size).await?;
        Ok(Response::new(optuna::GetStudyAttributesReply { attributes }))
    }

    async fn set_study_attribute(
        &self,
        request: optuna::SetStudyAttributeRequest,
        kind: pb::AttributeKind,
    ) -> Answer<optuna::SetStudyAttributeReply> {
        let optuna::SetStudyAttributeRequest { study_id, key, value } = request;
        let request =
            pb::SetAttributeRequest { study_id: ids::study(study_id)?, kind: kind.into(), key, value };
        self.studies().set_attribute(request).await.map_err(forwarded)?;
        Ok(Response::new(optuna::SetStudyAttributeReply {}))
    }

    async fn set_trial_attribute(
        &self,
        request: optuna::SetTrialAttributeRequest,
        kind: pb::AttributeKind,
    ) -> Answer<optuna::SetTrialAttributeReply> {
        let optuna::SetTrialAttributeRequest { trial_id, key, value } = request;
        let TrialKey { study: study_id, number } = TrialKey::find(trial_id)?;
        let request = pb::SetTrialAttributeRequest { study_id, number, kind: kind.into(), key, value };
        self.studies().set_trial_attribute(request).await.map_err(forwarded)?;
        Ok(Response::new(optuna::SetTrialAttributeReply {}))
    }

    async fn trials(
        &self,
        request: pb::ListTrialsRequest,
        size: &mut AnswerSize,
    ) -> Result<Vec<optuna::Trial>, Status> {
        let study = request.study_id;
        let listed = self.studies().list_trials(request).await.map_err(forwarded)?;
        parts::trials(listed.into_inner(), size, |trial| trials::view(study, trial)).await
    }

    fn answer_size<T>(&self, request: &Request<T>) -> AnswerSize {
        AnswerSize::new(&self.answers, request.extensions())
    }
}

fn directions(directions: &[i32]) -> Result<Vec<i32>, Status> {
    let converted = directions.iter().map(|direction| match optuna::Direction::try_from(*direction) {
        Ok(optuna::Direction::Minimize) => Ok(i32::from(pb::Direction::Minimize)),
        Ok(optuna::Direction::Maximize) => Ok(i32::from(pb::Direction::Maximize)),
        Err(_) => Err(Status::invalid_argument(format!(
            "`directions` has {direction}, which is not known: give MINIMIZE (0) or MAXIMIZE (1)"
        ))),
    });
    converted.collect()
}

fn directions_of(study: &pb::Study) -> Vec<i32> {
    let directions = study.directions().map(|direction| match direction {
        pb::Direction::Maximize => optuna::Direction::Maximize as i32,
        pb::Direction::Minimize | pb::Direction::Unspecified => optuna::Direction::Minimize as i32,
    });
    directions.collect()
}

#[tonic::async_trait]
impl StorageService for Storage {
    async fn create_new_study(
        &self,
        request: Request<optuna::CreateNewStudyRequest>,
    ) -> Answer<optuna::CreateNewStudyReply> {
        let request = request.into_inner();
        let directions = directions(&request.directions)?;
        let request = pb::CreateRequest { name: request.study_name, directions };
        let created = self.studies().create(request).await.map_err(forwarded)?.into_inner();
        let study_id = created.study.ok_or_else(|| missing("study"))?.study_id.into();
        Ok(Response::new(optuna::CreateNewStudyReply { study_id }))
    }

    async fn delete_study(
        &self,
        request: Request<optuna::DeleteStudyRequest>,
    ) -> Answer<optuna::DeleteStudyReply> {
        let study_id = ids::study(request.into_inner().study_id)?;
        self.studies().delete(pb::DeleteRequest { study_id }).await.map_err(forwarded)?;
        Ok(Response::new(optuna::DeleteStudyReply {}))
    }

    async fn set_study_user_attribute(
        &self,
        request: Request<optuna::SetStudyAttributeRequest>,
    ) -> Answer<optuna::SetStudyAttributeReply> {
        self.set_study_attribute(request.into_inner(), pb::AttributeKind::User).await
    }

    async fn set_study_system_attribute(
        &self,
        request: Request<optuna::SetStudyAttributeRequest>,
    ) -> Answer<optuna::SetStudyAttributeReply> {
        self.set_study_attribute(request.into_inner(), pb::AttributeKind::System).await
    }

    async fn get_study_id_from_name(
        &self,
        request: Request<optuna::GetStudyIdFromNameRequest>,
    ) -> Answer<optuna::GetStudyIdFromNameReply> {
        let request = pb::FindRequest { name: request.into_inner().study_name };
        let found = self.studies().find(request).await.map_err(forwarded)?.into_inner();
        let study_id = found.study.ok_or_else(|| missing("study"))?.study_id.into();
        Ok(Response::new(optuna::GetStudyIdFromNameReply { study_id }))
    }

    async fn get_study_name_from_id(
        &self,
        request: Request<optuna::StudyRequest>,
    ) -> Answer<optuna::GetStudyNameFromIdReply> {
        let study = self.study(request.into_inner().study_id).await?;
        Ok(Response::new(optuna::GetStudyNameFromIdReply { study_name: study.name }))
    }

    async fn get_study_directions(
        &self,
        request: Request<optuna::StudyRequest>,
    ) -> Answer<optuna::GetStudyDirectionsReply> {
        let study = self.study(request.into_inner().study_id).await?;
        Ok(Response::new(optuna::GetStudyDirectionsReply { directions: directions_of(&study) }))
    }

    async fn get_study_user_attributes(
        &self,
        request: Request<optuna::StudyRequest>,
    ) -> Answer<optuna::GetStudyAttributesReply> {
        self.study_attributes(request, pb::AttributeKind::User).await
    }

    async fn get_study_system_attributes(
        &self,
        request: Request<optuna::StudyRequest>,
    ) -> Answer<optuna::GetStudyAttributesReply> {
        self.study_attributes(request, pb::AttributeKind::System).await
    }

    async fn get_all_studies(
        &self,
        request: Request<optuna::GetAllStudiesRequest>,
    ) -> Answer<optuna::GetAllStudiesReply> {
        let mut size = self.answer_size(&request);
        let listed = self.studies().list(pb::ListRequest {}).await.map_err(forwarded)?;
        let listed = parts::studies(listed.into_inner(), &mut size).await?;
        let mut studies = Vec::with_capacity(listed.len());
        for study in listed {
            let user = self.attributes(study.study_id, pb::AttributeKind::User, &mut size).await;
            let system = self.attributes(study.study_id, pb::AttributeKind::System, &mut size).await;
            let (user_attributes, system_attributes) = match (user, system) {
                (Ok(user), Ok(system)) => (user, system),
                // The study was deleted after it was listed.
                (Err(status), _) | (_, Err(status)) if status.code() == tonic::Code::NotFound => continue,
                (Err(status), _) | (_, Err(status)) => return Err(status),
            };
            studies.push(optuna::Study {
                study_id: study.study_id.into(),
                directions: directions_of(&study),
                study_name: study.name,
                user_attributes,
                system_attributes,
            });
        }
        Ok(Response::new(optuna::GetAllStudiesReply { studies }))
    }

    async fn create_new_trial(
        &self,
        request: Request<optuna::CreateNewTrialRequest>,
    ) -> Answer<optuna::CreateNewTrialReply> {
        let request = request.into_inner();
        let study = ids::study(request.study_id)?;
        let given = request.template_trial.filter(|_| !request.template_trial_is_none);
        let template = given.map(trials::template).transpose()?;
        let request = pb::CreateTrialRequest { study_id: study, template };
        let number = self.studies().create_trial(request).await.map_err(forwarded)?.into_inner().number;
        Ok(Response::new(optuna::CreateNewTrialReply { trial_id: TrialKey { study, number }.id() }))
    }

    async fn set_trial_parameter(
        &self,
        request: Request<optuna::SetTrialParameterRequest>,
    ) -> Answer<optuna::SetTrialParameterReply> {
        let request = request.into_inner();
        let TrialKey { study: study_id, number } = TrialKey::find(request.trial_id)?;
        let param = Some(pb::TrialParam {
            name: request.param_name,
            value: request.param_value_internal,
            distribution: request.distribution,
            set_us: 0,
        });
        let request = pb::SetTrialParamRequest { study_id, number, param };
        self.studies().set_trial_param(request).await.map_err(forwarded)?;
        Ok(Response::new(optuna::SetTrialParameterReply {}))
    }

    async fn get_trial_id_from_study_id_trial_number(
        &self,
        request: Request<optuna::TrialNumberRequest>,
    ) -> Answer<optuna::TrialNumberReply> {
        let optuna::TrialNumberRequest { study_id, trial_number } = request.into_inner();
        let study = self.study(study_id).await?;
        // Numbers have no gaps.
        let number = u32::try_from(trial_number).ok().filter(|number| *number < study.trial_count);
        let number = number.ok_or_else(|| {
            Status::not_found(format!("study {study_id} has no trial with the number {trial_number}"))
        })?;
        let trial_id = TrialKey { study: study.study_id, number }.id();
        Ok(Response::new(optuna::TrialNumberReply { trial_id }))
    }

    async fn set_trial_state_values(
        &self,
        request: Request<optuna::SetTrialStateValuesRequest>,
    ) -> Answer<optuna::SetTrialStateValuesReply> {
        let request = request.into_inner();
        let TrialKey { study: study_id, number } = TrialKey::find(request.trial_id)?;
        let state = trials::state(request.state).into();
        let request = pb::SetTrialStateRequest { study_id, number, state, values: request.values };
        let set = self.studies().set_trial_state(request).await.map_err(forwarded)?.into_inner();
        Ok(Response::new(optuna::SetTrialStateValuesReply { trial_updated: set.updated }))
    }

    async fn set_trial_intermediate_value(
        &self,
        request: Request<optuna::SetTrialIntermediateValueRequest>,
    ) -> Answer<optuna::SetTrialIntermediateValueReply> {
        let optuna::SetTrialIntermediateValueRequest { trial_id, step, intermediate_value: value } =
            request.into_inner();
        let TrialKey { study: study_id, number } = TrialKey::find(trial_id)?;
        let request = pb::SetTrialIntermediateValueRequest { study_id, number, step, value };
        self.studies().set_trial_intermediate_value(request).await.map_err(forwarded)?;
        Ok(Response::new(optuna::SetTrialIntermediateValueReply {}))
    }

    async fn set_trial_user_attribute(
        &self,
        request: Request<optuna::SetTrialAttributeRequest>,
    ) -> Answer<optuna::SetTrialAttributeReply> {
        self.set_trial_attribute(request.into_inner(), pb::AttributeKind::User).await
    }

    async fn set_trial_system_attribute(
        &self,
        request: Request<optuna::SetTrialAttributeRequest>,
    ) -> Answer<optuna::SetTrialAttributeReply> {
        self.set_trial_attribute(request.into_inner(), pb::AttributeKind::System).await
    }

    async fn get_trial(&self, request: Request<optuna::GetTrialRequest>) -> Answer<optuna::GetTrialReply> {
        let mut size = self.answer_size(&request);
        let id = request.into_inner().trial_id;
        let TrialKey { study: study_id, number } = TrialKey::find(id)?;
        let request = pb::ListTrialsRequest {
            study_id,
            after: None,
            numbers: vec![number],
            only_numbers: true,
            summary: false,
        };
        let trial = self.trials(request, &mut size).await?.pop();
        let trial = trial.ok_or_else(|| no_trial(id))?;
        Ok(Response::new(optuna::GetTrialReply { trial: Some(trial) }))
    }

    async fn get_trials(&self, request: Request<optuna::GetTrialsRequest>) -> Answer<optuna::GetTrialsReply> {
        let mut size = self.answer_size(&request);
        let request = request.into_inner();
        let study_id = ids::study(request.study_id)?;
        let WantedTrials { after, numbers } =
            WantedTrials::new(study_id, &request.included_trial_ids, request.trial_id_greater_than);
        let only_numbers = after.is_none();
        let request =
            pb::ListTrialsRequest { study_id, after: after.flatten(), numbers, only_numbers, summary: false };
        let trials = self.trials(request, &mut size).await?;
        Ok(Response::new(optuna::GetTrialsReply { trials }))
    }
}
