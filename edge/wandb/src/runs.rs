//! Changes of runs by `wandb.init`, by updates of a run, and by the public API.

use std::collections::BTreeSet;

use matyan_channels::{call_all, client_name, is_missing};
use matyan_proto::common::v1::{Outcome, OutcomeKind, SeriesKey, StepRange};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{AddTag, CreateRun, FinishRun, LogRecord, RemoveTag, SetRunProperty};
use matyan_proto::limits::{DESCRIPTION_BYTES, LOG_BYTES, NAME_BYTES, TAGS_PER_RUN};
use matyan_proto::runs::v1::{DeleteRequest, RunParts};
use matyan_proto::series::v1::DeleteStepsRequest;
use matyan_value::{Map, Value, json};
use serde_json::json;

use crate::batch::{RunBatch, publish, publish_and_wait};
use crate::call::{CALLS_AT_A_TIME, CallContext, entity_or_default, project_or_default};
use crate::error::{Result, WandbError};
use crate::json_text::check_values;
use crate::metric_goals::{self, GOALS};
use crate::names::{self, CONFIG, INTERNAL_CONFIG, INTERNAL_MEMBER, RunName, WANDB};
use crate::node::Arguments;
use crate::param_changes::ParamChanges;
use crate::run_view::{RunSnapshot, parts, parts_to_change, parts_without_params};
use crate::series::all_series;
use crate::summary::set_summary;

/// The answer to everything about sweeps.
pub(crate) const NO_SWEEPS: &str = "this server has no sweeps: use Optuna, whose storage this server provides, and call \
                                    `wandb.init` in each trial";

const NO_STOP: &str = "this server cannot stop a run: stop its script";

/// The member of the internal config that names the run from which a run is forked.
const BRANCH_POINT: &str = "branch_point";

/// The member of the internal config with the version of the client.
const CLIENT_VERSION: &str = "cli_version";

/// Levels of alerts, as in Python's `logging`.
const INFO_LEVEL: i64 = 20;
const WARNING_LEVEL: i64 = 30;
const ERROR_LEVEL: i64 = 40;

/// Finds a run; `None` if there is none. All handlers but the reading of files find their run with this function. A run
/// that another client has made has its own id, and not an id of W&B's runs.
pub(crate) async fn find(context: &CallContext, name: &RunName) -> Result<Option<RunSnapshot>> {
    find_parts(context, name, parts()).await
}

/// Finds a run, with these parts, which include its properties.
pub(crate) async fn find_parts(
    context: &CallContext,
    name: &RunName,
    parts: RunParts,
) -> Result<Option<RunSnapshot>> {
    if let Some(run) = RunSnapshot::read_parts(context, &name.run_id(), parts.clone()).await? {
        return Ok(Some(run));
    }
    let other = RunSnapshot::read_parts(context, &name.id, parts).await?;
    let is_in_project = |run: &RunSnapshot| {
        run.props.experiment.as_ref().map_or("", |experiment| experiment.name.as_str()) == name.project
    };
    Ok(other.filter(is_in_project))
}

async fn find_by_storage_id(context: &CallContext, storage_id: &str) -> Result<(RunSnapshot, String)> {
    let (name, entity) = RunName::of_storage_id(storage_id)?;
    let run = find(context, &name).await?;
    run.map(|run| (run, entity)).ok_or_else(|| no_run(&name.id))
}

pub(crate) fn no_run(id: &str) -> WandbError {
    WandbError::missing(format!(
        "there is no run `{}` in the project: check the id and the project, or call `wandb.init`",
        id.escape_debug()
    ))
}

/// Creates or changes a run.
pub(crate) async fn upsert(context: &CallContext, arguments: &Arguments) -> Result<serde_json::Value> {
    let input = arguments.input()?;
    if input.text("sweep")?.is_some() {
        return Err(WandbError::invalid(NO_SWEEPS));
    }
    let (name, entity) = match (input.text("id")?, input.text("name")?) {
        (Some(storage_id), _) => RunName::of_storage_id(storage_id)?,
        (None, Some(id)) => {
            let name = RunName::new(project_or_default(input.text("modelName")?), id)?;
            (name, entity_or_default(input.text("entityName")?).to_owned())
        }
        (None, None) => return Err(WandbError::invalid("`name` is missing: it is the id of the run")),
    };
    let existing = find_parts(context, &name, parts_to_change()).await?;
    let run_id = existing.as_ref().map_or_else(|| name.run_id(), |run| run.run_id.clone());
    let mut batch = RunBatch::default();
    let mut params = ParamChanges::new(existing.as_ref().map(|run| run.params.clone()).unwrap_or_default());
    let config = match input.text("config")? {
        Some(text) => Some(Config::parse(text)?),
        None => None,
    };
    // Only a script names the run; the public API has its id. A run that has ended continues.
    let is_script = input.text("name")?.is_some();
    if is_script && existing.as_ref().is_none_or(|run| !run.props.active) {
        let branch_point = config.as_ref().and_then(|config| config.branch_point(&name));
        let parent = match branch_point {
            Some((parent, step)) => found_parent(context, &parent, step, existing.is_none()).await?,
            None => None,
        };
        let version = config.as_ref().and_then(Config::client_version);
        add_creation(&mut batch, parent, client_name("W&B", version));
    }
    if existing.is_none() {
        add_identity(&mut batch, &mut params, context, &name, &entity)?;
    }
    add_properties(&mut batch, &mut params, &run_id, &input)?;
    if let Some(tags) = input.texts("tags")? {
        let old = existing.as_ref().map(RunSnapshot::tags).unwrap_or_default();
        add_tags(&mut batch, &old, &tags)?;
    }
    if let Some(config) = config {
        config.add_to(&mut batch, &mut params, is_script)?;
    }
    if let Some(text) = input.text("summaryMetrics")? {
        set_summary(&mut params, &mut batch, parsed_map("summaryMetrics", text)?)?;
    }
    let visibility = publish_and_wait(&context.channels, &run_id, batch).await?;
    let Some(run) = RunSnapshot::read(context, &run_id).await? else {
        // A new run that is applied late: the lines that the client streams next would find no run.
        visibility.check_visible()?;
        let message = format!("the run `{}` was deleted, and its id is not free: choose another id", name.id);
        return Err(WandbError::new(http::StatusCode::CONFLICT, message));
    };
    Ok(json!({
        "bucket": run.node(&entity),
        "inserted": existing.is_none(),
        "serverSettings": {"serverMessages": []},
    }))
}

/// The run from which this run is forked, by its id here, and the last step that they share. A run that continues may
/// have lost its parent.
async fn found_parent(
    context: &CallContext,
    parent: &RunName,
    step: Option<i64>,
    is_new: bool,
) -> Result<Option<(String, Option<i64>)>> {
    match find(context, parent).await? {
        Some(run) => Ok(Some((run.run_id, step))),
        None if is_new => Err(no_run(&parent.id)),
        None => Ok(None),
    }
}

fn add_creation(batch: &mut RunBatch, parent: Option<(String, Option<i64>)>, client: String) {
    let (parent_run_id, parent_step) = parent.unwrap_or_default();
    let create = CreateRun { parent_run_id, parent_step, client, ..CreateRun::default() };
    batch.add(Kind::CreateRun(create), None);
}

fn add_identity(
    batch: &mut RunBatch,
    params: &mut ParamChanges,
    context: &CallContext,
    name: &RunName,
    entity: &str,
) -> Result<()> {
    let experiment = Some(name.project.clone());
    batch.add(Kind::SetRunProperty(SetRunProperty { experiment, ..SetRunProperty::default() }), None);
    for (member, text) in [
        (names::ID, name.id.as_str()),
        (names::PROJECT, name.project.as_str()),
        (names::ENTITY, entity),
        (names::USER, context.user.as_str()),
    ] {
        if !text.is_empty() {
            params.set(batch, member, &[WANDB, member], Value::Text(text.to_owned()))?;
        }
    }
    Ok(())
}

fn check_length(field: &str, text: &str, limit: usize) -> Result<()> {
    if text.len() > limit {
        let message = format!("`{field}` has {} bytes, and the limit is {limit}: shorten it", text.len());
        return Err(WandbError::invalid(message));
    }
    Ok(())
}

fn add_properties(
    batch: &mut RunBatch,
    params: &mut ParamChanges,
    run_id: &str,
    input: &Arguments,
) -> Result<()> {
    // A run without a name gets the name that the server gives to every run without a name.
    let name = input.sent_text("displayName")?.map(|name| match name {
        "" => matyan_value::spoken_name(run_id),
        name => name.to_owned(),
    });
    let description = input.sent_text("notes")?.or(input.sent_text("description")?).map(str::to_owned);
    check_length("displayName", name.as_deref().unwrap_or_default(), NAME_BYTES)?;
    check_length("notes", description.as_deref().unwrap_or_default(), DESCRIPTION_BYTES)?;
    if name.is_some() || description.is_some() {
        batch.add(
            Kind::SetRunProperty(SetRunProperty { name, description, ..SetRunProperty::default() }),
            None,
        );
    }
    for (field, member) in [
        ("groupName", names::GROUP),
        ("jobType", names::JOB_TYPE),
        ("commit", names::COMMIT),
        ("host", names::HOST),
        ("jobProgram", names::PROGRAM),
        ("jobRepo", names::REPO),
    ] {
        if let Some(text) = input.text(field)? {
            params.set(batch, field, &[WANDB, member], Value::Text(text.to_owned()))?;
        }
    }
    Ok(())
}

/// Replaces the tags of a run. Old tags make room before new tags are added.
fn add_tags(batch: &mut RunBatch, old: &[&str], new: &[&str]) -> Result<()> {
    let distinct: BTreeSet<&str> = new.iter().copied().collect();
    if distinct.len() > TAGS_PER_RUN {
        let message = format!("`tags` has more than {TAGS_PER_RUN} members: log their content as a config");
        return Err(WandbError::invalid(message));
    }
    for name in old.iter().filter(|tag| !distinct.contains(*tag)) {
        batch.add(Kind::RemoveTag(RemoveTag { name: (*name).to_owned() }), None);
    }
    for name in distinct.into_iter().filter(|tag| !old.contains(tag)) {
        check_length("tags", name, NAME_BYTES)?;
        batch.add(Kind::AddTag(AddTag { name: name.to_owned() }), None);
    }
    Ok(())
}

/// A config in the form of the clients: each value in an object with a member `value`.
struct Config {
    shown: Map,
    internal: Map,
}

impl Config {
    fn parse(text: &str) -> Result<Self> {
        let mut shown = Map::new();
        let mut internal = Map::new();
        for (name, member) in parsed_map("config", text)? {
            let value = match member {
                Value::Map(mut map) if map.contains_key("value") => {
                    map.remove("value").unwrap_or(Value::Null)
                }
                other => other,
            };
            match (name == INTERNAL_MEMBER, value) {
                (true, Value::Map(map)) => internal = map,
                (true, _) => return Err(WandbError::invalid("`_wandb` in `config` must be an object")),
                // The version of the format of configs.
                (false, _) if name == "wandb_version" => {}
                (false, value) => {
                    shown.insert(name, value);
                }
            }
        }
        Ok(Self { shown, internal })
    }

    /// The version of the client, by its own report.
    fn client_version(&self) -> Option<&str> {
        match self.internal.get(CLIENT_VERSION) {
            Some(Value::Text(version)) => Some(version),
            _ => None,
        }
    }

    /// The run from which this run is forked, and the last step that they share.
    fn branch_point(&self, fork: &RunName) -> Option<(RunName, Option<i64>)> {
        let point = self.internal.get(BRANCH_POINT)?.as_map()?;
        let (Some(Value::Text(id)), step) = (point.get("run_id"), point.get("step")) else { return None };
        let step = match step {
            Some(Value::Integer(step)) => Some(*step),
            Some(Value::Float(step)) => Some(*step as i64),
            _ => None,
        };
        RunName::new(&fork.project, id).ok().filter(|parent| parent != fork).map(|parent| (parent, step))
    }

    /// Replaces the config of the run. A script never deletes its whole config: a script without a config is a writer
    /// among several writers of the run. The public API sends all remaining members.
    fn add_to(self, batch: &mut RunBatch, params: &mut ParamChanges, is_script: bool) -> Result<()> {
        if !self.shown.is_empty() || (!is_script && params.has_members(&[CONFIG])) {
            params.set(batch, "config", &[CONFIG], Value::Map(self.shown))?;
        }
        let goals = metric_goals::goals_of_config(params, &self.internal);
        if !goals.is_empty() {
            params.set(batch, "config", &[GOALS], Value::Map(goals))?;
        }
        if !self.internal.is_empty() {
            params.set(batch, "config", &[WANDB, INTERNAL_CONFIG], Value::Map(self.internal))?;
        }
        Ok(())
    }
}

fn parsed_map(field: &str, text: &str) -> Result<Map> {
    check_values(&format!("`{field}`"), text.as_bytes())?;
    match json::parse(text) {
        Ok(Value::Map(map)) => Ok(map),
        Ok(_) => Err(WandbError::invalid(format!("`{field}` is not an object as JSON"))),
        Err(error) => Err(WandbError::invalid(format!("`{field}` is not JSON: {error}"))),
    }
}

/// Ends a run, or starts it again.
pub(crate) async fn update_state(context: &CallContext, arguments: &Arguments) -> Result<serde_json::Value> {
    let input = arguments.input()?;
    let (run, _) = find_by_storage_id(context, input.required("id")?).await?;
    let mut batch = RunBatch::default();
    let state = input.required("state")?;
    match state.to_ascii_lowercase().as_str() {
        "running" | "pending" => batch.create(),
        "finished" => batch.add(finish(OutcomeKind::Finished), None),
        "failed" | "crashed" => batch.add(finish(OutcomeKind::Failed), None),
        "killed" | "preempted" | "preempting" => batch.add(finish(OutcomeKind::Interrupted), None),
        _ => {
            let message = format!(
                "`state` must be running, finished, failed or killed, not `{}`",
                state.escape_debug()
            );
            return Err(WandbError::invalid(message));
        }
    }
    publish_and_wait(&context.channels, &run.run_id, batch).await?;
    Ok(json!({"success": true}))
}

fn finish(kind: OutcomeKind) -> Kind {
    Kind::FinishRun(FinishRun { outcome: Some(Outcome { kind: kind.into(), message: String::new() }) })
}

pub(crate) fn stop() -> Result<serde_json::Value> {
    Err(WandbError::invalid(NO_STOP))
}

pub(crate) async fn delete(context: &CallContext, arguments: &Arguments) -> Result<serde_json::Value> {
    let input = arguments.input()?;
    let (name, _) = RunName::of_storage_id(input.required("id")?)?;
    // A repeated request finds no run, because the first request has deleted it.
    let Some(run) = find(context, &name).await? else { return Ok(json!({"clientMutationId": null})) };
    match context.channels.runs().delete(DeleteRequest { run_id: run.run_id }).await {
        Ok(_) => Ok(json!({"clientMutationId": null})),
        Err(status) if is_missing(&status) => Ok(json!({"clientMutationId": null})),
        Err(status) => Err(status.into()),
    }
}

/// Removes the data that was logged after a step, so that the run continues from there.
pub(crate) async fn rewind(context: &CallContext, arguments: &Arguments) -> Result<serde_json::Value> {
    let input = arguments.input()?;
    let metric = input.required("metricName")?;
    if metric != "_step" {
        return Err(WandbError::invalid("`metricName` must be `_step`: a run is rewound to a step"));
    }
    let last = match input.get("metricValue").as_f64() {
        Some(step) if step >= 0.0 && step.fract() == 0.0 => step as i64,
        _ => return Err(WandbError::invalid("`metricValue` must be a step")),
    };
    let name = RunName::new(project_or_default(input.text("projectName")?), input.required("runName")?)?;
    let run = find(context, &name).await?.ok_or_else(|| no_run(&name.id))?;
    let later = StepRange { start: Some(last.saturating_add(1)), stop: None };
    let mut deletions = Vec::new();
    for series in all_series(&context.channels, &run.run_id).await? {
        if series.last_step <= last || series.is_system() {
            continue;
        }
        deletions.push(DeleteStepsRequest {
            run_id: run.run_id.clone(),
            r#type: series.deletion_type().into(),
            key: Some(SeriesKey { name: series.name, context: series.context }),
            steps: Some(later),
            request_id: String::new(),
        });
    }
    call_all(CALLS_AT_A_TIME, deletions.iter().map(|request| delete_steps(context, request))).await?;
    let entity = entity_or_default(input.text("entityName")?);
    let mut batch = RunBatch::default();
    batch.create();
    publish_and_wait(&context.channels, &run.run_id, batch).await?;
    Ok(json!({"rewoundRun": run.node(entity)}))
}

async fn delete_steps(context: &CallContext, request: &DeleteStepsRequest) -> Result<()> {
    match context.channels.series().delete_steps(request.clone()).await {
        Ok(_) => Ok(()),
        // The run was deleted during the wait.
        Err(status) if is_missing(&status) => Ok(()),
        Err(status) => Err(status.into()),
    }
}

/// Logs an alert as a record of its level.
pub(crate) async fn alert(context: &CallContext, arguments: &Arguments) -> Result<serde_json::Value> {
    let input = arguments.input()?;
    let name = RunName::new(project_or_default(input.text("projectName")?), input.required("runName")?)?;
    let run = find_parts(context, &name, parts_without_params()).await?.ok_or_else(|| no_run(&name.id))?;
    let level = match input.text("severity")? {
        Some("ERROR") => ERROR_LEVEL,
        Some("WARN") => WARNING_LEVEL,
        _ => INFO_LEVEL,
    };
    let message = format!("{}: {}", input.required("title")?, input.text("text")?.unwrap_or_default());
    check_length("text", &message, LOG_BYTES)?;
    let timestamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|since| since.as_secs_f64())
        .unwrap_or_default();
    let mut batch = RunBatch::default();
    batch.add(Kind::LogRecord(LogRecord { message, level, timestamp, ..LogRecord::default() }), None);
    publish(&context.channels, &run.run_id, batch).await?;
    Ok(json!({"success": true}))
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::IngestionBatch;
    use matyan_value::cbor;
    use prost::Message;

    use super::*;

    /// The kinds of the events of a batch.
    fn kinds(batch: RunBatch) -> Vec<Kind> {
        let events = batch.into_parts().flat_map(|part| IngestionBatch::decode(part).unwrap().events);
        events.filter_map(|event| event.kind).collect()
    }

    fn arguments(value: serde_json::Value) -> Arguments {
        Arguments::new(value)
    }

    #[test]
    fn an_empty_text_is_stored_and_null_is_not() {
        let added = |value: serde_json::Value| {
            let mut batch = RunBatch::default();
            let mut params = ParamChanges::new(Map::new());
            add_properties(&mut batch, &mut params, "r:p", &arguments(value)).unwrap();
            kinds(batch)
        };
        let set = |name: Option<&str>, description: Option<&str>| {
            let name = name.map(str::to_owned);
            let description = description.map(str::to_owned);
            [Kind::SetRunProperty(SetRunProperty { name, description, ..SetRunProperty::default() })]
        };
        assert!(added(json!({"displayName": null, "notes": null, "groupName": ""})).is_empty());
        assert_eq!(added(json!({"notes": "", "description": "old"})), set(None, Some("")));
        assert_eq!(added(json!({"description": ""})), set(None, Some("")));
        assert_eq!(added(json!({"displayName": "", "notes": null})), set(Some("agile-fern-971"), None));
    }

    #[test]
    fn data_that_the_server_would_refuse_is_refused_earlier() {
        for (field, bytes) in [("displayName", NAME_BYTES), ("notes", DESCRIPTION_BYTES)] {
            let input = arguments(json!({ field: "x".repeat(bytes + 1) }));
            let mut params = ParamChanges::new(Map::new());
            let error = add_properties(&mut RunBatch::default(), &mut params, "r:p", &input).unwrap_err();
            assert!(error.message.contains(&format!("`{field}`")), "{error}");
        }
        let long = "x".repeat(NAME_BYTES + 1);
        assert!(add_tags(&mut RunBatch::default(), &[], &[&long]).is_err());
        let many: Vec<String> = (0..=TAGS_PER_RUN).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(add_tags(&mut RunBatch::default(), &[], &many).is_err());
        // A full run gets other tags once the old tags are gone.
        let old = &many[1..];
        let new = &many[..TAGS_PER_RUN];
        let mut batch = RunBatch::default();
        add_tags(&mut batch, old, new).unwrap();
        assert!(matches!(kinds(batch).as_slice(), [Kind::RemoveTag(_), Kind::AddTag(_)]));
    }

    #[test]
    fn a_run_names_the_client_that_makes_it() {
        let config = r#"{"lr": {"value": 1}, "_wandb": {"value": {"cli_version": "0.31.0"}}}"#;
        let config = Config::parse(config).unwrap();
        let mut batch = RunBatch::default();
        add_creation(&mut batch, None, client_name("W&B", config.client_version()));
        let client = "W&B 0.31.0".to_owned();
        assert_eq!(kinds(batch), [Kind::CreateRun(CreateRun { client, ..CreateRun::default() })]);
    }

    #[test]
    fn the_public_api_deletes_all_of_a_config_and_a_script_does_not() {
        let stored = || {
            let config = Map::from([("lr".to_owned(), Value::Float(0.1))]);
            ParamChanges::new(Map::from([(CONFIG.to_owned(), Value::Map(config))]))
        };
        let mut batch = RunBatch::default();
        Config::parse("{}").unwrap().add_to(&mut batch, &mut stored(), true).unwrap();
        assert!(batch.is_empty());
        Config::parse("{}").unwrap().add_to(&mut batch, &mut stored(), false).unwrap();
        let sent = kinds(batch);
        let [Kind::LogParams(params)] = sent.as_slice() else { panic!("{sent:?}") };
        let expected = Map::from([(CONFIG.to_owned(), Value::Map(Map::new()))]);
        assert_eq!(cbor::decode_map(&params.value), Ok(expected));
    }

    #[test]
    fn a_config_is_unwrapped() {
        let text = r#"{"lr": {"value": 0.1, "desc": null}, "n": 3, "wandb_version": 1,
            "_wandb": {"value": {"t": {"1": [1]}, "branch_point": {"run_id": "old", "step": 7}}}}"#;
        let config = Config::parse(text).unwrap();
        assert_eq!(config.shown.keys().collect::<Vec<_>>(), ["lr", "n"]);
        assert_eq!(config.shown["lr"], Value::Float(0.1));
        assert!(config.internal.contains_key("t"));
        let fork = RunName::new("p", "new").unwrap();
        let parent = RunName::new("p", "old").unwrap();
        assert_eq!(config.branch_point(&fork), Some((parent.clone(), Some(7))));
        assert_eq!(config.branch_point(&parent), None, "a run is not a branch of itself");
        assert!(Config::parse("[]").is_err());
        assert!(Config::parse("{").is_err());
    }
}
