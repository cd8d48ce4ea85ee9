//! The dictionary of a producer: its definitions, and for each the series that it was resolved
//! to. The series numbers are a separate column, because every point looks one up.

use matyan_model::{
    ids::ProducerId,
    keys,
    producer::{Definition, dictionary_get, dictionary_pages, dictionary_put, dictionary_truncate},
};
use matyan_proto::{ingest::v1::SeriesDef, limits};
use matyan_store::{Batch, Commit};

use super::{
    ApplyFailure,
    decode_queue::DecodedRecord,
    step::{Step, TRANSACTION_BYTES},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary {
    pub(super) definitions: Vec<Definition>,
    /// Series number, `UNRESOLVED` or `REFUSED`, by definition.
    pub(super) numbers: Vec<u32>,
    /// Number of the type name, by definition; valid only if the series number is resolved.
    pub(super) dtypes: Vec<u16>,
}

/// Not looked up yet.
pub(super) const UNRESOLVED: u32 = u32::MAX;
/// The definition is invalid, so it has no series.
pub(super) const REFUSED: u32 = u32::MAX - 1;

impl Dictionary {
    fn new(definitions: Vec<Definition>) -> Self {
        let (numbers, dtypes) = (vec![UNRESOLVED; definitions.len()], vec![0; definitions.len()]);
        Self { definitions, numbers, dtypes }
    }

    fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Truncates the dictionary to `first` definitions, then appends.
    fn extend_from(&mut self, first: usize, definitions: Vec<Definition>) {
        self.definitions.truncate(first);
        self.definitions.extend(definitions);
        self.numbers.truncate(first);
        self.numbers.resize(self.definitions.len(), UNRESOLVED);
        self.dtypes.truncate(first);
        self.dtypes.resize(self.definitions.len(), 0);
    }

    /// Discards the resolved series, because the run was replaced by a new one.
    fn unresolve(&mut self) {
        self.numbers.fill(UNRESOLVED);
    }

    pub(super) fn bytes(&self) -> usize {
        let texts = |definition: &Definition| {
            definition.name.len()
                + definition.context.len()
                + definition.dtype.len()
                + size_of::<Definition>()
        };
        self.definitions.iter().map(texts).sum::<usize>() + self.numbers.len() * 6
    }
}

impl Step<'_> {
    /// Stores the definitions in a record, if its producer has a persistent dictionary. A
    /// record whose definitions leave a gap is ignored here, and its points refer to
    /// unknown series.
    pub(super) async fn define(&mut self, record: &DecodedRecord) -> Result<(), ApplyFailure> {
        let (Ok(batch), Some(sent)) = (&record.batch, &record.entry.sent) else { return Ok(()) };
        if batch.has_own_dictionary || batch.items.series.is_empty() {
            return Ok(());
        }
        let mut dictionary = self.take_dictionary(record).await?;
        let first = batch.items.series_base;
        if first as usize <= dictionary.len() {
            let definitions: Vec<Definition> = batch.items.series.iter().map(definition).collect();
            self.store_definitions(sent.producer, first, &definitions).await?;
            dictionary.extend_from(first as usize, definitions);
        }
        self.put_dictionary_back(record, dictionary);
        Ok(())
    }

    /// Stores definitions, in separate transactions before the items if there are many.
    /// That is safe, because they have no effect until a point refers to them, and writing
    /// them twice is idempotent.
    async fn store_definitions(
        &mut self,
        producer: ProducerId,
        first: u32,
        definitions: &[Definition],
    ) -> Result<(), ApplyFailure> {
        let (project, id) = (self.run.project, &self.run.id);
        let mut batch = Batch::buffered();
        dictionary_truncate(&mut batch, project, id, producer, first);
        let mut rest = definitions;
        for (page, count) in dictionary_pages(first, definitions) {
            let (own, remaining) = rest.split_at(count);
            dictionary_put(&mut batch, project, id, producer, page, own);
            rest = remaining;
            // Leave room for at least one item in the last transaction, or the
            // record would never make progress.
            if batch.bytes() >= TRANSACTION_BYTES {
                self.commit_ahead(std::mem::replace(&mut batch, Batch::buffered())).await?;
            }
        }
        self.bytes += batch.bytes();
        self.transaction.batch().mutations.append(&mut batch.mutations);
        Ok(())
    }

    async fn commit_ahead(&self, mut batch: Batch) -> Result<(), ApplyFailure> {
        batch.expect(keys::cursor(self.run.project, &self.run.id), self.state.cursor_value.clone());
        match self.deps.store.commit(batch).await? {
            Commit::Done { .. } => Ok(()),
            Commit::Conflict => Err(ApplyFailure::Conflict),
        }
    }

    /// Takes out the dictionary that a record's series numbers refer to, loading it if
    /// necessary.
    pub(super) async fn take_dictionary(
        &mut self,
        record: &DecodedRecord,
    ) -> Result<Dictionary, ApplyFailure> {
        let batch = record.batch.as_ref().expect("only records with a batch have points");
        let Some(sent) = record.entry.sent.filter(|_| !batch.has_own_dictionary) else {
            return Ok(Dictionary::new(batch.items.series.iter().map(definition).collect()));
        };
        let producer = self.state.producers.entry(sent.producer).or_default();
        if let Some(dictionary) = producer.dictionary.take() {
            return Ok(dictionary);
        }
        let (project, id) = (self.run.project, &self.run.id);
        let stored = dictionary_get(self.transaction.unchecked(), project, id, sent.producer).await?;
        Ok(Dictionary::new(stored))
    }

    pub(super) fn put_dictionary_back(&mut self, record: &DecodedRecord, dictionary: Dictionary) {
        let is_own = record.batch.as_ref().is_ok_and(|batch| batch.has_own_dictionary);
        if let Some(sent) = record.entry.sent.filter(|_| !is_own) {
            self.state.producers.entry(sent.producer).or_default().dictionary = Some(dictionary);
        }
    }

    /// Discards all resolved series numbers: definitions outlive a run, but their series do
    /// not.
    pub(super) fn unresolve(&mut self) {
        let dictionaries =
            self.state.producers.values_mut().filter_map(|producer| producer.dictionary.as_mut());
        dictionaries.for_each(Dictionary::unresolve);
    }
}

/// Truncates strings that are too long to just above their limits: they then fit in a row, and
/// are still rejected later.
fn definition(series: &SeriesDef) -> Definition {
    let cut = |text: &str, limit: usize| text[..text.ceil_char_boundary(limit + 1)].to_owned();
    Definition {
        name: cut(&series.name, limits::NAME_BYTES),
        context: cut(&series.context, limits::CONTEXT_BYTES),
        dtype: cut(&series.dtype, limits::DTYPE_BYTES),
    }
}
