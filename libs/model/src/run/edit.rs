//! Changing a run's document: read, change, write the difference with the index rows and counters that follow from it.
//! Everyone who changes a document does it here, so that indexes and counts cannot disagree with it.

use bytes::Bytes;
use matyan_proto::limits;
use matyan_store::{Batch, Result, Snapshot, Transaction};

use super::{Document, Params, Props, read};
use crate::{
    cbor,
    ids::{Project, RunNumber},
    index,
    keys::{self, Counter, EntityKind},
    params, rows,
    value::Map,
};

/// Params up to this size lie in the document: larger ones would slow every scan of the list.
const INLINE_PARAMS_BYTES: usize = 16 * 1024;
/// By which a map that has grown may take more than what it was given.
const MAP_HEAD_BYTES: usize = 8;

pub struct RunEdit {
    project: Project,
    number: RunNumber,
    before: Option<Document>,
    pub props: Props,
    /// Read when they are first asked for: as they were, and as they shall be.
    params: Option<(Map, Map)>,
    /// What messages have brought the params to, encoded, at most; none before the first.
    params_bytes: Option<usize>,
}

impl RunEdit {
    /// A document that is not there yet.
    pub(super) fn create(project: Project, number: RunNumber, props: Props) -> Self {
        Self { project, number, before: None, props, params: None, params_bytes: None }
    }

    /// The document of a live run number; the transaction fails if it is changed by somebody else meanwhile.
    pub async fn load(
        transaction: &Transaction,
        project: Project,
        number: RunNumber,
    ) -> Result<Option<Self>> {
        let key = keys::document(project, number);
        let Some(value) = transaction.get(&key).await? else { return Ok(None) };
        let before = Document::decode(&key, &value)?;
        let props = before.props.clone();
        Ok(Some(Self { project, number, before: Some(before), props, params: None, params_bytes: None }))
    }

    pub fn number(&self) -> RunNumber {
        self.number
    }

    /// The params, to be changed.
    pub async fn params(&mut self, snapshot: &dyn Snapshot) -> Result<&mut Map> {
        if self.params.is_none() {
            let tree = match &self.before {
                Some(document) => read::params_get(snapshot, self.project, self.number, document).await?,
                None => Map::new(),
            };
            self.params = Some((tree.clone(), tree));
        }
        Ok(&mut self.params.as_mut().expect("it was filled above").1)
    }

    /// Changes the params by a message. `Err` if they would be over the limit, with what they would have: then they are as
    /// before.
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
        // It may write over what is there, so only the whole tells.
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

    pub fn tag_add(&mut self, tag: &str) {
        if let Err(place) = self.props.tags.binary_search_by(|known| known.as_str().cmp(tag)) {
            self.props.tags.insert(place, tag.to_owned());
        }
    }

    pub fn tag_remove(&mut self, tag: &str) {
        self.props.tags.retain(|known| known != tag);
    }

    /// Writes what differs; nothing if nothing does.
    pub fn write(self, batch: &mut Batch) {
        let Self { project, number, before, props, params, .. } = self;
        let kept = before.as_ref().map_or_else(Params::none, |document| document.params.clone());
        let params = match params {
            Some((old, new)) if old != new => {
                let rows = |tree| index::params_rows(project, number, tree);
                index::write_difference(batch, &rows(&old), &rows(&new));
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
            project,
            number,
            before.as_ref().map(|document| &document.props),
            Some(&document.props),
        );
        batch.set(keys::document(project, number), document.encode());
    }

    /// Clears the document with all that follows from it. The rows under the run number stay for the sweep.
    pub async fn clear(mut self, snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<()> {
        let tree = self.params(snapshot).await?.clone();
        let rows = index::params_rows(self.project, self.number, &tree);
        index::write_difference(batch, &rows, &index::Rows::new());
        let before = self.before.as_ref().map(|document| &document.props);
        write_links(batch, self.project, self.number, before, None);
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
        rows::put_pieces(batch, range, |piece| keys::params_piece(project, number, piece), &encoded);
        return Params::Pieces;
    }
    if *before == Params::Pieces {
        batch.clear_range(range);
    }
    Params::Inline(encoded)
}

/// Index rows of the props, and the counts of runs per tag and experiment.
fn write_links(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    before: Option<&Props>,
    after: Option<&Props>,
) {
    let rows = |props: Option<&Props>| match props {
        Some(props) => index::props_rows(project, number, props),
        None => index::Rows::new(),
    };
    index::write_difference(batch, &rows(before), &rows(after));
    // As with the index rows: a hidden run is not counted.
    let (before, after) = [before, after].map(|props| props.filter(|props| !props.pending_delete)).into();
    for (props, delta) in [(before, -1), (after, 1)] {
        let Some(props) = props else { continue };
        let other = if delta < 0 { after } else { before };
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
