//! The dictionary of a producer: its definitions, and for each the series that it was resolved
//! to. The series numbers are a separate column, because every point looks one up.

use matyan_model::producer::Definition;
use matyan_proto::{ingest::v1::SeriesDef, limits};

#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary {
    definitions: Vec<Definition>,
    /// Series number, `UNRESOLVED` or `REFUSED`, by definition.
    numbers: Vec<u32>,
    /// Number of the type name, by definition; valid only if the series number is resolved.
    dtypes: Vec<u16>,
}

/// Not looked up yet.
const UNRESOLVED: u32 = u32::MAX;
/// The definition is invalid, so it has no series.
const REFUSED: u32 = u32::MAX - 1;

impl Dictionary {
    pub(crate) fn new(definitions: Vec<Definition>) -> Self {
        let numbers = vec![UNRESOLVED; definitions.len()];
        let dtypes = vec![0; definitions.len()];
        Self { definitions, numbers, dtypes }
    }

    pub(crate) fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Number of definitions that are equal to the known definitions from `first` on.
    pub(crate) fn count_equal(&self, first: usize, definitions: &[Definition]) -> usize {
        let pairs = self.definitions[first..].iter().zip(definitions);
        pairs.take_while(|(known, given)| known == given).count()
    }

    /// Truncates the dictionary to `first` definitions, then appends.
    pub(crate) fn extend_from(&mut self, first: usize, definitions: Vec<Definition>) {
        self.definitions.truncate(first);
        self.definitions.extend(definitions);
        self.numbers.truncate(first);
        self.numbers.resize(self.definitions.len(), UNRESOLVED);
        self.dtypes.truncate(first);
        self.dtypes.resize(self.definitions.len(), 0);
    }

    pub(crate) fn definition(&self, reference: u32) -> Option<&Definition> {
        self.definitions.get(reference as usize)
    }

    /// Series number of a resolved definition.
    pub(crate) fn number(&self, reference: u32) -> Option<u32> {
        self.numbers.get(reference as usize).copied().filter(|number| *number < REFUSED)
    }

    /// Whether all definitions of a range exist, and were looked up.
    pub(crate) fn is_looked_up(&self, first: u32, count: u32) -> bool {
        self.numbers_of(first, count).is_some_and(|numbers| !numbers.contains(&UNRESOLVED))
    }

    /// Series numbers and numbers of the type names of a range of definitions; `None` unless all of them are
    /// resolved.
    pub(crate) fn resolved(&self, first: u32, count: u32) -> Option<(&[u32], &[u16])> {
        let numbers = self.numbers_of(first, count)?;
        let first = first as usize;
        let dtypes = self.dtypes.get(first..first + numbers.len())?;
        numbers.iter().all(|number| *number < REFUSED).then_some((numbers, dtypes))
    }

    fn numbers_of(&self, first: u32, count: u32) -> Option<&[u32]> {
        let first = first as usize;
        self.numbers.get(first..first + count as usize)
    }

    /// Number of the type name of a resolved definition.
    pub(crate) fn dtype(&self, reference: u32) -> u16 {
        self.dtypes[reference as usize]
    }

    /// Returns a definition that is not looked up yet, and counts it as refused until it is
    /// resolved, so that it is returned only once.
    pub(crate) fn start_lookup(&mut self, reference: u32) -> Option<&Definition> {
        let number = self.numbers.get_mut(reference as usize).filter(|number| **number == UNRESOLVED)?;
        *number = REFUSED;
        self.definitions.get(reference as usize)
    }

    pub(crate) fn resolve(&mut self, reference: u32, number: u32, dtype: u16) {
        self.numbers[reference as usize] = number;
        self.dtypes[reference as usize] = dtype;
    }

    /// Discards the resolved series, because the run was replaced by a new one.
    pub(crate) fn unresolve(&mut self) {
        self.numbers.fill(UNRESOLVED);
    }

    /// Approximate memory use.
    pub(crate) fn bytes(&self) -> usize {
        let mut bytes = self.numbers.len() * 6;
        for definition in &self.definitions {
            bytes += size_of::<Definition>();
            bytes += definition.name.len() + definition.context.len() + definition.dtype.len();
        }
        bytes
    }
}

/// Definitions of a message. Strings that are too long are truncated to just above their limits, so
/// that they fit in a row and are still rejected later.
pub(crate) fn definitions(series: &[SeriesDef]) -> Vec<Definition> {
    let mut definitions = Vec::with_capacity(series.len());
    for series in series {
        definitions.push(Definition {
            name: truncated(&series.name, limits::NAME_BYTES),
            context: truncated(&series.context, limits::CONTEXT_BYTES),
            dtype: truncated(&series.dtype, limits::DTYPE_BYTES),
        });
    }
    definitions
}

fn truncated(text: &str, limit: usize) -> String {
    text[..text.ceil_char_boundary(limit + 1)].to_owned()
}
