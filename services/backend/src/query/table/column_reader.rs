//! Reads columns from the store: all values of a column from an index where there is one, and the
//! value of a single run from its document. A run that changes while a column is read is read again
//! later, because the position of a column is before all of its snapshots. So every page has its own
//! snapshot.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures::{TryStreamExt as _, stream::FuturesOrdered};
use matyan_model::{
    cohort::{CohortKind, CollectedPage, MetricStatistic, PAGE_COHORTS, collected_values_page, has_cohorts},
    entity::{Experiment, Tag, entity_get, entity_list},
    format::format_has_every_run,
    ids::{Project, RunNumber},
    index::{MAX_TEXT_BYTES, index_rowless_page, index_runs_page, is_indexed_path},
    keys::{self, SeriesKind},
    metric::{metric_series_find, metric_series_find_in},
    param_cohort::{ParamReader, undamaged},
    params::IndexedParam,
    run::{Document, Params, documents_get, params_get_bytes, runs_list},
    series::{RunRef, RunSeries, Summary, folded_summaries},
    uncollected::UncollectedReader,
};
use matyan_proto::search::v1::MetricValue;
use matyan_store::{Error as StoreError, Key, Page, Range, Scan, Snapshot, Stamp, Store};
use matyan_value::cbor;

use super::{
    column::{ReadColumn, ReadValues},
    eviction::Room,
    memory::ManyValues,
    roster::PAGE,
    run_value::{ColumnKey, MetricColumn},
};
use crate::{
    listing::{ALLOCATION, Term},
    query::plan::index,
    server::{
        deps::Deps,
        error::{Error, Result},
    },
};

/// Runs read from one snapshot, at the same time.
const DOCUMENTS: usize = 64;

/// Params in pieces that are in memory at the same time: up to 6 MiB each.
const LARGE_PARAMS: usize = 4;

/// Series looked up in one snapshot.
const SERIES: usize = 256;

/// Such pages that are read at the same time, each on a thread of the store.
const SERIES_PAGES: usize = 4;

/// Documents per page of a scan.
const SCANNED: Scan = Scan { rows: 256, bytes: 1 << 20, ..Scan::DEFAULT };

/// Memory of a tag of a run while tags are read.
const LINK_BYTES: usize = size_of::<(RunNumber, u32)>();

/// Columns of a param that are read at a time: of 8,000 runs.
const PARAM_COLUMNS: usize = 8;

/// Runs up to which rows of an index are looked up one by one, instead of reading the whole index.
const MAX_LOOKED_UP: usize = 20_000;

/// Memory of a run in a list of runs, twice, because a list grows.
const LISTED_BYTES: usize = 4 * size_of::<RunNumber>();

/// Memory of a value apart from its text.
const VALUE_BYTES: usize = size_of::<(RunNumber, Term)>();

/// Reads all values of a column, whose position is at most the present one. Fails if there is not
/// enough memory.
pub(super) async fn read(
    deps: &Deps,
    project: Project,
    key: &ColumnKey,
    position: Stamp,
    room: Room<'_>,
) -> Result<ReadColumn> {
    let pages = ManyValues::default();
    let page = Vec::new();
    let unknown = Vec::new();
    let mut reader =
        ColumnReader { deps, project, key, room, pages, page, bytes: 0, lists_bytes: 0, unknown };
    reader.read().await?;
    let ColumnReader { room, pages, .. } = reader;
    Ok(ReadColumn { position, pages, reserved: room.reserved })
}

struct ColumnReader<'r> {
    deps: &'r Deps,
    project: Project,
    key: &'r ColumnKey,
    room: Room<'r>,
    /// A vector for each page that was read: one for all would be copied while it grows.
    pages: ManyValues<ReadValues>,
    page: ReadValues,
    /// Memory of the pages.
    bytes: usize,
    /// Memory of lists of runs.
    lists_bytes: usize,
    /// Runs whose value no index has.
    unknown: Vec<RunNumber>,
}

/// The runs whose values of a metric are read from summaries.
struct MetricRuns {
    /// The rest of the index of the metric.
    rest: Option<Range>,
    /// Other runs in the index are left out.
    only: Option<HashSet<RunNumber>>,
    /// Runs that were found in the index.
    waiting: VecDeque<Vec<RunNumber>>,
}

impl MetricRuns {
    /// All runs in the index of a metric.
    fn new(index: Range) -> Self {
        Self { rest: Some(index), only: None, waiting: VecDeque::new() }
    }

    /// Reads a page of the index, if some of it is left.
    async fn read_page(&mut self, snapshot: &dyn Snapshot) -> Result<()> {
        let Some(range) = self.rest.take() else { return Ok(()) };
        let (mut numbers, next) = index_runs_page(snapshot, &range, PAGE.rows).await?;
        numbers.retain(|number| self.only.as_ref().is_none_or(|only| only.contains(number)));
        self.waiting.extend(numbers.chunks(SERIES).map(<[RunNumber]>::to_vec));
        self.rest = next;
        Ok(())
    }
}

impl ColumnReader<'_> {
    async fn read(&mut self) -> Result<()> {
        let project = self.project;
        let key = self.key;
        match key {
            ColumnKey::Created => {
                self.index(keys::index_created_between(project, i64::MIN, i64::MAX), |key| {
                    let created_us = keys::decode_index_created(project, key)?;
                    Ok((keys::index_run(key)?, Some(Term::Integer(created_us))))
                })
                .await
            }
            ColumnKey::Ended => {
                self.index(keys::index_ended_between(project, i64::MIN, i64::MAX), |key| {
                    let ended_us = keys::decode_index_ended(project, key)?;
                    Ok((keys::index_run(key)?, Some(Term::Integer(ended_us))))
                })
                .await
            }
            ColumnKey::Active => {
                self.index(keys::index_active_all(project, true), |key| {
                    Ok((keys::index_run(key)?, Some(Term::Bool(true))))
                })
                .await
            }
            ColumnKey::Name => {
                self.index(keys::index_names(project), |key| {
                    let (number, name) = keys::decode_index_name(project, key)?;
                    Ok((number, name.map(|name| Term::text(&name))))
                })
                .await
            }
            ColumnKey::Experiment { .. } => {
                let snapshot = self.deps.store.snapshot().await?;
                let experiments = entity_list::<Experiment>(snapshot.as_ref(), project).await?;
                let names: HashMap<_, _> =
                    experiments.into_iter().map(|(id, experiment)| (id, experiment.name)).collect();
                self.index(keys::index_experiments(project), |key| {
                    let (number, id) = keys::decode_index_experiment(project, key)?;
                    Ok((number, Some(Term::text(names.get(&id).map_or("", String::as_str)))))
                })
                .await
            }
            ColumnKey::Tags { .. } => self.tags().await,
            ColumnKey::Description | ColumnKey::Outcome => self.documents().await,
            ColumnKey::Param(path) => self.param(path).await,
            ColumnKey::Metric(metric) => self.metric(metric).await,
        }
    }

    /// Makes room for a page of values with texts of this size.
    async fn begin_page(&mut self, values: usize, text_bytes: usize) -> Result<()> {
        let unknown = (self.unknown.len() + values) * 2 * size_of::<RunNumber>();
        self.room
            .reserve(self.bytes + self.lists_bytes + unknown + values * VALUE_BYTES + text_bytes)
            .await?;
        self.page = Vec::with_capacity(values);
        Ok(())
    }

    fn end_page(&mut self) {
        let mut page = std::mem::take(&mut self.page);
        page.shrink_to_fit();
        self.bytes += page.iter().map(|(_, value)| VALUE_BYTES + value.heap_bytes()).sum::<usize>();
        self.pages.push(page);
    }

    fn add(&mut self, number: RunNumber, value: Term) {
        self.page.push((number, value));
    }

    async fn page(&self, range: &Range) -> Result<(Page, Option<Range>)> {
        let page = self.deps.store.snapshot().await?.scan(range, PAGE).await?;
        let rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        Ok((page, rest))
    }

    /// Reads an index. `decode` returns no value if the key does not hold it.
    async fn index(
        &mut self,
        range: Range,
        decode: impl Fn(&Key) -> matyan_store::Result<(RunNumber, Option<Term>)>,
    ) -> Result<()> {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let (page, next) = self.page(&range).await?;
            let values: Vec<_> = page.rows.iter().map(|(key, _)| decode(key)).collect::<Result<_, _>>()?;
            let text_bytes = values.iter().flat_map(|(_, value)| value).map(Term::heap_bytes).sum();
            self.begin_page(values.len(), text_bytes).await?;
            for (number, value) in values {
                match value {
                    Some(value) => self.add(number, value),
                    None => self.unknown.push(number),
                }
            }
            self.end_page();
            rest = next;
        }
        self.read_unknown().await
    }

    async fn param(&mut self, path: &[String]) -> Result<()> {
        let path: Vec<Cow<'_, str>> = path.iter().map(|key| Cow::Borrowed(key.as_str())).collect();
        let is_read = !is_indexed_path(&path) || self.param_columns(&path).await?;
        self.lists_bytes = 0;
        if !is_read {
            self.pages = ManyValues::default();
            self.bytes = 0;
            self.unknown.clear();
            return self.documents().await;
        }
        // Runs with too many params to index. A text that is too long has a row without a value.
        let mut rest = Some(keys::index_partial_all(self.project));
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let (numbers, next) = index_rowless_page(snapshot.as_ref(), &range, PAGE.rows).await?;
            self.begin_page(numbers.len(), 0).await?;
            self.unknown.extend(numbers);
            rest = next;
        }
        self.read_unknown().await
    }

    /// Reads the values that cohorts, or index rows, have of a param. Returns false if most of them are only in documents, or
    /// a cohort is damaged.
    async fn param_columns(&mut self, path: &[Cow<'_, str>]) -> Result<bool> {
        let mut reader = ParamReader::new(self.project, path).with_page_columns(PARAM_COLUMNS);
        loop {
            let snapshot = self.deps.store.snapshot().await?;
            let Some(page) = reader.next(snapshot.as_ref()).await? else { return Ok(true) };
            let listed = reader.listed().len();
            self.lists_bytes = listed * LISTED_BYTES;
            if listed > MAX_LOOKED_UP
                && index::count_runs(snapshot.as_ref(), self.project)
                    .await?
                    .is_some_and(|runs| 2 * listed as u64 > runs)
            {
                return Ok(false);
            }
            drop(snapshot);
            let most = page.most_values();
            if most == 0 {
                continue;
            }
            // An indexed text is short.
            self.begin_page(most, most * (MAX_TEXT_BYTES + ALLOCATION)).await?;
            let visited = page.visit(&mut |number, value| match value {
                None | Some(IndexedParam::Rounded(_) | IndexedParam::LongText) => self.unknown.push(number),
                Some(IndexedParam::Null) => {}
                Some(IndexedParam::Bool(value)) => self.add(number, Term::Bool(value)),
                Some(IndexedParam::Integer(value)) => self.add(number, Term::Integer(value)),
                Some(IndexedParam::Float(value)) => self.add(number, Term::Float(value)),
                Some(IndexedParam::Text(text)) => self.add(number, Term::text(&text)),
            });
            self.end_page();
            if undamaged(visited)?.is_none() {
                return Ok(false);
            }
        }
    }

    /// Reads the tags of every run from their index, which lists the runs of one tag after another.
    async fn tags(&mut self) -> Result<()> {
        let snapshot = self.deps.store.snapshot().await?;
        let mut tags = entity_list::<Tag>(snapshot.as_ref(), self.project).await?;
        drop(snapshot);
        tags.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let places: HashMap<&str, u32> =
            (0..).zip(&tags).map(|(place, (id, _))| (id.as_str(), place)).collect();
        let mut links: Vec<(RunNumber, u32)> = Vec::new();
        let mut rest = Some(keys::index_tags(self.project));
        while let Some(range) = rest {
            let (page, next) = self.page(&range).await?;
            self.room.reserve((links.len() + page.rows.len()) * 2 * LINK_BYTES).await?;
            for (key, _) in &page.rows {
                let (number, id) = keys::decode_index_tag(self.project, key)?;
                // A tag that was deleted is not shown.
                links.extend(places.get(id.as_str()).map(|place| (number, *place)));
            }
            rest = next;
        }
        links.sort_unstable();
        let links_bytes = links.capacity() * LINK_BYTES;
        let of_runs: Vec<_> = links.chunk_by(|one, other| one.0 == other.0).collect();
        for page in of_runs.chunks(PAGE.rows) {
            self.begin_page(page.len(), 2 * links_bytes + page.len() * Term::MAX_HEAP_BYTES).await?;
            for links in page {
                let names = links.iter().map(|(_, place)| tags[*place as usize].1.name.as_str());
                self.add(links[0].0, tags_term(names));
            }
            self.end_page();
        }
        Ok(())
    }

    /// Reads the value of every run from its document.
    async fn documents(&mut self) -> Result<()> {
        let mut rest = Some(keys::documents(self.project));
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), self.project, &range, SCANNED).await?;
            self.begin_page(page.runs.len(), page.runs.len() * Term::MAX_HEAP_BYTES).await?;
            for (number, document) in page.runs {
                let value = run_term(snapshot.as_ref(), self.project, number, &document, self.key).await?;
                self.add(number, value);
            }
            self.end_page();
            rest = page.rest;
        }
        Ok(())
    }

    /// Reads the runs whose value no index has.
    async fn read_unknown(&mut self) -> Result<()> {
        let unknown = std::mem::take(&mut self.unknown);
        let unknown_bytes = unknown.capacity() * size_of::<RunNumber>();
        for page in unknown.chunks(DOCUMENTS) {
            self.begin_page(page.len(), unknown_bytes + page.len() * Term::MAX_HEAP_BYTES).await?;
            let values = match self.run_terms(page).await {
                // They take longer than a snapshot lives.
                Err(Error::Store(StoreError::SnapshotTooOld)) => {
                    let mut values = Vec::with_capacity(page.len());
                    for number in page {
                        values.extend(self.run_terms(&[*number]).await?);
                    }
                    values
                }
                values => values?,
            };
            for (number, value) in page.iter().zip(values) {
                self.add(*number, value);
            }
            self.end_page();
        }
        Ok(())
    }

    /// The values of some runs, from one snapshot.
    async fn run_terms(&self, numbers: &[RunNumber]) -> Result<Vec<Term>> {
        let snapshot = self.deps.store.snapshot().await?;
        let documents = documents_get(snapshot.as_ref(), self.project, numbers).await?;
        let runs: Vec<_> = numbers.iter().zip(&documents).collect();
        let has_large = documents.iter().flatten().any(|document| document.params == Params::Pieces);
        let at_once = if has_large { LARGE_PARAMS } else { DOCUMENTS };
        let mut terms = Vec::with_capacity(runs.len());
        for runs in runs.chunks(at_once) {
            let read = runs.iter().copied().map(async |(number, document)| match document {
                Some(document) => {
                    run_term(snapshot.as_ref(), self.project, *number, document, self.key).await
                }
                None => Ok(Term::Absent),
            });
            terms.extend(futures::future::try_join_all(read).await?);
        }
        Ok(terms)
    }

    async fn metric(&mut self, metric: &MetricColumn) -> Result<()> {
        // Their values are not only in the summaries of folded points.
        let mut unread = self.runs_in(keys::unfolded_all(self.project)).await?;
        unread.extend(self.runs_in(keys::branches(self.project)).await?);
        let index = keys::index_series_name_all(self.project, SeriesKind::Metric, &metric.name);
        let mut source = MetricRuns::new(index.clone());
        source.read_page(self.deps.store.snapshot().await?.as_ref()).await?;
        // Reading the summaries of a single page takes little time.
        if source.rest.is_some()
            && let Some(uncollected) = self.collected(metric, &unread).await?
        {
            source = MetricRuns { only: Some(uncollected), ..MetricRuns::new(index) };
        }
        if source.only.as_ref().is_some_and(|only| only.len() <= MAX_LOOKED_UP) {
            self.look_up(&mut source, metric).await?;
        }
        self.summaries(metric, source, unread).await?;
        self.lists_bytes = 0;
        self.read_unknown().await
    }

    /// Reads the values that cohorts have, and returns the runs whose values they may not have; `None` if all
    /// values must be read from summaries.
    async fn collected(
        &mut self,
        metric: &MetricColumn,
        unread: &HashSet<RunNumber>,
    ) -> Result<Option<HashSet<RunNumber>>> {
        let snapshot = self.deps.store.snapshot().await?;
        let is_collected = has_cohorts(snapshot.as_ref(), self.project).await?
            && format_has_every_run(snapshot.as_ref()).await?;
        if !is_collected {
            return Ok(None);
        }
        let runs = index::count_runs(snapshot.as_ref(), self.project).await?;
        drop(snapshot);
        // Before the cohorts: a run that leaves the list after this is in a cohort by then.
        let mut uncollected = self.uncollected_metrics().await?;
        // Cohorts have few of the values, and the whole index is read in any case.
        if uncollected.len() > MAX_LOOKED_UP && runs.is_none_or(|runs| 2 * uncollected.len() as u64 > runs) {
            return Ok(None);
        }
        uncollected.extend(unread);
        let name = (metric.name.as_str(), &metric.digest);
        let statistic = statistic(metric.value);
        let mut rest = Some(keys::cohorts(CohortKind::Metrics, self.project));
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let snapshot = snapshot.as_ref();
            let page =
                collected_values_page(snapshot, self.project, &range, name, statistic, PAGE_COHORTS).await;
            let CollectedPage { values, rest: next } = match page {
                Ok(page) => page,
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(
                        %error,
                        "read the values of a metric from summaries, because a row of a cohort is damaged; `matyan jobs reindex` \
                         makes the cohorts again"
                    );
                    self.pages = ManyValues::default();
                    self.bytes = 0;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            self.begin_page(values.len(), 0).await?;
            let values = values.into_iter().filter(|(number, _)| !uncollected.contains(number));
            self.page.extend(values.map(|(number, value)| (number, Term::float(value))));
            self.end_page();
            rest = next;
        }
        // A repair may have listed runs and cleared their cohorts since the list was read.
        uncollected.extend(self.uncollected_metrics().await?);
        Ok(Some(uncollected))
    }

    /// Replaces the index as the source of runs by the few runs that have a row there.
    async fn look_up(&self, source: &mut MetricRuns, metric: &MetricColumn) -> Result<()> {
        source.rest = None;
        let mut numbers: Vec<_> = source.only.take().into_iter().flatten().collect();
        numbers.sort_unstable();
        for numbers in numbers.chunks(SERIES) {
            let keys: Vec<_> = numbers
                .iter()
                .map(|number| {
                    keys::index_series_name(self.project, SeriesKind::Metric, &metric.name, *number)
                })
                .collect();
            let rows = self.deps.store.snapshot().await?.get_many(&keys).await?;
            let found = numbers.iter().zip(rows).filter(|(_, row)| row.is_some());
            source.waiting.push_back(found.map(|(number, _)| *number).collect());
        }
        Ok(())
    }

    /// Reads values from the summaries of series.
    async fn summaries(
        &mut self,
        metric: &MetricColumn,
        mut source: MetricRuns,
        unread: HashSet<RunNumber>,
    ) -> Result<()> {
        let unread = Arc::new(unread);
        let metric = Arc::new(metric.clone());
        let mut reading = FuturesOrdered::new();
        loop {
            if source.waiting.is_empty() && source.rest.is_some() {
                source.read_page(self.deps.store.snapshot().await?.as_ref()).await?;
            }
            while reading.len() < SERIES_PAGES
                && let Some(numbers) = source.waiting.pop_front()
            {
                let store = self.deps.store.clone();
                reading.push_back(metric_page(store, self.project, metric.clone(), unread.clone(), numbers));
            }
            self.begin_page(SERIES * SERIES_PAGES, 0).await?;
            match reading.try_next().await? {
                Some((values, unknown)) => {
                    self.page.extend(values);
                    self.unknown.extend(unknown);
                    self.end_page();
                }
                None if source.rest.is_none() => return Ok(()),
                None => {}
            }
        }
    }

    /// The runs in the list of uncollected metrics.
    async fn uncollected_metrics(&mut self) -> Result<HashSet<RunNumber>> {
        let mut runs = HashSet::new();
        let mut list = UncollectedReader::new(CohortKind::Metrics, self.project);
        loop {
            let snapshot = self.deps.store.snapshot().await?;
            let Some(numbers) = list.next_runs(snapshot.as_ref(), PAGE.rows).await? else {
                return Ok(runs);
            };
            drop(snapshot);
            self.lists_bytes += numbers.len() * LISTED_BYTES;
            self.room.reserve(self.bytes + self.lists_bytes).await?;
            runs.extend(numbers);
        }
    }

    /// The runs with rows in a range, whose tails are their numbers.
    async fn runs_in(&mut self, all: Range) -> Result<HashSet<RunNumber>> {
        let mut runs = HashSet::new();
        let mut rest = Some(all.clone());
        while let Some(range) = rest {
            let (page, next) = self.page(&range).await?;
            self.lists_bytes += page.rows.len() * LISTED_BYTES;
            self.room.reserve(self.bytes + self.lists_bytes).await?;
            for (key, _) in &page.rows {
                let (number,) = keys::tail(&all.start, key)?;
                runs.insert(RunNumber(number));
            }
            rest = next;
        }
        Ok(runs)
    }
}

/// The values of a metric in some runs, and the runs whose value is not only in folded points.
async fn metric_page(
    store: Arc<dyn Store>,
    project: Project,
    metric: Arc<MetricColumn>,
    unread: Arc<HashSet<RunNumber>>,
    numbers: Vec<RunNumber>,
) -> Result<(ReadValues, Vec<RunNumber>)> {
    let (mut unknown, folded): (Vec<_>, Vec<_>) =
        numbers.into_iter().partition(|number| unread.contains(number));
    let snapshot = store.snapshot().await?;
    let found =
        metric_series_find_in(snapshot.as_ref(), project, &folded, &metric.name, &metric.digest).await?;
    let found = folded.into_iter().zip(found);
    let found: Vec<_> = found.filter_map(|(number, series)| Some((number, series?))).collect();
    let numbers = found.iter().map(|(number, _)| *number);
    let values = match folded_summaries(snapshot.as_ref(), project, &found).await {
        Ok(summaries) => {
            let terms = summaries.iter().map(|summary| summary_term(summary.as_ref(), metric.value));
            numbers.zip(terms).collect()
        }
        // One of them is damaged; the others are read one by one.
        Err(StoreError::Corrupt { .. }) => {
            unknown.extend(numbers);
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    Ok((values, unknown))
}

/// The value of one run.
pub(super) async fn run_term(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    document: &Document,
    key: &ColumnKey,
) -> Result<Term> {
    let props = &document.props;
    Ok(match key {
        ColumnKey::Created => Term::Integer(props.created_us),
        ColumnKey::Ended => {
            let ended_us = props.ended_us().filter(|_| !props.active);
            ended_us.map_or(Term::Absent, Term::Integer)
        }
        ColumnKey::Active if props.active => Term::Bool(true),
        ColumnKey::Active => Term::Absent,
        ColumnKey::Outcome if props.active => Term::text("active"),
        ColumnKey::Outcome => {
            let kind = props.outcome.as_ref().and_then(|outcome| outcome.kind.to_api().name());
            kind.map_or(Term::Absent, Term::text)
        }
        ColumnKey::Name => Term::text(&props.name),
        ColumnKey::Description => Term::text(&props.description),
        ColumnKey::Experiment { .. } => {
            let Some(id) = &props.experiment else { return Ok(Term::text("")) };
            let found = entity_get::<Experiment>(snapshot, project, id).await?;
            Term::text(&found.map(|experiment| experiment.name).unwrap_or_default())
        }
        ColumnKey::Tags { .. } => {
            let mut names = Vec::with_capacity(props.tags.len());
            for id in &props.tags {
                names.extend(entity_get::<Tag>(snapshot, project, id).await?.map(|tag| tag.name));
            }
            names.sort_unstable();
            tags_term(names.iter().map(String::as_str))
        }
        ColumnKey::Param(path) => match param(snapshot, project, number, document, path).await {
            // The run is left out when it is read to be sent.
            Err(Error::Damaged(_)) => Term::Absent,
            value => value?,
        },
        ColumnKey::Metric(metric) => match metric_term(snapshot, RunRef { project, number }, metric).await {
            Err(Error::Damaged(_)) => Term::Absent,
            value => value?,
        },
    })
}

/// The names of tags, which are in order.
fn tags_term<'n>(names: impl Iterator<Item = &'n str>) -> Term {
    match names.collect::<Vec<_>>().join(", ").as_str() {
        "" => Term::Absent,
        names => Term::text(names),
    }
}

async fn param(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    document: &Document,
    path: &[String],
) -> Result<Term> {
    let params = params_get_bytes(snapshot, project, number, document).await?;
    let corrupt = |error: cbor::CborError| {
        Error::Damaged(StoreError::corrupt(format!("invalid params of run {number}: {error}")))
    };
    let Some(found) = cbor::find(&params, path).map_err(corrupt)? else { return Ok(Term::Absent) };
    Ok(Term::from_value(&cbor::decode(found).map_err(corrupt)?))
}

async fn metric_term(snapshot: &dyn Snapshot, run_ref: RunRef, metric: &MetricColumn) -> Result<Term> {
    let MetricColumn { name, digest, value } = metric;
    let found = metric_series_find(snapshot, run_ref.project, run_ref.number, name, digest).await?;
    let Some(series) = found else { return Ok(Term::Absent) };
    let view = RunSeries::open(snapshot, run_ref).await?.view(snapshot, series).await?;
    Ok(summary_term(view.summary(snapshot).await?.as_ref(), *value))
}

fn summary_term(summary: Option<&Summary>, value: MetricValue) -> Term {
    summary.map_or(Term::Absent, |summary| Term::float(statistic(value).of(summary)))
}

fn statistic(value: MetricValue) -> MetricStatistic {
    match value {
        MetricValue::Unspecified | MetricValue::Last => MetricStatistic::Last,
        MetricValue::First => MetricStatistic::First,
        MetricValue::Min => MetricStatistic::Min,
        MetricValue::Max => MetricStatistic::Max,
    }
}
