//! Runs: creating, changing, reading, deleting and restoring them.

use http::{HeaderMap, header};
use matyan_proto::common::v1::{Outcome, OutcomeKind};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{CreateRun, FinishRun, SetRunProperty};
use matyan_proto::runs::v1::UpdateRequest;
use matyan_value::Value;
use serde_json::json;
use uuid::Uuid;

use crate::batch::{RunBatch, publish, publish_patiently};
use crate::clock::{checked_time, now_ms};
use crate::error::{MlflowError, Result};
use crate::experiments::{self, DEFAULT_ID};
use crate::fields::Fields;
use crate::names::{check_key, check_length, check_run_id, check_run_name};
use crate::run_locks::ProjectRunLocks;
use crate::run_names::{MLFLOW, NAME_TAG, USER, at_path};
use crate::run_tags::{add_tag, tag_value};
use crate::run_view::{RunSnapshot, location_of, no_run, parts_without_metrics, read_view};
use matyan_channels::{Channels, client_name};

/// Parts of the names of runs whose clients give none.
const ADJECTIVES: [&str; 16] = [
    "amber", "brisk", "calm", "clever", "daring", "eager", "fair", "gentle", "keen", "lively", "mellow",
    "nimble", "proud", "quiet", "sunny", "vivid",
];
const NOUNS: [&str; 16] = [
    "badger", "beetle", "crane", "falcon", "finch", "heron", "ibex", "lynx", "marten", "otter", "owl",
    "pike", "raven", "seal", "tern", "wren",
];

fn time(fields: &Fields, name: &str) -> Result<Option<i64>> {
    // Clients send 0 for a time that they do not know.
    let time_ms = fields.integer(name)?.filter(|time_ms| *time_ms != 0);
    time_ms.map(|time_ms| checked_time(name, time_ms)).transpose()
}

fn new_name(id: Uuid) -> String {
    let [first, second, third, fourth, ..] = *id.as_bytes();
    let adjective = ADJECTIVES[usize::from(first % 16)];
    let noun = NOUNS[usize::from(second % 16)];
    format!("{adjective}-{noun}-{}", u16::from_be_bytes([third, fourth]) % 1_000)
}

/// The client that makes a run. Its requests name it, as in `mlflow-python-client/3.17.2`.
fn client_of(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let named = agent.and_then(|agent| agent.strip_prefix("mlflow-")?.split_once("-client/"));
    client_name("MLflow", named.map(|(_, version)| version))
}

pub(crate) async fn create(
    channels: &Channels,
    headers: &HeaderMap,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let experiment_id = fields.text("experiment_id")?.filter(|id| !id.is_empty()).unwrap_or(DEFAULT_ID);
    let start_ms = time(fields, "start_time")?.unwrap_or_else(now_ms);
    let tags = fields.objects("tags")?;
    let mut named_by_tag = None;
    let mut pairs = Vec::new();
    for tag in &tags {
        let key = tag.required("key")?;
        check_key("tags.key", key)?;
        let value = tag_value(tag)?;
        if key == NAME_TAG {
            named_by_tag = Some(value.to_owned()).filter(|name| !name.is_empty());
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    let given = fields.text("run_name")?.filter(|name| !name.is_empty()).map(str::to_owned);
    if let (Some(given), Some(tag_name)) = (&given, &named_by_tag)
        && given != tag_name
    {
        return Err(MlflowError::invalid(format!(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
             (run_name='{given}', mlflow.runName='{tag_name}')."
        )));
    }
    let id = Uuid::new_v4();
    let name = given.or(named_by_tag).unwrap_or_else(|| new_name(id));
    check_run_name(&name)?;
    let experiment = experiments::find_active(channels, experiment_id).await?;
    let mut batch = RunBatch::default();
    let created_us = Some(start_ms * 1_000);
    let client = client_of(headers);
    batch.add(Kind::CreateRun(CreateRun { created_us, client, ..CreateRun::default() }), Some(start_ms));
    batch.set_properties(SetRunProperty {
        name: Some(name),
        experiment: Some(experiment.name),
        ..SetRunProperty::default()
    });
    if let Some(user) = fields.text("user_id")?.filter(|user| !user.is_empty()) {
        check_length("user_id", user, 256)?;
        batch.set(&at_path([MLFLOW, USER], Value::Text(user.to_owned())));
    }
    for (key, value) in pairs.iter().filter(|(key, _)| key != NAME_TAG) {
        add_tag(&mut batch, key, value);
    }
    let run_id = id.simple().to_string();
    publish_patiently(channels, &run_id, batch).await?;
    Ok(json!({"run": read_view(channels, &run_id).await?}))
}

/// The outcome for a status; `None` for a run that continues.
fn outcome(status: &str) -> Result<Option<OutcomeKind>> {
    match status {
        "RUNNING" | "SCHEDULED" | "1" | "2" => Ok(None),
        "FINISHED" | "3" => Ok(Some(OutcomeKind::Finished)),
        "FAILED" | "4" => Ok(Some(OutcomeKind::Failed)),
        "KILLED" | "5" => Ok(Some(OutcomeKind::Interrupted)),
        other => Err(MlflowError::invalid(format!(
            "Invalid value '{other}' for parameter 'status' supplied: use RUNNING, SCHEDULED, FINISHED, FAILED or KILLED"
        ))),
    }
}

pub(crate) async fn update(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let status = fields.text("status")?.map(outcome).transpose()?;
    let end_ms = time(fields, "end_time")?;
    let name = fields.text("run_name")?.filter(|name| !name.is_empty());
    name.map(check_run_name).transpose()?;
    let guard = locks.lock(run_id).await?;
    let run = RunSnapshot::read_for_write(channels, run_id).await?;
    let mut batch = RunBatch::default();
    if let Some(name) = name {
        batch.set_properties(SetRunProperty { name: Some(name.to_owned()), ..SetRunProperty::default() });
    }
    match status {
        Some(Some(kind)) => {
            let outcome = Some(Outcome { kind: kind.into(), message: String::new() });
            batch.add(Kind::FinishRun(FinishRun { outcome }), Some(end_ms.unwrap_or_else(now_ms)));
        }
        // The time of the first start is kept.
        Some(None) if !run.props.active => {
            batch.add(Kind::CreateRun(CreateRun { force_resume: true, ..CreateRun::default() }), None);
        }
        Some(None) | None => {}
    }
    publish(channels, run_id, batch).await?;
    drop(guard);
    let run = RunSnapshot::read(channels, run_id, parts_without_metrics()).await?;
    let location = location_of(channels, run.experiment_id()).await?;
    Ok(json!({"run_info": run.info(&location)}))
}

pub(crate) async fn get(channels: &Channels, fields: &Fields) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id).map_err(|_| no_run(run_id))?;
    Ok(json!({"run": read_view(channels, run_id).await?}))
}

/// Deletes a run, which means that it is archived, or restores it. Both calls may be repeated.
pub(crate) async fn set_deleted(
    channels: &Channels,
    fields: &Fields,
    is_deleted: bool,
) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let run = RunSnapshot::read(channels, run_id, parts_without_metrics()).await?;
    if run.props.archived != is_deleted {
        let request = UpdateRequest {
            run_id: run_id.to_owned(),
            archived: Some(is_deleted),
            ..UpdateRequest::default()
        };
        channels.runs().update(request).await?;
    }
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_outcomes() {
        assert_eq!(outcome("RUNNING").unwrap(), None);
        assert_eq!(outcome("FINISHED").unwrap(), Some(OutcomeKind::Finished));
        assert_eq!(outcome("KILLED").unwrap(), Some(OutcomeKind::Interrupted));
        outcome("finished").unwrap_err();
    }

    #[test]
    fn a_client_is_known_by_its_requests() {
        let client = |agent: &'static str| {
            client_of(&HeaderMap::from_iter([(header::USER_AGENT, http::HeaderValue::from_static(agent))]))
        };
        assert_eq!(client("mlflow-python-client/3.17.2"), "MLflow 3.17.2");
        assert_eq!(client("mlflow-java-client/2.9.2"), "MLflow 2.9.2");
        assert_eq!(client("curl/8.0"), "MLflow");
        assert_eq!(client_of(&HeaderMap::new()), "MLflow");
    }

    #[test]
    fn times_before_1970_are_refused() {
        let fields = |json: &str| Fields::of_json(json.as_bytes()).unwrap();
        assert_eq!(time(&fields(r#"{"t": 5}"#), "t").unwrap(), Some(5));
        assert_eq!(time(&fields(r#"{"t": "0"}"#), "t").unwrap(), None);
        for wrong in [r#"{"t": -1}"#, r#"{"t": 9223372036854775807}"#, r#"{"t": "x"}"#] {
            time(&fields(wrong), "t").expect_err(wrong);
        }
        assert!(new_name(Uuid::from_bytes([7; 16])).split('-').count() == 3);
    }
}
