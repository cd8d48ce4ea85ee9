//! The API's view of a run: only the requested parts are read, all from one snapshot.

pub(crate) mod run_lookup;
mod series_lookup;
pub(crate) mod typed_values;

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use matyan_blob::BlobKey;
use matyan_model::{
    artifact::{artifacts_page, is_sequence_upload},
    entity::{Experiment, NoteOwner, Tag, entity_get, notes_count},
    ids::{Project, RunNumber, SeriesNumber},
    keys::{self, SeriesKind},
    metric::{metric_headers_get, metric_series_find_many, metric_series_list, series_named},
    object::{ObjectHeader, object_series_list},
    run::{Document, Outcome, Props, WritingState, params_get_bytes, run_id_get, writing_get},
    series::{MetricHeader, RunRef, RunSeries, Summary},
};
use matyan_proto::{
    artifacts::v1::Artifact,
    common::v1::{SeriesKey, SeriesType},
    limits,
    runs::v1::{self as pb, RunParts, SeriesInfo},
};
use matyan_store::Snapshot;
use matyan_value::{Context, cbor};
use prost::Message;

use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
};
use run_lookup::FoundRun;
use typed_values::{add_context_values, param_values};

/// Params that are returned only on request: what clients write about the run itself, which is its environment, the
/// goals of its metrics, and its number of steps.
const SYSTEM_KEYS: [&str; 3] = ["__system_params", "__metrics__", "__progress__"];

/// Names of experiments and tags, each read once per response.
pub(crate) struct EntityNames {
    project: Project,
    project_name: String,
    experiments: HashMap<String, Option<pb::ExperimentRef>>,
    tags: HashMap<String, Option<pb::TagRef>>,
}

impl EntityNames {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            project: call.project,
            project_name: call.project_name.clone(),
            experiments: HashMap::new(),
            tags: HashMap::new(),
        }
    }

    /// The experiment of a run.
    pub(crate) async fn experiment(
        &mut self,
        snapshot: &dyn Snapshot,
        props: &Props,
    ) -> Result<Option<pb::ExperimentRef>> {
        let Some(id) = &props.experiment else { return Ok(None) };
        if !self.experiments.contains_key(id) {
            let found = entity_get::<Experiment>(snapshot, self.project, id).await?;
            let named = found.map(|entity| pb::ExperimentRef {
                id: id.clone(),
                name: entity.name,
                description: entity.description,
            });
            self.experiments.insert(id.clone(), named);
        }
        Ok(self.experiments.get(id).cloned().flatten())
    }

    async fn tag(&mut self, snapshot: &dyn Snapshot, id: &str) -> Result<Option<pb::TagRef>> {
        if !self.tags.contains_key(id) {
            let found = entity_get::<Tag>(snapshot, self.project, id).await?;
            let named = found.map(|tag| pb::TagRef {
                id: id.to_owned(),
                name: tag.name,
                color: tag.color,
                description: tag.description,
            });
            self.tags.insert(id.to_owned(), named);
        }
        Ok(self.tags.get(id).cloned().flatten())
    }
}

/// The run with the requested parts.
pub(crate) async fn run_view(
    deps: &Deps,
    names: &mut EntityNames,
    found: &FoundRun,
    parts: &RunParts,
) -> Result<pb::Run> {
    run_parts(deps, names, found.snapshot.as_ref(), found.number, &found.document, parts).await
}

/// A number that increases with every change of a run: its document has the time of the last change,
/// at least one more than the time before, and writes of data are counted.
fn run_version(props: &Props, writing: &WritingState) -> u64 {
    props.updated_us.cast_unsigned().wrapping_add(writing.writes())
}

/// The view of a run found in a snapshot along with others.
pub(crate) async fn run_parts(
    deps: &Deps,
    names: &mut EntityNames,
    snapshot: &dyn Snapshot,
    number: RunNumber,
    document: &Document,
    parts: &RunParts,
) -> Result<pb::Run> {
    let writing = if parts.version || (parts.props && document.props.active) {
        writing_get(snapshot, names.project, number).await?
    } else {
        // Nothing of it is shown.
        WritingState::default()
    };
    run_parts_with(deps, names, snapshot, number, (document, &writing), parts).await
}

/// Like `run_parts`, for a caller that has read what ingestion counts.
pub(crate) async fn run_parts_with(
    deps: &Deps,
    names: &mut EntityNames,
    snapshot: &dyn Snapshot,
    number: RunNumber,
    (document, writing): (&Document, &WritingState),
    parts: &RunParts,
) -> Result<pb::Run> {
    let mut run = pb::Run { run_id: document.props.run_id.clone(), ..pb::Run::default() };
    if parts.version {
        run.version = run_version(&document.props, writing);
    }
    if parts.props {
        let mut props = props_view(snapshot, names, &document.props).await?;
        if props.active {
            props.last_data_us = last_data_us(writing);
        }
        run.props = Some(props);
    }
    if parts.params || !parts.param_paths.is_empty() {
        let params = params_get_bytes(snapshot, names.project, number, document).await?;
        run.params = params_view(params, parts)?;
        if parts.typed_values {
            let params = cbor::decode_map(&run.params).map_err(|error| corrupt(&error))?;
            match param_values(&params) {
                Some(values) => run.param_values = values,
                None => run.param_values_omitted = true,
            }
        }
    }
    let run_ref = RunRef { project: names.project, number };
    let wanted = WantedSeries::of(parts);
    let types = parts.series_types().collect::<Vec<_>>();
    let page = SeriesPage::of(parts);
    let (series, count) = series_view(snapshot, run_ref, &types, wanted, page).await?;
    run.series = series;
    run.series_count = if parts.series_limit > 0 { u32::try_from(count).unwrap_or(u32::MAX) } else { 0 };
    if parts.typed_values {
        run.series = run.series.into_iter().map(add_context_values).collect();
    }
    if parts.artifacts {
        add_artifacts(deps, snapshot, names, number, &mut run).await?;
    }
    if parts.note_count {
        let count = notes_count(snapshot, names.project, &NoteOwner::Run(number.0)).await?;
        run.note_count = u32::try_from(count).unwrap_or(u32::MAX);
    }
    Ok(run)
}

/// Bytes of series after which a message gets no further series. With the last one, they stay below 4 MiB, up to which
/// gRPC clients decode messages by default. The first message of a run may also have its params.
const SERIES_BYTES: usize = 3 << 20;

/// A number of series that never have more than `SERIES_BYTES`.
const FEW_SERIES: usize =
    SERIES_BYTES / (limits::NAME_BYTES + 3 * limits::CONTEXT_BYTES + limits::DTYPE_BYTES + 256);

/// Splits a run into the run itself and further runs with the same id, which hold the series
/// that do not fit.
pub(crate) fn in_pieces(mut run: pb::Run) -> Vec<pb::Run> {
    if run.series.len() <= FEW_SERIES {
        return vec![run];
    }
    let mut pieces = Vec::new();
    let mut series = std::mem::take(&mut run.series).into_iter().peekable();
    loop {
        let mut bytes = 0;
        while let Some(info) = series.next_if(|_| bytes < SERIES_BYTES) {
            bytes += info.encoded_len();
            run.series.push(info);
        }
        run.more_series = series.peek().is_some();
        let next = pb::Run { run_id: run.run_id.clone(), version: run.version, ..pb::Run::default() };
        let piece = std::mem::replace(&mut run, next);
        let is_last = !piece.more_series;
        pieces.push(piece);
        if is_last {
            return pieces;
        }
    }
}

/// The part of a run that fits in one message.
pub(crate) fn first_piece(run: pb::Run) -> pb::Run {
    in_pieces(run).swap_remove(0)
}

async fn props_view(snapshot: &dyn Snapshot, names: &mut EntityNames, props: &Props) -> Result<pb::Props> {
    let experiment = names.experiment(snapshot, props).await?;
    let mut tags = Vec::with_capacity(props.tags.len());
    for id in &props.tags {
        tags.extend(names.tag(snapshot, id).await?);
    }
    let parent = match props.parent {
        Some(parent) => run_id_get(snapshot, names.project, RunNumber(parent.number))
            .await?
            .map(|id| pb::Parent { run_id: id.as_str().to_owned(), step: parent.step }),
        None => None,
    };
    Ok(pb::Props {
        name: props.name.clone(),
        description: props.description.clone(),
        experiment,
        tags,
        created_us: props.created_us,
        ended_us: ended_us(props),
        archived: props.archived,
        active: props.active,
        updated_us: props.updated_us,
        finalized_us: props.finalized_us,
        client_started_us: props.client_start_us,
        duration_us: props.duration_us,
        parent,
        outcome: props.outcome.as_ref().map(Outcome::to_api),
        last_data_us: None,
        client: props.client.clone().unwrap_or_default(),
    })
}

/// When the server received the last applied record of a run; `None` if none is applied, as in the run of a trial without
/// intermediate values.
fn last_data_us(writing: &WritingState) -> Option<i64> {
    Some(writing.last_data_us).filter(|time_us| *time_us > 0)
}

/// The end of a run. An active run has none, even if it ended before it was reopened.
pub(crate) fn ended_us(props: &Props) -> Option<i64> {
    if props.active { None } else { props.ended_us() }
}

fn corrupt(error: &cbor::CborError) -> Error {
    Error::Damaged(matyan_store::Error::corrupt(format!("invalid params of a run: {error}")))
}

/// The params, or the requested paths of them, in stored form.
fn params_view(params: Bytes, parts: &RunParts) -> Result<Bytes> {
    if !parts.param_paths.is_empty() {
        let paths: Vec<&[String]> = parts.param_paths.iter().map(|path| &*path.segments).collect();
        return Ok(cbor::pick(&params, &paths).map_err(|error| corrupt(&error))?.into());
    }
    if parts.system_params {
        return Ok(params);
    }
    SYSTEM_KEYS.iter().try_fold(params, |params, key| {
        Ok(match cbor::without(&params, key).map_err(|error| corrupt(&error))? {
            Cow::Borrowed(_) => params.clone(),
            Cow::Owned(params) => params.into(),
        })
    })
}

/// The API type of a sequence with this dtype; `None` for a client-defined dtype, which cannot
/// be displayed.
pub(crate) fn object_type(dtype: &str) -> Option<SeriesType> {
    match dtype {
        "image" => Some(SeriesType::Images),
        "text" => Some(SeriesType::Texts),
        "distribution" => Some(SeriesType::Distributions),
        "audio" => Some(SeriesType::Audios),
        "figure" => Some(SeriesType::Figures),
        "html" => Some(SeriesType::Htmls),
        "point_cloud" => Some(SeriesType::PointClouds),
        _ => None,
    }
}

/// The series to return; without names and keys, all of them.
#[derive(Clone, Copy)]
pub(crate) struct WantedSeries<'a> {
    pub(crate) names: &'a [String],
    /// With contexts in canonical form.
    pub(crate) keys: &'a [SeriesKey],
}

impl<'a> WantedSeries<'a> {
    pub(crate) fn of(parts: &'a RunParts) -> Self {
        Self { names: &parts.series_names, keys: &parts.series_keys }
    }

    fn is_everything(self) -> bool {
        self.names.is_empty() && self.keys.is_empty()
    }

    fn contains(self, name: &str, context: &str) -> bool {
        self.is_everything()
            || self.names.iter().any(|wanted| wanted == name)
            || self.keys.iter().any(|wanted| wanted.name == name && wanted.context == context)
    }

    /// The metrics of a run, by number, without reading the others.
    async fn metrics(
        self,
        snapshot: &dyn Snapshot,
        run_ref: RunRef,
    ) -> Result<Vec<(SeriesNumber, MetricHeader)>> {
        let RunRef { project, number } = run_ref;
        if self.is_everything() {
            return Ok(metric_series_list(snapshot, project, number).await?);
        }
        let mut found = Vec::new();
        for name in self.names {
            found.extend(series_named(snapshot, project, number, SeriesKind::Metric, name).await?);
        }
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| (key.name.clone(), Context::from_canonical(key.context.clone()).digest()))
            .collect();
        found.extend(metric_series_find_many(snapshot, project, number, &keys).await?.into_iter().flatten());
        found.sort_unstable();
        found.dedup();
        let headers = metric_headers_get(snapshot, project, number, &found).await?;
        Ok(found.into_iter().zip(headers).filter_map(|(number, header)| Some((number, header?))).collect())
    }
}

/// A range of the requested series of a run.
#[derive(Clone, Copy)]
pub(crate) struct SeriesPage {
    offset: usize,
    limit: usize,
}

impl SeriesPage {
    pub(crate) const ALL: Self = Self { offset: 0, limit: usize::MAX };

    fn of(parts: &RunParts) -> Self {
        match parts.series_limit as usize {
            0 => Self::ALL,
            limit => Self { offset: parts.series_offset as usize, limit },
        }
    }
}

/// A page of the requested series of a run, in the order of the API, and the number of all. Summaries are
/// read for the page only.
pub(crate) async fn series_view(
    snapshot: &dyn Snapshot,
    run_ref: RunRef,
    types: &[SeriesType],
    wanted: WantedSeries<'_>,
    page: SeriesPage,
) -> Result<(Vec<SeriesInfo>, usize)> {
    let mut series = Vec::new();
    if types.contains(&SeriesType::Metric) {
        let headers = wanted.metrics(snapshot, run_ref).await?;
        series.extend(headers.into_iter().map(|(number, header)| metric_info(number, header, None)));
    }
    if types.iter().any(|of| *of != SeriesType::Metric) {
        let headers = object_series_list(snapshot, run_ref.project, run_ref.number).await?;
        let shown = headers.into_iter().filter_map(object_info);
        series.extend(
            shown.filter(|info| types.contains(&info.r#type()) && wanted.contains(&info.name, &info.context)),
        );
    }
    sort_series(&mut series);
    let count = series.len();
    series.truncate(page.offset.saturating_add(page.limit));
    series.drain(..page.offset.min(series.len()));
    add_summaries(snapshot, run_ref, &mut series).await?;
    Ok((series, count))
}

/// Adds the summaries of the metrics.
async fn add_summaries(snapshot: &dyn Snapshot, run_ref: RunRef, series: &mut [SeriesInfo]) -> Result<()> {
    let mut metrics: Vec<_> = series.iter_mut().filter(|info| info.r#type() == SeriesType::Metric).collect();
    if metrics.is_empty() {
        return Ok(());
    }
    // In the order of their rows.
    metrics.sort_unstable_by_key(|info| info.number);
    let run = RunSeries::open(snapshot, run_ref).await?;
    let numbers: Vec<SeriesNumber> = metrics.iter().map(|info| SeriesNumber(info.number)).collect();
    for (info, summary) in metrics.into_iter().zip(run.summaries(snapshot, &numbers).await?) {
        add_summary(info, summary.as_ref());
    }
    Ok(())
}

/// Sorts by type, then stored context id (signed), then name bytes.
fn sort_series(series: &mut Vec<SeriesInfo>) {
    let mut ids: HashMap<String, i64> = HashMap::new();
    let mut keyed = Vec::with_capacity(series.len());
    for info in series.drain(..) {
        let id = match ids.get(&info.context) {
            Some(id) => *id,
            None => {
                let id = i64::from(Context::from_canonical(info.context.clone()).id());
                ids.insert(info.context.clone(), id);
                id
            }
        };
        keyed.push(((info.r#type, id), info));
    }
    keyed.sort_by(|(left, one), (right, other)| left.cmp(right).then_with(|| one.name.cmp(&other.name)));
    series.extend(keyed.into_iter().map(|(_, info)| info));
}

/// The text of a context that messages contain: headers of series have no text for no context.
fn shown_context(stored: String) -> String {
    if stored.is_empty() { Context::default().canonical().to_owned() } else { stored }
}

pub(crate) fn object_info((number, header): (SeriesNumber, ObjectHeader)) -> Option<SeriesInfo> {
    let of = object_type(&header.dtype)?;
    Some(SeriesInfo {
        number: number.0,
        name: header.name,
        context: shown_context(header.context),
        r#type: of.into(),
        dtype: header.dtype,
        count: header.count,
        first_step: header.first_step,
        last_step: header.last_step,
        ..SeriesInfo::default()
    })
}

pub(crate) fn metric_info(
    number: SeriesNumber,
    header: MetricHeader,
    summary: Option<&Summary>,
) -> SeriesInfo {
    let mut info = SeriesInfo {
        number: number.0,
        name: header.name,
        context: shown_context(header.context),
        r#type: SeriesType::Metric.into(),
        dtype: header.dtype,
        ..SeriesInfo::default()
    };
    add_summary(&mut info, summary);
    info
}

fn add_summary(info: &mut SeriesInfo, summary: Option<&Summary>) {
    let Some(summary) = summary else { return };
    info.count = summary.count;
    info.first_step = summary.first.step;
    info.last_step = summary.last.step;
    info.first = Some(summary.first.value);
    info.last = Some(summary.last.value);
    // A series without finite values has no minimum or maximum.
    if summary.finite() > 0 {
        info.min = Some(summary.min);
        info.max = Some(summary.max);
    }
}

/// Adds the run's first page of artifacts, for which a message has room.
async fn add_artifacts(
    deps: &Deps,
    snapshot: &dyn Snapshot,
    names: &EntityNames,
    number: RunNumber,
    run: &mut pb::Run,
) -> Result<()> {
    let mut rest = Some(keys::artifacts(names.project, number));
    // A page may contain only blobs of sequences, which are not shown.
    while let Some(range) = rest.take_if(|_| run.artifacts.is_empty()) {
        let (page, next) = artifacts_page(snapshot, names.project, number, &range, usize::MAX).await?;
        rest = next;
        run.artifacts = artifacts_view(deps, &names.project_name, page);
    }
    run.more_artifacts = rest.is_some();
    Ok(())
}

/// The uploaded artifacts, without the blobs of sequences.
pub(crate) fn artifacts_view(deps: &Deps, project_name: &str, page: ArtifactPage) -> Vec<Artifact> {
    let shown = page.into_iter().filter(|(path, _)| !is_sequence_upload(path));
    shown.map(|(path, artifact)| artifact_view(deps, project_name, path, artifact)).collect()
}

/// Artifacts by path.
pub(crate) type ArtifactPage = Vec<(String, matyan_model::artifact::Artifact)>;

pub(crate) fn artifact_view(
    deps: &Deps,
    project_name: &str,
    path: String,
    artifact: matyan_model::artifact::Artifact,
) -> Artifact {
    let key = BlobKey::in_project(project_name, &artifact.blob_key);
    // An invalid key is shown as it was logged.
    let key = key.map_or(artifact.blob_key, |key| key.to_string());
    Artifact {
        path,
        uri: format!("{}/{key}", deps.blob_uri),
        content_type: artifact.content_type,
        size: artifact.size,
        content_hash: Bytes::from(artifact.hash.map(|hash| hash.to_vec()).unwrap_or_default()),
        logged_us: artifact.time_us,
    }
}
