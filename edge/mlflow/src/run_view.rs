//! A run of this server as MLflow shows it.

use std::collections::{BTreeSet, HashMap};

use matyan_proto::common::v1::{OutcomeKind, SeriesType, StepRange};
use matyan_proto::limits::RUN_PARAMS_BYTES;
use matyan_proto::runs::v1::{GetRequest, Props, Run, RunParts, SeriesInfo};
use matyan_proto::series::v1::{ListRequest, PointColumns, RunSelection, SampleRequest};
use matyan_value::{Map, Value, cbor};
use serde_json::json;

use crate::batch::append_barrier;
use crate::error::{ErrorCode, MlflowError, Result};
use crate::experiments::{self, DEFAULT_ID, DEFAULT_NAME};
use crate::input_view;
use crate::names::encoded_run_id;
use crate::numbers::float;
use crate::run_names::{MLFLOW, NAME_TAG, NOTE_TAG, PARAMS, TAGS, USER, USER_TAG, find, path};
use crate::values::{flat_params, param_text};
use matyan_channels::{CALLS_AT_A_TIME, Channels, after, call_all, is_missing};

/// The context of a series without labels.
pub(crate) const NO_CONTEXT: &str = "{}";

/// A run as it was read.
#[derive(Clone, Debug)]
pub(crate) struct RunSnapshot {
    pub(crate) run_id: String,
    pub(crate) props: Props,
    pub(crate) params: Map,
    pub(crate) series: Vec<SeriesInfo>,
}

/// The parts of a run that MLflow shows.
pub(crate) fn all_parts() -> RunParts {
    RunParts {
        props: true,
        param_paths: vec![path([PARAMS]), path([MLFLOW])],
        series_types: vec![SeriesType::Metric.into()],
        ..RunParts::default()
    }
}

/// The parts of a run without its metrics.
pub(crate) fn parts_without_metrics() -> RunParts {
    RunParts { series_types: Vec::new(), ..all_parts() }
}

impl RunSnapshot {
    pub(crate) fn new(run: Run) -> Result<Self> {
        let params = if run.params.is_empty() { Ok(Map::new()) } else { cbor::decode_map(&run.params) };
        let params = params.map_err(|error| {
            tracing::error!(run_id = run.run_id, %error, "failed to read the params of a run");
            MlflowError::new(
                ErrorCode::InternalError,
                "the params of a run are damaged: see the server's log",
            )
        })?;
        let props = run.props.ok_or_else(|| MlflowError::broken("props"))?;
        Ok(Self { run_id: run.run_id, props, params, series: run.series })
    }

    /// Reads a run with these parts.
    pub(crate) async fn read(channels: &Channels, run_id: &str, parts: RunParts) -> Result<Self> {
        let wants_series = !parts.series_types.is_empty();
        let request = GetRequest { run_id: run_id.to_owned(), parts: Some(parts) };
        let run = get_run(channels, run_id, tonic::Request::new(request)).await?;
        let more_series = run.more_series && wants_series;
        let mut snapshot = Self::new(run)?;
        if more_series {
            snapshot.series = list_series(channels, run_id, Vec::new()).await?;
        }
        Ok(snapshot)
    }

    /// Reads a run for a request that logs to it, without its metrics, once everything is applied that was published
    /// for the run earlier. The request decides by the content of the run what to store: if acknowledged points were
    /// missing, new points would overwrite them.
    pub(crate) async fn read_for_write(channels: &Channels, run_id: &str) -> Result<Self> {
        // Nothing is logged to a run that does not exist, not even a barrier.
        let props = RunParts { props: true, ..RunParts::default() };
        Self::read(channels, run_id, props).await?.check_active()?;
        let position = append_barrier(channels, run_id).await?;
        let request = GetRequest { run_id: run_id.to_owned(), parts: Some(parts_without_metrics()) };
        let snapshot = Self::new(get_run(channels, run_id, after(request, run_id, position)).await?)?;
        snapshot.check_active()?;
        Ok(snapshot)
    }

    fn check_active(&self) -> Result<()> {
        if self.props.archived {
            return Err(MlflowError::invalid(format!(
                "The run {} must be in the 'active' state. Current state is deleted.",
                self.run_id
            )));
        }
        Ok(())
    }

    /// Refuses params that do not fit in the run. They would be acknowledged, but never applied.
    pub(crate) fn check_room(&self, added_bytes: usize) -> Result<()> {
        if added_bytes == 0 {
            return Ok(());
        }
        let bytes = cbor::encode_map(&self.params).len() + added_bytes;
        if bytes <= RUN_PARAMS_BYTES {
            return Ok(());
        }
        Err(MlflowError::invalid(format!(
            "the params, tags and data sets of the run would have {bytes} bytes, and the limit is {RUN_PARAMS_BYTES}: \
             log large texts as artifacts"
        )))
    }

    /// The id of the experiment in MLflow.
    pub(crate) fn experiment_id(&self) -> &str {
        match &self.props.experiment {
            Some(experiment) if experiment.name != DEFAULT_NAME => &experiment.id,
            _ => DEFAULT_ID,
        }
    }

    pub(crate) fn status(&self) -> &'static str {
        if self.props.active {
            return "RUNNING";
        }
        match self.props.outcome.as_ref().map(|outcome| outcome.kind()) {
            Some(OutcomeKind::Failed) => "FAILED",
            Some(OutcomeKind::Interrupted) => "KILLED",
            Some(OutcomeKind::Finished | OutcomeKind::Unspecified) | None => "FINISHED",
        }
    }

    /// The tags by key, including tags that are properties of the run.
    pub(crate) fn tags(&self) -> Vec<(String, String)> {
        let stored = find(&self.params, &[MLFLOW, TAGS]).and_then(Value::as_map);
        let mut tags: Vec<(String, String)> = stored
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.as_str() != NAME_TAG && key.as_str() != NOTE_TAG)
            .map(|(key, value)| (key.clone(), param_text(value)))
            .collect();
        tags.push((NAME_TAG.to_owned(), self.props.name.clone()));
        if !self.props.description.is_empty() {
            tags.push((NOTE_TAG.to_owned(), self.props.description.clone()));
        }
        tags
    }

    /// The text of a param; `None` if the run has none with this key.
    pub(crate) fn param(&self, key: &str) -> Option<String> {
        find(&self.params, &[PARAMS, key]).map(param_text)
    }

    fn user(&self) -> String {
        let user = find(&self.params, &[MLFLOW, USER]);
        user.or_else(|| find(&self.params, &[MLFLOW, TAGS, USER_TAG])).map(param_text).unwrap_or_default()
    }

    /// The info of the run. `location` is the location of the files of its experiment.
    pub(crate) fn info(&self, location: &str) -> serde_json::Value {
        let mut info = json!({
            "run_id": self.run_id,
            "run_uuid": self.run_id,
            "run_name": self.props.name,
            "experiment_id": self.experiment_id(),
            "user_id": self.user(),
            "status": self.status(),
            "start_time": self.props.created_us / 1_000,
            "artifact_uri": format!("{location}/{}/artifacts", encoded_run_id(&self.run_id)),
            "lifecycle_stage": if self.props.archived { "deleted" } else { "active" },
        });
        if let Some(ended_us) = self.props.ended_us {
            info["end_time"] = (ended_us / 1_000).into();
        }
        info
    }

    /// The series that MLflow sees: series without a context.
    fn metrics(&self) -> impl Iterator<Item = &SeriesInfo> {
        self.series.iter().filter(|series| series.context == NO_CONTEXT)
    }

    /// The whole run. `times` has the times of the last points, by the numbers of the series.
    pub(crate) fn view(&self, location: &str, times: &HashMap<u32, i64>) -> serde_json::Value {
        let metrics: Vec<serde_json::Value> = self
            .metrics()
            .map(|series| {
                json!({
                    "key": series.name,
                    "value": float(series.last.unwrap_or(f64::NAN)),
                    "timestamp": times.get(&series.number).copied().unwrap_or_default() / 1_000,
                    "step": series.last_step,
                })
            })
            .collect();
        let pair = |(key, value): (String, String)| json!({"key": key, "value": value});
        let params = self.params.get(PARAMS).map(flat_params).unwrap_or_default();
        let params: Vec<serde_json::Value> = params.into_iter().map(pair).collect();
        let tags: Vec<serde_json::Value> = self.tags().into_iter().map(pair).collect();
        json!({
            "info": self.info(location),
            "data": {"metrics": metrics, "params": params, "tags": tags},
            "inputs": input_view::inputs_view(&self.params),
            "outputs": input_view::outputs_view(&self.params),
        })
    }
}

async fn get_run(channels: &Channels, run_id: &str, request: tonic::Request<GetRequest>) -> Result<Run> {
    match channels.runs().get(request).await {
        Ok(response) => response.into_inner().run.ok_or_else(|| MlflowError::broken("run")),
        Err(status) if is_missing(&status) => Err(no_run(run_id)),
        Err(status) => Err(status.into()),
    }
}

/// The error for an unknown run.
pub(crate) fn no_run(run_id: &str) -> MlflowError {
    MlflowError::missing(format!("Run with id={run_id} not found"))
}

/// The metrics of a run; without names, all of them.
pub(crate) async fn list_series(
    channels: &Channels,
    run_id: &str,
    names: Vec<String>,
) -> Result<Vec<SeriesInfo>> {
    let request = ListRequest {
        run_id: run_id.to_owned(),
        types: vec![SeriesType::Metric.into()],
        names,
        ..ListRequest::default()
    };
    let listed = channels.series().list(request).await;
    let mut messages = match listed {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Err(no_run(run_id)),
        Err(status) => return Err(status.into()),
    };
    let mut series = Vec::new();
    while let Some(message) = messages.message().await? {
        series.extend(message.series);
    }
    Ok(series)
}

/// Series in one call for last points. A single run may have more series.
const SERIES_PER_CALL: usize = 20_000;

/// The times of the last points of all metrics of runs, in microseconds, in the order of the runs.
pub(crate) async fn last_times(channels: &Channels, runs: &[RunSnapshot]) -> Result<Vec<HashMap<u32, i64>>> {
    let mut times = Vec::with_capacity(runs.len());
    let mut rest = runs;
    while !rest.is_empty() {
        let mut series = 0;
        let sizes = rest.iter().map(|run| run.series.len());
        let fitting = sizes.take_while(|size| {
            series += size;
            series <= SERIES_PER_CALL
        });
        let count = fitting.count().max(1);
        let (chunk, others) = rest.split_at(count);
        times.extend(last_times_of(channels, chunk).await?);
        rest = others;
    }
    Ok(times)
}

async fn last_times_of(channels: &Channels, runs: &[RunSnapshot]) -> Result<Vec<HashMap<u32, i64>>> {
    let mut times: Vec<HashMap<u32, i64>> = vec![HashMap::new(); runs.len()];
    let selections: Vec<RunSelection> = runs.iter().map(last_points).collect();
    if selections.iter().all(|selection| selection.numbers.is_empty()) {
        return Ok(times);
    }
    let request = SampleRequest {
        runs: selections.clone(),
        columns: Some(PointColumns { times: true, ..PointColumns::default() }),
        ..SampleRequest::default()
    };
    let mut messages = channels.series().sample(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        for piece in message.series {
            let (Some(place), Some(time_us)) = (piece.place, piece.times_us.last()) else { continue };
            let run = place.run as usize;
            let series = place.series as usize;
            let number = selections.get(run).and_then(|selection| selection.numbers.get(series));
            if let (Some(times), Some(number)) = (times.get_mut(run), number) {
                times.insert(*number, *time_us);
            }
        }
    }
    Ok(times)
}

/// Selects the last point of each metric of a run.
fn last_points(run: &RunSnapshot) -> RunSelection {
    let steps = run
        .metrics()
        .map(|series| StepRange { start: Some(series.last_step), stop: series.last_step.checked_add(1) });
    RunSelection {
        run_id: run.run_id.clone(),
        numbers: run.metrics().map(|series| series.number).collect(),
        keys: Vec::new(),
        steps: steps.collect(),
    }
}

/// Reads a single run, with everything that belongs to it.
pub(crate) async fn read_view(channels: &Channels, run_id: &str) -> Result<serde_json::Value> {
    let snapshot = RunSnapshot::read(channels, run_id, all_parts()).await?;
    let location = location_of(channels, snapshot.experiment_id()).await?;
    let runs = [snapshot];
    let times = last_times(channels, &runs).await?;
    let [snapshot] = runs;
    Ok(snapshot.view(&location, &times.into_iter().next().unwrap_or_default()))
}

/// The locations of the files of experiments, by their ids.
pub(crate) async fn locations_of(
    channels: &Channels,
    experiment_ids: BTreeSet<&str>,
) -> Result<HashMap<String, String>> {
    let ids: Vec<&str> = experiment_ids.into_iter().collect();
    let locations = call_all(CALLS_AT_A_TIME, ids.iter().map(|id| location_of(channels, id))).await?;
    Ok(ids.into_iter().map(str::to_owned).zip(locations).collect())
}

/// The location of the files of an experiment.
pub(crate) async fn location_of(channels: &Channels, experiment_id: &str) -> Result<String> {
    let content = experiments::content(channels, experiment_id).await?;
    Ok(experiments::artifact_location(experiment_id, &content))
}
