//! Loads the kinds of data that a query needs: all params of a run or none, names of tags and
//! experiments, and the named sequences. Names and contexts are read once for all runs of a search.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use matyan_model::{
    entity::{Experiment, Tag, entity_get},
    ids::{Project, RunNumber, SeriesNumber},
    keys::SeriesKind,
    metric::{metric_headers_get, metric_series_list, series_named},
    object::{object_headers_get, object_series_list},
    run::{Document, Params, params_get_bytes, run_id_get},
    series::{RunRef, RunSeries},
};
use matyan_ql::{Endpoint, Interval, NeedSet, Query, SequenceSummary};
use matyan_store::Snapshot;
use matyan_value::{Context, Map, Value, json};

use super::{
    candidate::{Candidate, LoadedSequences, Sequence, SequenceContext, SequenceHeader},
    encoded_params::EncodedParams,
};
use crate::server::error::Result;

/// Contexts cached for later runs: about 10 MB at worst.
const CONTEXTS: usize = 1_000;

pub(crate) struct CandidateLoader {
    project: Project,
    query: Arc<Query>,
    names: SequenceNames,
    experiments: HashMap<String, Option<Arc<str>>>,
    tags: HashMap<String, Option<Arc<str>>>,
    contexts: HashMap<String, Arc<SequenceContext>>,
}

/// The sequences of a run to load.
enum SequenceNames {
    All,
    These(BTreeSet<Box<str>>),
}

impl CandidateLoader {
    pub(crate) fn new(project: Project, query: Arc<Query>, narrowed: Option<&[Interval<Box<str>>]>) -> Self {
        let names = names(&query, narrowed);
        let experiments = HashMap::new();
        let tags = HashMap::new();
        let contexts = HashMap::new();
        Self { project, query, names, experiments, tags, contexts }
    }

    pub(crate) async fn load(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RunNumber,
        document: Document,
    ) -> Result<Candidate> {
        let query = self.query.clone();
        let needs = query.needs();
        let encoded = if needs.params.is_empty() {
            Bytes::new()
        } else {
            params_get_bytes(snapshot, self.project, number, &document).await?
        };
        let experiment = match &document.props.experiment {
            Some(id) if needs.experiment => self.experiment(snapshot, id).await?,
            _ => None,
        };
        let mut tags = Vec::new();
        for id in document.props.tags.iter().filter(|_| needs.tags) {
            tags.extend(self.tag(snapshot, id).await?);
        }
        let parent = match document.props.parent {
            Some(parent) if needs.parent => {
                run_id_get(snapshot, self.project, RunNumber(parent.number)).await?
            }
            _ => None,
        };
        let sequences = self.sequences(snapshot, number, &query).await?;
        let params = EncodedParams::new(query, encoded);
        Ok(Candidate { number, document, params, experiment, tags, parent, sequences })
    }

    /// Whether loading a run reads large params.
    pub(crate) fn reads_large_params(&self, document: &Document) -> bool {
        reads_large_params(&self.query, document)
    }

    async fn experiment(&mut self, snapshot: &dyn Snapshot, id: &str) -> Result<Option<Arc<str>>> {
        if let Some(known) = self.experiments.get(id) {
            return Ok(known.clone());
        }
        let found = entity_get::<Experiment>(snapshot, self.project, id).await?;
        let name = found.map(|experiment| Arc::from(experiment.name));
        self.experiments.insert(id.to_owned(), name.clone());
        Ok(name)
    }

    async fn tag(&mut self, snapshot: &dyn Snapshot, id: &str) -> Result<Option<Arc<str>>> {
        if let Some(known) = self.tags.get(id) {
            return Ok(known.clone());
        }
        let found = entity_get::<Tag>(snapshot, self.project, id).await?;
        let name = found.map(|tag| Arc::from(tag.name));
        self.tags.insert(id.to_owned(), name.clone());
        Ok(name)
    }

    async fn sequences(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RunNumber,
        query: &Query,
    ) -> Result<LoadedSequences> {
        if matches!(&self.names, SequenceNames::These(names) if names.is_empty()) {
            return Ok(LoadedSequences::new(Vec::new()));
        }
        let named = !query.needs().sequences.is_empty();
        let endpoint = query.options().endpoint;
        let mut sequences = Vec::new();
        if named || endpoint == Endpoint::Metric {
            let run_ref = RunRef { project: self.project, number };
            sequences.extend(metrics(snapshot, run_ref, &self.names, query.needs().summaries).await?);
        }
        if named || endpoint != Endpoint::Metric {
            sequences.extend(objects(snapshot, self.project, number, &self.names).await?);
        }
        let sequences = sequences
            .into_iter()
            .map(|(number, header, summary)| {
                let context = self.context(match &header {
                    SequenceHeader::Metric(header) => &header.context,
                    SequenceHeader::Object(header) => &header.context,
                });
                Sequence { number, header, context, summary }
            })
            .collect();
        Ok(LoadedSequences::new(sequences))
    }

    /// Decodes a context. An unreadable context is treated as empty, so that it does not
    /// hide its run.
    fn context(&mut self, text: &str) -> Arc<SequenceContext> {
        if let Some(known) = self.contexts.get(text) {
            return known.clone();
        }
        let values = match json::parse(if text.is_empty() { "{}" } else { text }) {
            Ok(Value::Map(map)) => map,
            _ => Map::new(),
        };
        let id = Context::from_canonical(text.to_owned()).id();
        let context = Arc::new(SequenceContext { id, values });
        if self.contexts.len() >= CONTEXTS {
            self.contexts.clear();
        }
        self.contexts.insert(text.to_owned(), context.clone());
        context
    }
}

/// Whether a query needs the params of a run, and these are large: they are stored in pieces.
pub(crate) fn reads_large_params(query: &Query, document: &Document) -> bool {
    !query.needs().params.is_empty() && matches!(document.params, Params::Pieces)
}

/// The sequences named in the query and, in a search of sequences, the sequences that can match.
fn names(query: &Query, narrowed: Option<&[Interval<Box<str>>]>) -> SequenceNames {
    let NeedSet::Only(named) = &query.needs().sequences else { return SequenceNames::All };
    let mut names = named.clone();
    if query.options().endpoint != Endpoint::Run {
        let Some(narrowed) = narrowed else { return SequenceNames::All };
        for interval in narrowed {
            match single(interval) {
                Some(name) => names.insert(name.into()),
                None => return SequenceNames::All,
            };
        }
    }
    SequenceNames::These(names)
}

fn single(names: &Interval<Box<str>>) -> Option<&str> {
    match (&names.low, &names.high) {
        (Bound::Included(low), Bound::Included(high)) if low == high => Some(low),
        _ => None,
    }
}

type LoadedSequence = (SeriesNumber, SequenceHeader, SequenceSummary);

async fn metrics(
    snapshot: &dyn Snapshot,
    run_ref: RunRef,
    names: &SequenceNames,
    with_summaries: bool,
) -> Result<Vec<LoadedSequence>> {
    let RunRef { project, number } = run_ref;
    let headers = match names {
        SequenceNames::All => metric_series_list(snapshot, project, number).await?,
        SequenceNames::These(names) => {
            let mut numbers = Vec::new();
            for name in names {
                numbers.extend(series_named(snapshot, project, number, SeriesKind::Metric, name).await?);
            }
            let headers = metric_headers_get(snapshot, project, number, &numbers).await?;
            numbers.into_iter().zip(headers).filter_map(|(it, header)| Some((it, header?))).collect()
        }
    };
    let mut summaries = vec![SequenceSummary::default(); headers.len()];
    if with_summaries && !headers.is_empty() {
        let opened = RunSeries::open(snapshot, run_ref).await?;
        let numbers: Vec<SeriesNumber> = headers.iter().map(|(number, _)| *number).collect();
        for (summary, found) in summaries.iter_mut().zip(opened.summaries(snapshot, &numbers).await?) {
            *summary = found.as_ref().map(metric_summary).unwrap_or_default();
        }
    }
    let found = headers.into_iter().zip(summaries);
    Ok(found.map(|((number, header), summary)| (number, SequenceHeader::Metric(header), summary)).collect())
}

fn metric_summary(points: &matyan_model::series::Summary) -> SequenceSummary {
    let finite = points.finite() > 0;
    SequenceSummary {
        first: Some(points.first.value),
        last: Some(points.last.value),
        min: finite.then_some(points.min),
        max: finite.then_some(points.max),
        first_step: Some(points.first.step),
        last_step: Some(points.last.step),
    }
}

async fn objects(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    names: &SequenceNames,
) -> Result<Vec<LoadedSequence>> {
    let headers = match names {
        SequenceNames::All => object_series_list(snapshot, project, number).await?,
        SequenceNames::These(names) => {
            let mut numbers = Vec::new();
            for name in names {
                numbers.extend(series_named(snapshot, project, number, SeriesKind::Object, name).await?);
            }
            let headers = object_headers_get(snapshot, project, number, &numbers).await?;
            numbers.into_iter().zip(headers).filter_map(|(it, header)| Some((it, header?))).collect()
        }
    };
    let loaded = headers.into_iter().map(|(number, header)| {
        // Objects have no value to compare; users expect 0.
        let summary = SequenceSummary {
            last: Some(0.0),
            first_step: (header.count > 0).then_some(header.first_step),
            last_step: (header.count > 0).then_some(header.last_step),
            ..SequenceSummary::default()
        };
        (number, SequenceHeader::Object(header), summary)
    });
    Ok(loaded.collect())
}
