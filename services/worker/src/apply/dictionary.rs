//! What the series numbers of a batch mean: definitions, and for each the series that it was found to name. The numbers lie
//! in a column of their own, because every point asks for one.

use matyan_model::{
    ids::ProducerId,
    keys,
    producer::{Definition, dictionary_cut, dictionary_get, dictionary_pages, dictionary_put},
};
use matyan_proto::{ingest::v1::SeriesDef, limits};
use matyan_store::{Batch, Commit};

use super::{
    Failure,
    decoded::Record,
    step::{Step, TRANSACTION_BYTES},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary {
    pub(super) definitions: Vec<Definition>,
    /// Series number, `UNRESOLVED` or `REFUSED`, by definition.
    pub(super) numbers: Vec<u32>,
    /// Number of the type name, by definition; good where the number is.
    pub(super) dtypes: Vec<u16>,
}

/// Nobody has looked yet.
pub(super) const UNRESOLVED: u32 = u32::MAX;
/// No series can be made of it.
pub(super) const REFUSED: u32 = u32::MAX - 1;

impl Dictionary {
    fn new(definitions: Vec<Definition>) -> Self {
        let (numbers, dtypes) = (vec![UNRESOLVED; definitions.len()], vec![0; definitions.len()]);
        Self { definitions, numbers, dtypes }
    }

    fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Cuts the dictionary to `first` definitions, and adds.
    fn extend_from(&mut self, first: usize, definitions: Vec<Definition>) {
        self.definitions.truncate(first);
        self.definitions.extend(definitions);
        self.numbers.truncate(first);
        self.numbers.resize(self.definitions.len(), UNRESOLVED);
        self.dtypes.truncate(first);
        self.dtypes.resize(self.definitions.len(), 0);
    }

    /// Forgets which series the definitions name: the run is another.
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
    /// Stores the definitions that a record brings, if its producer has a dictionary of its own. A record whose definitions
    /// leave a gap brings none: its points refer to what nobody knows.
    pub(super) async fn define(&mut self, record: &Record) -> Result<(), Failure> {
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

    /// Many definitions get transactions of their own, ahead of the items: they change nothing until a point refers to them,
    /// and writing them again changes nothing either.
    async fn store_definitions(
        &mut self,
        producer: ProducerId,
        first: u32,
        definitions: &[Definition],
    ) -> Result<(), Failure> {
        let (project, id) = (self.run.project, &self.run.id);
        let mut batch = Batch::buffered();
        dictionary_cut(&mut batch, project, id, producer, first);
        let mut rest = definitions;
        for (page, count) in dictionary_pages(first, definitions) {
            let (own, behind) = rest.split_at(count);
            dictionary_put(&mut batch, project, id, producer, page, own);
            rest = behind;
            // What is left has room beside it for an item, or the record would never get on.
            if batch.bytes() >= TRANSACTION_BYTES {
                self.commit_ahead(std::mem::replace(&mut batch, Batch::buffered())).await?;
            }
        }
        self.bytes += batch.bytes();
        self.transaction.batch().mutations.append(&mut batch.mutations);
        Ok(())
    }

    async fn commit_ahead(&self, mut batch: Batch) -> Result<(), Failure> {
        batch.expect(keys::cursor(self.run.project, &self.run.id), self.state.cursor_value.clone());
        match self.deps.store.commit(batch).await? {
            Commit::Done { .. } => Ok(()),
            Commit::Conflict => Err(Failure::Conflict),
        }
    }

    /// The dictionary that the numbers of a record mean.
    pub(super) async fn take_dictionary(&mut self, record: &Record) -> Result<Dictionary, Failure> {
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

    pub(super) fn put_dictionary_back(&mut self, record: &Record, dictionary: Dictionary) {
        let is_own = record.batch.as_ref().is_ok_and(|batch| batch.has_own_dictionary);
        if let Some(sent) = record.entry.sent.filter(|_| !is_own) {
            self.state.producers.entry(sent.producer).or_default().dictionary = Some(dictionary);
        }
    }

    /// Definitions outlive a run, and the numbers that they were resolved to do not.
    pub(super) fn unresolve(&mut self) {
        let dictionaries =
            self.state.producers.values_mut().filter_map(|producer| producer.dictionary.as_mut());
        dictionaries.for_each(Dictionary::unresolve);
    }
}

/// A definition over the limits is cut to just above them: it fits a row, and no series is made of it.
fn definition(series: &SeriesDef) -> Definition {
    let cut = |text: &str, limit: usize| text[..text.ceil_char_boundary(limit + 1)].to_owned();
    Definition {
        name: cut(&series.name, limits::NAME_BYTES),
        context: cut(&series.context, limits::CONTEXT_BYTES),
        dtype: cut(&series.dtype, limits::DTYPE_BYTES),
    }
}
