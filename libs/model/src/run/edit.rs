//! Changes of a run document: read it, change it, and write the difference, with the index rows
//! and counters that follow from it. All changes of documents are made here, so that indexes
//! and counters cannot disagree with them.

use bytes::Bytes;
use matyan_proto::limits;
use matyan_store::{Batch, Result, Snapshot, Transaction, Value};

use super::{Document, Params, Parent, Props, read};
use crate::{
    ids::{Project, RunId, RunNumber},
    index,
    keys::{self, CohortKind, Counter, EntityKind},
    listed_params::changed_params_value,
    params, rows,
    uncollected::UncollectedList,
};
use matyan_value::{Map, cbor};

/// Largest params that are stored in the document. Larger ones would slow down every scan of
/// the run list.
const INLINE_PARAMS_BYTES: usize = 16 * 1024;
/// Bytes by which the header of an encoded map can grow when entries are added.
const MAP_HEAD_BYTES: usize = 8;
/// Size of params above which they may not fit in a transaction in which their index rows of an earlier format are
/// cleared.
const CLEARED_AHEAD_BYTES: usize = 4 << 20;

pub struct RunEdit {
    project: Project,
    number: RunNumber,
    before: Option<Document>,
    pub props: Props,
    /// The id of the parent, which never changes.
    parent_id: Option<RunId>,
    /// The params of an existing run are read when they are first needed.
    params: Option<EditedParams>,
    /// Upper bound of the encoded size of the params after the messages applied so far;
    /// `None` before the first one.
    params_bytes: Option<usize>,
    /// The index rows of the params were cleared before the document changes.
    is_cleared_ahead: bool,
}

/// The params before and after a change.
struct EditedParams {
    old: Map,
    new: Map,
    /// Where the run is listed if they differ, or the run is new.
    list: UncollectedList,
}

impl RunEdit {
    /// An edit of a document that does not exist yet. The run joins this list of uncollected params even without params, so
    /// that each run is in the list or in a cohort.
    pub(crate) fn create(project: Project, number: RunNumber, props: Props, list: UncollectedList) -> Self {
        let params = EditedParams { old: Map::new(), new: Map::new(), list };
        Self {
            project,
            number,
            before: None,
            props,
            parent_id: None,
            params: Some(params),
            params_bytes: None,
            is_cleared_ahead: false,
        }
    }

    /// The document of a live run number. The transaction fails if the document changes in
    /// the meantime.
    pub async fn load(
        transaction: &Transaction,
        project: Project,
        number: RunNumber,
    ) -> Result<Option<Self>> {
        let key = keys::document(project, number);
        let Some(value) = transaction.get(&key).await? else { return Ok(None) };
        let before = Document::decode(&key, &value)?;
        let props = before.props.clone();
        let parent_id = match props.parent {
            Some(parent) => {
                read::run_id_get(transaction.unchecked(), project, RunNumber(parent.number)).await?
            }
            None => None,
        };
        Ok(Some(Self {
            project,
            number,
            before: Some(before),
            props,
            parent_id,
            params: None,
            params_bytes: None,
            is_cleared_ahead: false,
        }))
    }

    pub fn number(&self) -> RunNumber {
        self.number
    }

    /// Makes the run a branch. It must not have a parent yet.
    pub fn set_parent(&mut self, parent: Parent, id: RunId) {
        self.props.parent = Some(parent);
        self.parent_id = Some(id);
    }

    pub(crate) fn parent_id(&self) -> Option<&RunId> {
        self.parent_id.as_ref()
    }

    /// Sets the time of the last change. The time is later than the time of the change before, even
    /// if clocks differ, because callers recognize a version by it.
    pub fn touch(&mut self, now_us: i64) {
        let next = self.before.as_ref().map(|before| before.props.updated_us.saturating_add(1));
        self.props.updated_us = now_us.max(self.props.updated_us).max(next.unwrap_or(now_us));
    }

    /// Reopens a run that `Props::give_up` has ended. Runs that ended otherwise stay as they are.
    pub fn resume(&mut self, now_us: i64) {
        if std::mem::take(&mut self.props.is_given_up) {
            self.props.active = true;
            self.props.finalized_us = None;
            self.touch(now_us);
        }
    }

    /// The params, which the caller may change.
    pub async fn params(&mut self, snapshot: &dyn Snapshot) -> Result<&mut Map> {
        if self.params.is_none() {
            let tree = match &self.before {
                Some(document) => read::params_get(snapshot, self.project, self.number, document).await?,
                None => Map::new(),
            };
            let list = UncollectedList::read(snapshot, CohortKind::Params, self.project).await?;
            self.params = Some(EditedParams { old: tree.clone(), new: tree, list });
        }
        Ok(&mut self.params.as_mut().expect("it was filled above").new)
    }

    /// Applies a message to the params. If they would exceed the limit, returns `Err` with
    /// the size that they would have, and leaves them unchanged.
    pub async fn params_merge(&mut self, snapshot: &dyn Snapshot, message: Map) -> Result<Result<(), usize>> {
        let known = self.params_bytes;
        let tree = self.params(snapshot).await?;
        let before = known.unwrap_or_else(|| cbor::encode_map(tree).len());
        let most = before + cbor::encode_map(&message).len() + MAP_HEAD_BYTES;
        if most <= limits::RUN_PARAMS_BYTES {
            params::merge(tree, message);
            self.params_bytes = Some(most);
            return Ok(Ok(()));
        }
        // The message may replace existing values, so the exact size is only known after
        // the merge.
        let mut merged = tree.clone();
        params::merge(&mut merged, message);
        let bytes = cbor::encode_map(&merged).len();
        if bytes > limits::RUN_PARAMS_BYTES {
            return Ok(Err(bytes));
        }
        *tree = merged;
        self.params_bytes = Some(bytes);
        Ok(Ok(()))
    }

    /// Whether the params may have index rows, as in stores of earlier formats.
    pub(crate) fn has_param_rows(&self) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|document| !document.props.is_without_param_rows) && !self.is_cleared_ahead
    }

    /// Clears the index rows that large params have in a store of an earlier format. The caller commits this before the document,
    /// so that each fits in a transaction. Readers read the document of the run from then on, because it is listed.
    pub fn take_cleared_ahead(&mut self) -> Option<Batch> {
        if self.params_bytes? < CLEARED_AHEAD_BYTES || !self.has_param_rows() {
            return None;
        }
        let EditedParams { old, list, .. } = self.params.as_ref()?;
        let mut batch = Batch::buffered();
        let rows = index::params_rows(self.project, self.number, old);
        index::write_difference(&mut batch, &rows, &index::partial_row(self.project, self.number, old));
        batch.clear(keys::indexed_params(self.project, self.number));
        list.put(&mut batch, self.number, Value::new());
        self.is_cleared_ahead = true;
        Some(batch)
    }

    /// Adds a tag. Returns false, without a change, if the run has as many others as it can have.
    #[must_use]
    pub fn tag_add(&mut self, tag: &str) -> bool {
        let Err(position) = self.props.tags.binary_search_by(|known| known.as_str().cmp(tag)) else {
            return true;
        };
        let has_room = self.props.has_room_for_tags();
        if has_room {
            self.props.tags.insert(position, tag.to_owned());
        }
        has_room
    }

    pub fn tag_remove(&mut self, tag: &str) {
        self.props.tags.retain(|known| known != tag);
    }

    /// Writes the difference. Writes nothing if nothing has changed.
    pub fn write(self, batch: &mut Batch) {
        let has_param_rows = self.has_param_rows();
        let Self { project, number, before, mut props, parent_id, params, .. } = self;
        let kept = before.as_ref().map_or_else(Params::none, |document| document.params.clone());
        props.is_without_param_rows =
            before.as_ref().is_none_or(|document| document.props.is_without_param_rows);
        let params = match params {
            Some(EditedParams { old, new, list }) if old != new || before.is_none() => {
                props.is_without_param_rows = true;
                let rows = if has_param_rows {
                    batch.clear(keys::indexed_params(project, number));
                    index::params_rows(project, number, &old)
                } else {
                    index::partial_row(project, number, &old)
                };
                index::write_difference(batch, &rows, &index::partial_row(project, number, &new));
                list.put(batch, number, changed_params_value(before.as_ref().map(|_| props.updated_us)));
                write_params(batch, project, number, &kept, cbor::encode_map(&new).into())
            }
            _ => kept,
        };
        let document = Document { props, params };
        if before.as_ref() == Some(&document) {
            return;
        }
        write_links(
            batch,
            (project, number, parent_id.as_ref()),
            before.as_ref().map(|document| &document.props),
            Some(&document.props),
        );
        batch.set(keys::document(project, number), document.encode());
    }

    /// Clears the document, its index rows, and its counts. The rows under the run number
    /// are left to the sweep, and so is the cohort that has its params.
    pub async fn clear(mut self, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<()> {
        if self.has_param_rows() {
            let tree = self.params(snapshot).await?.clone();
            let rows = index::params_rows(self.project, self.number, &tree);
            index::write_difference(batch, &rows, &index::IndexRows::new());
            batch.clear(keys::indexed_params(self.project, self.number));
        } else {
            batch.clear(keys::index_partial(self.project, self.number));
        }
        let list = UncollectedList::read(snapshot, CohortKind::Params, self.project).await?;
        list.remove(snapshot, batch, self.number).await?;
        let before = self.before.as_ref().map(|document| &document.props);
        write_links(batch, (self.project, self.number, self.parent_id.as_ref()), before, None);
        batch.clear(keys::document(self.project, self.number));
        Ok(())
    }
}

fn write_params(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    before: &Params,
    encoded: Bytes,
) -> Params {
    let range = keys::params(project, number);
    if encoded.len() > INLINE_PARAMS_BYTES {
        let encoded = rows::with_format(&encoded);
        rows::put_pieces(batch, range, |piece| keys::params_piece(project, number, piece), &encoded);
        return Params::Pieces;
    }
    if *before == Params::Pieces {
        batch.clear_range(range);
    }
    Params::Inline(encoded)
}

/// Writes the index rows of the props, and the counts of runs per tag and experiment.
fn write_links(
    batch: &mut Batch,
    (project, number, parent): (Project, RunNumber, Option<&RunId>),
    before: Option<&Props>,
    after: Option<&Props>,
) {
    let [rows_before, rows_after] = [before, after].map(|props| match props {
        Some(props) => index::props_rows(project, number, props, parent),
        None => index::IndexRows::new(),
    });
    index::write_difference(batch, &rows_before, &rows_after);
    // As in the index rows, hidden runs are not counted.
    let (before, after) = [before, after].map(|props| props.filter(|props| !props.pending_delete)).into();
    for (props, delta) in [(before, -1), (after, 1)] {
        let Some(props) = props else { continue };
        let other = if delta < 0 { after } else { before };
        // Only links that the other version of the document lacks change a count.
        for tag in props.tags.iter().filter(|tag| other.is_none_or(|other| !other.tags.contains(tag))) {
            batch.add(keys::entity_counter(project, EntityKind::Tag, tag, Counter::Runs), delta);
        }
        if let Some(id) = &props.experiment
            && other.is_none_or(|other| other.experiment != props.experiment)
        {
            batch.add(keys::entity_counter(project, EntityKind::Experiment, id, Counter::Runs), delta);
        }
    }
}
