//! A run of this server as W&B shows it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use matyan_proto::common::v1::OutcomeKind;
use matyan_proto::runs::v1::{GetRequest, ParamPath, Props, Run, RunParts};
use matyan_value::json::{self, JsonStyle};
use matyan_value::{Map, Value, cbor};
use serde_json::json;

use crate::call::CallContext;
use crate::error::{Result, WandbError};
use crate::names::{
    self, CONFIG, INTERNAL_CONFIG, INTERNAL_MEMBER, INTERNAL_SUMMARY, RunName, SUMMARY, WANDB,
    project_number, time_text,
};
use matyan_channels::is_missing;

/// Members of a run's node that other resolvers read.
pub(crate) const RUN_ID: &str = "_runId";
pub(crate) const ENTITY: &str = "_entity";

/// A run as it was read.
#[derive(Clone, Debug)]
pub(crate) struct RunSnapshot {
    pub(crate) run_id: String,
    pub(crate) props: Props,
    pub(crate) params: Map,
    /// The size of the params as they are stored.
    pub(crate) params_bytes: usize,
}

/// The parts of a run that W&B shows.
pub(crate) fn parts() -> RunParts {
    let path = |name: &str| ParamPath { segments: vec![name.to_owned()] };
    RunParts {
        props: true,
        param_paths: vec![path(CONFIG), path(SUMMARY), path(WANDB)],
        ..RunParts::default()
    }
}

/// All params of a run, whichever client has logged them: they share the room of the run.
pub(crate) fn parts_to_change() -> RunParts {
    RunParts { props: true, params: true, system_params: true, ..RunParts::default() }
}

/// The parts of a run without its params.
pub(crate) fn parts_without_params() -> RunParts {
    RunParts { props: true, ..RunParts::default() }
}

/// Members of a run's node that are made of its params.
pub(crate) const PARAM_MEMBERS: [&str; 9] =
    ["config", "summaryMetrics", "group", "groupName", "jobType", "commit", "host", "user", "runInfo"];

impl RunSnapshot {
    pub(crate) fn new(run: Run) -> Result<Self> {
        let params_bytes = run.params.len();
        let params = if run.params.is_empty() { Ok(Map::new()) } else { cbor::decode_map(&run.params) };
        let params = params.map_err(|error| {
            tracing::error!(run_id = run.run_id, %error, "failed to read the params of a run");
            WandbError::broken("params")
        })?;
        let props = run.props.ok_or_else(|| WandbError::broken("props"))?;
        Ok(Self { run_id: run.run_id, props, params, params_bytes })
    }

    /// Reads a run as W&B shows it; `None` if there is none.
    pub(crate) async fn read(context: &CallContext, run_id: &str) -> Result<Option<Self>> {
        Self::read_parts(context, run_id, parts()).await
    }

    /// Reads these parts of a run, including its properties; `None` if there is no run.
    pub(crate) async fn read_parts(
        context: &CallContext,
        run_id: &str,
        parts: RunParts,
    ) -> Result<Option<Self>> {
        let request = GetRequest { run_id: run_id.to_owned(), parts: Some(parts) };
        match context.channels.runs().get(request).await {
            Ok(response) => {
                let run = response.into_inner().run.ok_or_else(|| WandbError::broken("run"))?;
                context.large_work.run(run.params.len(), move || Self::new(run)).await.map(Some)
            }
            Err(status) if is_missing(&status) => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (last, parents) = path.split_last()?;
        parents.iter().try_fold(&self.params, |map, name| map.get(*name)?.as_map())?.get(*last)
    }

    fn map_at(&self, path: &[&str]) -> Map {
        self.at(path).and_then(Value::as_map).cloned().unwrap_or_default()
    }

    /// A text that a client has reported about the run.
    pub(crate) fn reported(&self, name: &str) -> Option<&str> {
        match self.at(&[WANDB, name]) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The names of the tags, sorted, so that clients get them in the same order each time.
    pub(crate) fn tags(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.props.tags.iter().map(|tag| tag.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Ids of artifacts.
    pub(crate) fn artifacts(&self, name: &str) -> Vec<String> {
        self.map_at(&[WANDB, name]).into_keys().collect()
    }

    fn state(&self) -> &'static str {
        if self.props.active {
            return "running";
        }
        match self.props.outcome.as_ref().map(|outcome| outcome.kind()) {
            Some(OutcomeKind::Finished) => "finished",
            Some(OutcomeKind::Failed) => "failed",
            Some(OutcomeKind::Interrupted) => "killed",
            Some(OutcomeKind::Unspecified) | None => "crashed",
        }
    }

    /// The config in the form of the clients: each value in an object.
    fn config(&self) -> String {
        let wrapped = |value: Value| Value::Map(Map::from([("value".to_owned(), value)]));
        let mut config: Map =
            self.map_at(&[CONFIG]).into_iter().map(|(name, value)| (name, wrapped(value))).collect();
        let internal = self.map_at(&[WANDB, INTERNAL_CONFIG]);
        if !internal.is_empty() {
            config.insert(INTERNAL_MEMBER.to_owned(), wrapped(Value::Map(internal)));
        }
        json::map_text(&config, JsonStyle::BARE)
    }

    /// The parts of the config that clients keep for themselves.
    pub(crate) fn internal_config(&self, keys: &[&str]) -> String {
        let mut internal = self.map_at(&[WANDB, INTERNAL_CONFIG]);
        internal.retain(|name, _| keys.contains(&name.as_str()));
        json::map_text(&internal, JsonStyle::BARE)
    }

    fn summary(&self) -> String {
        let mut summary = self.map_at(&[SUMMARY]);
        summary.extend(self.map_at(&[WANDB, INTERNAL_SUMMARY]));
        json::map_text(&summary, JsonStyle::BARE)
    }

    /// The name of the run in W&B. For a run of another client, this is its id here, and its experiment is the project.
    pub(crate) fn name(&self) -> RunName {
        RunName::of_run_id(&self.run_id).unwrap_or_else(|| RunName {
            project: self.props.experiment.as_ref().map(|it| it.name.clone()).unwrap_or_default(),
            id: self.run_id.clone(),
        })
    }

    /// The value of GraphQL's object.
    pub(crate) fn node(&self, entity: &str) -> serde_json::Value {
        let name = self.name();
        let user = self.reported(names::USER).unwrap_or(entity);
        let heartbeat_us = self.props.ended_us.unwrap_or(self.props.updated_us);
        json!({
            RUN_ID: self.run_id,
            ENTITY: entity,
            "id": name.storage_id(entity),
            "name": name.id,
            "displayName": self.props.name,
            "description": self.props.description,
            "notes": self.props.description,
            "state": self.state(),
            "running": self.props.active,
            "failed": self.state() == "failed",
            "stopped": false,
            "shouldStop": false,
            "readOnly": false,
            "config": self.config(),
            "summaryMetrics": self.summary(),
            "systemMetrics": "{}",
            "tags": self.tags(),
            "group": self.reported(names::GROUP),
            "groupName": self.reported(names::GROUP),
            "jobType": self.reported(names::JOB_TYPE),
            "commit": self.reported(names::COMMIT),
            "host": self.reported(names::HOST),
            "sweepName": null,
            "createdAt": time_text(self.props.created_us),
            "updatedAt": time_text(self.props.updated_us),
            "heartbeatAt": time_text(heartbeat_us),
            "user": {"id": user, "name": user, "username": user},
            "runInfo": {
                "program": self.reported(names::PROGRAM),
                "git": {"remote": self.reported(names::REPO), "commit": self.reported(names::COMMIT)},
            },
            "project": project_node(&name.project, entity),
            "projectId": project_number(&name.project).to_string(),
        })
    }
}

/// The value of GraphQL's object of a project, whether it has runs or not.
pub(crate) fn project_node(project: &str, entity: &str) -> serde_json::Value {
    json!({
        ENTITY: entity,
        "id": STANDARD.encode(format!("Project:v1:{project}:{entity}")),
        "internalId": STANDARD.encode(format!("ProjectInternalId:{}", project_number(project))),
        "name": project,
        "entityName": entity,
        "description": "",
        "access": "PRIVATE",
        "views": "{}",
        "createdAt": time_text(0),
        "updatedAt": time_text(0),
        "isBenchmark": false,
        "readOnly": false,
        "totalSweeps": 0,
        "entity": entity_node(entity),
        "user": {"id": entity, "name": entity, "username": entity},
    })
}

/// The value of GraphQL's object of an entity.
pub(crate) fn entity_node(entity: &str) -> serde_json::Value {
    json!({
        "id": STANDARD.encode(format!("Entity:{entity}")),
        "name": entity,
        "entityType": "team",
        "isTeam": true,
        "readOnly": false,
        "available": false,
    })
}

#[cfg(test)]
mod tests {
    use matyan_proto::runs::v1::TagRef;

    use super::*;

    #[test]
    fn tags_are_sorted() {
        let tag = |name: &str| TagRef { name: name.to_owned(), ..TagRef::default() };
        let props = Props { tags: vec![tag("b"), tag("a")], ..Props::default() };
        let run = RunSnapshot { run_id: String::new(), props, params: Map::new(), params_bytes: 0 };
        assert_eq!(run.tags(), ["a", "b"]);
    }

    #[test]
    fn members_that_are_made_of_params_are_known() {
        let run_id = "r:p".to_owned();
        let run = RunSnapshot { run_id, props: Props::default(), params: Map::new(), params_bytes: 0 };
        let text = |name: &str| Value::Text(name.to_owned());
        let reported = [names::GROUP, names::JOB_TYPE, names::COMMIT, names::HOST, names::USER]
            .into_iter()
            .chain([names::PROGRAM, names::REPO])
            .map(|name| (name.to_owned(), text(name)))
            .collect();
        let lr = Value::Map(Map::from([("lr".to_owned(), Value::Float(0.1))]));
        let params = Map::from([
            (WANDB.to_owned(), Value::Map(reported)),
            (CONFIG.to_owned(), lr.clone()),
            (SUMMARY.to_owned(), lr),
        ]);
        let with_params = RunSnapshot { params, ..run.clone() }.node("e");
        let without = run.node("e");
        let members = with_params.as_object().unwrap();
        let mut changed: Vec<&str> = members
            .iter()
            .filter(|(name, value)| without[name.as_str()] != **value)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut expected = PARAM_MEMBERS;
        changed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(changed, expected);
    }
}
