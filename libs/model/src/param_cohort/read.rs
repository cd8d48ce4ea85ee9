//! Reads one param of all runs: of the columns of cohorts, and of the index rows of runs in an earlier format. What neither
//! has must be read from documents; runs with more params than indexes have are in their own list, see
//! `keys::index_partial_all`.
//!
//! Each page may have its own snapshot. Runs in the list of uncollected params are read first, because a run
//! that leaves the list later is in a column by then; and columns are read after index rows, because params
//! move from index rows to columns. The list is read again at the end, unless everything was read from one
//! version: the rows of a run that changes in between are cleared. Readers of several params can share what
//! one of them has read of the list.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use matyan_store::{Error, Key, Range, Result, Scan, Snapshot, Value, Version};

use crate::{
    ids::{CohortNumber, Project, RunNumber},
    index::{
        MAX_TEXT_BYTES, Scalar, decode_param_row, index_page, index_rows_runs, is_indexed_path,
        number_bounds, text_bounds,
    },
    keys::{self, CohortKind},
    params::{IndexedParam, ParamColumn, ParamInterval, count_within, positions_within},
    rows,
    series::{COHORT_RUNS, CohortRuns},
    uncollected::UncollectedReader,
};

/// Rows of the index, or of the list, that are read at a time.
const PAGE: usize = 10_000;
/// Columns that are read at a time, together with the runs of their cohorts: about 4 kB each.
const COLUMNS: usize = 128;

/// Rows, and cohorts, of a page that is decoded quickly.
const LIGHT_ROWS: usize = 1_000;
const LIGHT_COHORTS: usize = 16;

/// Runs whose params are read from documents.
pub type ListedParams = Arc<HashSet<RunNumber>>;

/// The list of these runs, as a reader has read it.
#[derive(Clone)]
pub struct ReadList {
    runs: ListedParams,
    version: ReadVersion,
    may_have_index_rows: bool,
}

impl ReadList {
    /// Reads the list; `None` if it has more than `most` runs. The snapshot may be renewed by any read.
    pub async fn read(snapshot: &dyn Snapshot, project: Project, most: usize) -> Result<Option<Self>> {
        let mut runs = HashSet::new();
        let first = ReadVersion::One(snapshot.version());
        let mut list = UncollectedReader::new(CohortKind::Params, project);
        while let Some(numbers) = list.next_runs(snapshot, PAGE.min(most.saturating_add(1))).await? {
            runs.extend(numbers);
            if runs.len() > most {
                return Ok(None);
            }
        }
        let version = first.and(snapshot.version());
        let may_have_index_rows = list.may_have_index_rows();
        Ok(Some(Self { runs: Arc::new(runs), version, may_have_index_rows }))
    }

    /// Whether params may have index rows of an earlier format.
    pub fn may_have_index_rows(&self) -> bool {
        self.may_have_index_rows
    }

    pub fn runs(&self) -> &ListedParams {
        &self.runs
    }
}

/// The index rows of a path with these values. `None` if no index has them: the path is too long, or a bound is longer
/// than indexed texts.
pub fn param_rows_within(project: Project, path: &[Cow<'_, str>], values: &ParamInterval) -> Option<Range> {
    use std::ops::Bound;
    if !is_indexed_path(path) {
        return None;
    }
    let closed = |bound: Bound<Vec<u8>>, end| if bound == Bound::Unbounded { end } else { bound };
    let (low, high) = match values {
        ParamInterval::Numbers { low, high } => {
            let (lowest, highest) = number_bounds();
            let key = |number: f64| Scalar::Number(number).key();
            (closed(low.map(key), Bound::Included(lowest)), closed(high.map(key), Bound::Included(highest)))
        }
        ParamInterval::Texts { low, high } => {
            let is_long = |bound: &Bound<Box<str>>| match bound {
                Bound::Included(text) | Bound::Excluded(text) => text.len() > MAX_TEXT_BYTES,
                Bound::Unbounded => false,
            };
            if is_long(low) || is_long(high) {
                return None;
            }
            let (lowest, above) = text_bounds();
            let key = |text: &str| Scalar::Text(text).key();
            let low = closed(low.as_ref().map(|text| key(text)), Bound::Included(lowest));
            (low, closed(high.as_ref().map(|text| key(text)), Bound::Excluded(above)))
        }
    };
    let low = low.as_ref().map(Vec::as_slice);
    let high = high.as_ref().map(Vec::as_slice);
    Some(keys::index_param_within(project, path, low, high))
}

/// The part of one kind that is left to be read.
#[derive(Clone)]
enum Source {
    Listed(UncollectedReader),
    Rows(Range),
    Columns(Range),
}

/// The versions from which pages were read.
#[derive(Clone, Copy)]
enum ReadVersion {
    None,
    One(Version),
    Several,
}

impl ReadVersion {
    fn and(self, version: Version) -> Self {
        match self {
            Self::None => Self::One(version),
            Self::One(earlier) if earlier == version => self,
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

/// Reads a param of all runs, page by page.
pub struct ParamReader {
    project: Project,
    /// All index rows, and all columns, of the path.
    rows: Range,
    columns: Range,
    /// The values to be found; all if there are none.
    values: Option<Arc<[ParamInterval]>>,
    rest: VecDeque<Source>,
    listed: ListedParams,
    /// Columns of a page.
    page_columns: usize,
    /// The version from which everything was read so far.
    version: ReadVersion,
    may_have_index_rows: bool,
}

impl ParamReader {
    /// Reads all values of a param, whose path must be one that indexes have.
    pub fn new(project: Project, path: &[Cow<'_, str>]) -> Self {
        Self::of(project, path, vec![keys::index_param_path(project, path)], None)
    }

    /// Reads only values in some intervals. `None` if no index has them.
    pub fn within(project: Project, path: &[Cow<'_, str>], values: Vec<ParamInterval>) -> Option<Self> {
        let rows: Option<Vec<Range>> =
            values.iter().map(|interval| param_rows_within(project, path, interval)).collect();
        Some(Self::of(project, path, rows?, Some(values.into())))
    }

    fn of(
        project: Project,
        path: &[Cow<'_, str>],
        found_rows: Vec<Range>,
        values: Option<Arc<[ParamInterval]>>,
    ) -> Self {
        let columns = keys::param_columns(project, path);
        let listed = Source::Listed(UncollectedReader::new(CohortKind::Params, project));
        let mut rest = VecDeque::from([listed.clone()]);
        // An interval without numbers or texts is a range that ends before its start.
        let found_rows = found_rows.into_iter().filter(|rows| rows.start < rows.end);
        rest.extend(found_rows.map(Source::Rows));
        rest.extend([Source::Columns(columns.clone()), listed]);
        Self {
            project,
            rows: keys::index_param_path(project, path),
            columns,
            values,
            rest,
            listed: Arc::default(),
            page_columns: COLUMNS,
            version: ReadVersion::None,
            may_have_index_rows: true,
        }
    }

    /// Starts with the list of an earlier reader, which has read everything, instead of reading it.
    #[must_use]
    pub fn with_list(mut self, list: ReadList) -> Self {
        self.rest.pop_front();
        if !list.may_have_index_rows {
            self.leave_out_rows();
        }
        Self { listed: list.runs, version: list.version, ..self }
    }

    fn leave_out_rows(&mut self) {
        self.may_have_index_rows = false;
        self.rest.retain(|source| !matches!(source, Source::Rows(_)));
    }

    /// Reads fewer columns at a time, so that a page takes less memory.
    #[must_use]
    pub fn with_page_columns(self, page_columns: usize) -> Self {
        Self { page_columns, ..self }
    }

    /// Reads the next page. After an error, the same page can be read again.
    pub async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<ParamPage>> {
        let Some(source) = self.rest.front().cloned() else { return Ok(None) };
        self.version = self.version.and(snapshot.version());
        let is_second_list = matches!(&source, Source::Listed(list) if list.is_at_start());
        if is_second_list && self.rest.len() == 1 && matches!(self.version, ReadVersion::One(_)) {
            self.rest.clear();
            return Ok(None);
        }
        let (content, rest) = match source {
            Source::Listed(mut list) => {
                let mut numbers = list.next_runs(snapshot, PAGE).await?.unwrap_or_default();
                let listed = Arc::make_mut(&mut self.listed);
                numbers.retain(|number| listed.insert(*number));
                if self.may_have_index_rows && !list.may_have_index_rows() {
                    self.leave_out_rows();
                }
                let rest = (!list.is_done()).then_some(Source::Listed(list));
                (Content::Listed(numbers), rest)
            }
            Source::Rows(range) => {
                let (rows, rest) = index_page(snapshot, &range, PAGE).await?;
                (Content::Rows { all: self.rows.clone(), rows }, rest.map(Source::Rows))
            }
            Source::Columns(range) => {
                let (columns, rest) = self.read_columns(snapshot, &range).await?;
                (Content::Columns(columns), rest.map(Source::Columns))
            }
        };
        self.rest.pop_front();
        if let Some(rest) = rest {
            self.rest.push_front(rest);
        }
        Ok(Some(ParamPage { listed: self.listed.clone(), values: self.values.clone(), content }))
    }

    /// A page of columns, with the runs of their cohorts, and the range of the rest.
    async fn read_columns(
        &self,
        snapshot: &dyn Snapshot,
        range: &Range,
    ) -> Result<(Vec<CohortColumns>, Option<Range>)> {
        let page = snapshot.scan(range, Scan { rows: self.page_columns, ..Scan::DEFAULT }).await?;
        let rest = page.rest(range);
        let mut numbers: Vec<CohortNumber> = Vec::new();
        let mut columns: Vec<Vec<(Key, Value)>> = Vec::new();
        for (key, value) in page.rows {
            let number = keys::decode_param_column(&self.columns, &key)?;
            if numbers.last() == Some(&number)
                && let Some(last) = columns.last_mut()
            {
                last.push((key, value));
            } else {
                numbers.push(number);
                columns.push(vec![(key, value)]);
            }
        }
        let cohort_keys: Vec<_> =
            numbers.iter().map(|number| keys::cohort(CohortKind::Params, self.project, *number)).collect();
        if cohort_keys.is_empty() {
            return Ok((Vec::new(), rest));
        }
        // From the snapshot of the columns, because a run that is in another cohort since then has left its cohort.
        let runs = snapshot.get_many(&cohort_keys).await?;
        let found = cohort_keys.into_iter().zip(runs).zip(columns);
        // A cohort without its row is being cleared.
        let found = found.filter_map(|((cohort_key, runs), columns)| {
            Some(CohortColumns { cohort_key, runs: runs?, columns })
        });
        Ok((found.collect(), rest))
    }

    /// The list for the next reader, once everything is read.
    pub fn list(&self) -> ReadList {
        let Self { version, may_have_index_rows, .. } = *self;
        ReadList { runs: self.listed.clone(), version, may_have_index_rows }
    }

    /// The runs whose params are read from documents, as far as they are known.
    pub fn listed(&self) -> &ListedParams {
        &self.listed
    }
}

/// The decoded part of a page, or `None` if the row of a cohort is damaged. Nothing else tells which runs the
/// cohort has, so the documents of all runs decide then. The damage is reported once.
pub fn undamaged<T>(decoded: Result<T>) -> Result<Option<T>> {
    match decoded {
        Err(error @ Error::Corrupt { .. }) => {
            if rows::is_first_report(&error) {
                tracing::error!(
                    %error,
                    "read the documents of all runs for a param, because a row of a cohort is damaged; `matyan jobs reindex` \
                     makes the cohorts again"
                );
            }
            Ok(None)
        }
        decoded => decoded.map(Some),
    }
}

/// A part of what is known about a param. It is decoded when it is visited, which takes up to a millisecond.
pub struct ParamPage {
    listed: ListedParams,
    values: Option<Arc<[ParamInterval]>>,
    content: Content,
}

enum Content {
    /// Runs whose params are read from documents.
    Listed(Vec<RunNumber>),
    Rows {
        /// All rows of the path.
        all: Range,
        rows: Vec<(Key, Value)>,
    },
    Columns(Vec<CohortColumns>),
}

/// Columns of a param in one cohort.
struct CohortColumns {
    cohort_key: Key,
    /// The row of the cohort.
    runs: Value,
    columns: Vec<(Key, Value)>,
}

impl ParamPage {
    /// Visits the runs of the page with their values, or without one if it must be read from the document. A run that changes
    /// while pages are read is visited more than once, and so are runs that have both forms. Fails if a row is damaged, see
    /// [`undamaged`].
    pub fn visit(&self, visit: &mut dyn FnMut(RunNumber, Option<IndexedParam<'_>>)) -> Result<()> {
        match &self.content {
            Content::Listed(numbers) => numbers.iter().for_each(|number| visit(*number, None)),
            Content::Rows { all, rows } => {
                for (key, stored) in rows {
                    let (number, value) = decode_param_row(all, key, stored)?;
                    if !self.listed.contains(&number) {
                        visit(number, value);
                    }
                }
            }
            Content::Columns(cohorts) => {
                for cohort in cohorts {
                    cohort.visit(&self.listed, visit)?;
                }
            }
        }
        Ok(())
    }

    /// Adds runs of the page to `found` if they have the values that the reader looks for, and to `unknown` if they may
    /// have them. Fails if a row is damaged, see [`undamaged`].
    pub fn find(&self, found: &mut Vec<RunNumber>, unknown: &mut Vec<RunNumber>) -> Result<()> {
        match &self.content {
            Content::Listed(numbers) => unknown.extend(numbers),
            Content::Rows { rows, .. } => {
                let numbers = index_rows_runs(rows)?;
                found.extend(numbers.into_iter().filter(|number| !self.listed.contains(number)));
            }
            Content::Columns(cohorts) => {
                for cohort in cohorts {
                    cohort.find(self.values.as_deref(), &self.listed, found, unknown)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the page is decoded in less than half a millisecond.
    pub fn is_light(&self) -> bool {
        match &self.content {
            Content::Listed(_) => true,
            Content::Rows { rows, .. } => rows.len() <= LIGHT_ROWS,
            Content::Columns(cohorts) => cohorts.len() <= LIGHT_COHORTS,
        }
    }

    /// The most values that it may have.
    pub fn most_values(&self) -> usize {
        match &self.content {
            Content::Listed(numbers) => numbers.len(),
            Content::Rows { rows, .. } => rows.len(),
            Content::Columns(cohorts) => cohorts
                .iter()
                .map(|cohort| cohort.columns.len() * cohort.members().map_or(COHORT_RUNS, |runs| runs.len()))
                .sum(),
        }
    }
}

impl CohortColumns {
    fn members(&self) -> Result<CohortRuns> {
        cohort_runs(&self.cohort_key, &self.runs)
    }

    fn visit(
        &self,
        listed: &HashSet<RunNumber>,
        visit: &mut dyn FnMut(RunNumber, Option<IndexedParam<'_>>),
    ) -> Result<()> {
        visit_columns(&self.members()?, &self.columns, listed, visit)
    }

    fn find(
        &self,
        values: Option<&[ParamInterval]>,
        listed: &HashSet<RunNumber>,
        found: &mut Vec<RunNumber>,
        unknown: &mut Vec<RunNumber>,
    ) -> Result<()> {
        // Decoded only if one of its runs is found.
        let mut runs = None;
        for (key, stored) in &self.columns {
            let positions = match values {
                Some(values) => positions_within(stored, values),
                None => ParamColumn::decode(stored).map(|column| column.iter().map(|(at, _)| at).collect()),
            };
            let positions = rows::readable(positions.map_err(|malformed| malformed.at(key)))?;
            if positions.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let runs = match &runs {
                Some(runs) => runs,
                None => runs.insert(self.members()?),
            };
            match positions {
                Some(positions) => {
                    let members = positions.into_iter().filter_map(|at| runs.member_at(at));
                    found.extend(members.filter(|number| !listed.contains(number)));
                }
                None => unknown.extend(runs.members().filter(|number| !listed.contains(number))),
            }
        }
        Ok(())
    }
}

/// The runs of a cohort.
pub(super) fn cohort_runs(key: &Key, stored: &[u8]) -> Result<CohortRuns> {
    CohortRuns::decode(stored).map_err(|malformed| malformed.at(key))
}

/// Visits the members of a cohort with their values in the columns of a param, or without one if it must be read from the
/// document. `listed` runs are left out.
pub(super) fn visit_columns(
    runs: &CohortRuns,
    columns: &[(Key, Value)],
    listed: &HashSet<RunNumber>,
    visit: &mut dyn FnMut(RunNumber, Option<IndexedParam<'_>>),
) -> Result<()> {
    for (key, stored) in columns {
        let column = ParamColumn::decode(stored).map_err(|malformed| malformed.at(key));
        let Some(column) = rows::readable(column)?.filter(|column| column.runs() <= runs.len()) else {
            // The documents decide about a column that is damaged.
            runs.members().filter(|number| !listed.contains(number)).for_each(|number| visit(number, None));
            continue;
        };
        for (at, value) in column.iter() {
            let Some(number) = runs.member_at(at).filter(|number| !listed.contains(number)) else {
                continue;
            };
            match value {
                IndexedParam::Rounded(_) | IndexedParam::LongText => visit(number, None),
                value => visit(number, Some(value)),
            }
        }
    }
    Ok(())
}

/// Runs that columns have, counted.
pub struct ColumnCounts {
    /// For each interval the runs with such a value, members of their cohorts or not.
    pub runs: Vec<usize>,
    /// Columns that were read.
    pub columns: usize,
    /// The range of the rest.
    pub rest: Option<Range>,
}

/// Counts the runs in a page of the columns of a param that have values in each of some intervals.
pub async fn param_columns_count(
    snapshot: &dyn Snapshot,
    range: &Range,
    values: &[ParamInterval],
    columns: usize,
) -> Result<ColumnCounts> {
    let page = snapshot.scan(range, Scan { rows: columns, ..Scan::DEFAULT }).await?;
    let mut runs = vec![0; values.len()];
    for (key, stored) in &page.rows {
        let counted = count_within(stored, values, &mut runs).map_err(|malformed| malformed.at(key));
        rows::readable(counted)?;
    }
    Ok(ColumnCounts { runs, columns: page.rows.len(), rest: page.rest(range) })
}
