//! The operations of Optuna's storage service, by the list of the translator.

use http::Method;
use matyan_optuna::METHODS;
use matyan_proto::{
    common::v1::Access,
    studies::v1::{
        AttributeKind, CreateRequest, CreateTrialRequest, Direction, SetAttributeRequest,
        study_service_client::StudyServiceClient,
    },
};
use prost::encoding::int64;
use serde_json::json;

use super::{EDIT, ForeignOperation, GRPC, INGEST, READ};
use crate::access::closed_server::ClosedServer;

pub(super) struct OptunaThings {
    study_id: u32,
    trial: u32,
}

impl OptunaThings {
    pub(super) async fn create(
        closed: &ClosedServer,
        project: &str,
        text: &mut impl FnMut(&str) -> String,
    ) -> Self {
        let mut studies = StudyServiceClient::new(closed.channel.clone());
        let create = CreateRequest { name: text("study"), directions: vec![Direction::Minimize.into()] };
        let created = studies.create(closed.request(project, create)).await.expect("the study is valid");
        let study_id = created.into_inner().study.expect("the answer has the study").study_id;
        let value = json!(text("study-attribute")).to_string();
        let kind = AttributeKind::User.into();
        let attribute = SetAttributeRequest { study_id, kind, key: "k".to_owned(), value };
        studies.set_attribute(closed.request(project, attribute)).await.expect("the attribute is valid");
        let trial = CreateTrialRequest { study_id, template: None };
        let created = studies.create_trial(closed.request(project, trial)).await.expect("the study exists");
        Self { study_id, trial: created.into_inner().number }
    }

    pub(super) fn operations(&self) -> Vec<ForeignOperation> {
        let operation = |method: &&'static str| {
            let (_, name) = method.split_once('/').expect("a method has a service");
            ForeignOperation {
                name: format!("Optuna's {name}"),
                method: Method::POST,
                path: format!("/{method}"),
                content_type: GRPC,
                body: framed(&self.message(name)).into(),
                needs: needs(name),
            }
        };
        METHODS.iter().map(operation).collect()
    }

    /// A message about the study or the trial. An id is always the first field.
    fn message(&self, name: &str) -> Vec<u8> {
        let trial_id = i64::from(self.study_id) << 32 | i64::from(self.trial);
        let id = match name {
            // Messages without an id are refused for a missing field after their right is checked.
            "CreateNewStudy" | "GetAllStudies" | "GetStudyIdFromName" => return Vec::new(),
            "GetTrial"
            | "SetTrialIntermediateValue"
            | "SetTrialParameter"
            | "SetTrialStateValues"
            | "SetTrialSystemAttribute"
            | "SetTrialUserAttribute" => trial_id,
            _ => self.study_id.into(),
        };
        let mut message = Vec::new();
        int64::encode(1, &id, &mut message);
        message
    }
}

/// A message with its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("the message is small");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn needs(name: &str) -> &'static [Access] {
    match name {
        "DeleteStudy" => EDIT,
        reading if reading.starts_with("Get") => READ,
        writing if writing.starts_with("Set") || writing.starts_with("Create") => INGEST,
        other => panic!("which right does {other} need?"),
    }
}
