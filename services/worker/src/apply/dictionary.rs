//! The dictionary of a producer: its definitions, and for each the series that it was resolved
//! to. The series numbers are a separate column, because every point looks one up.

use matyan_model::producer::Definition;
use matyan_proto::{ingest::v1::SeriesDef, limits};

#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary {
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
    pub(super) fn new(definitions: Vec<Definition>) -> Self {
        let (numbers, dtypes) = (vec![UNRESOLVED; definitions.len()], vec![0; definitions.len()]);
        Self { definitions, numbers, dtypes }
    }

    pub(super) fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Number of definitions that are equal to those from `first` on.
    pub(super) fn count_equal(&self, first: usize, definitions: &[Definition]) -> usize {
        let pairs = self.definitions[first..].iter().zip(definitions);
        pairs.take_while(|(known, given)| known == given).count()
    }

    /// Truncates the dictionary to `first` definitions, then appends.
    pub(super) fn extend_from(&mut self, first: usize, definitions: Vec<Definition>) {
        self.definitions.truncate(first);
        self.definitions.extend(definitions);
        self.numbers.truncate(first);
        self.numbers.resize(self.definitions.len(), UNRESOLVED);
        self.dtypes.truncate(first);
        self.dtypes.resize(self.definitions.len(), 0);
    }

    pub(super) fn definition(&self, reference: u32) -> Option<&Definition> {
        self.definitions.get(reference as usize)
    }

    /// Series number of a resolved definition.
    pub(super) fn number(&self, reference: u32) -> Option<u32> {
        self.numbers.get(reference as usize).copied().filter(|number| *number < REFUSED)
    }

    /// Number of the type name of a resolved definition.
    pub(super) fn dtype(&self, reference: u32) -> u16 {
        self.dtypes[reference as usize]
    }

    /// Returns a definition that is not looked up yet, and counts it as refused until it is
    /// resolved, so that it is returned only once.
    pub(super) fn begin_lookup(&mut self, reference: u32) -> Option<&Definition> {
        let number = self.numbers.get_mut(reference as usize).filter(|number| **number == UNRESOLVED)?;
        *number = REFUSED;
        self.definitions.get(reference as usize)
    }

    pub(super) fn resolve(&mut self, reference: u32, number: u32, dtype: u16) {
        self.numbers[reference as usize] = number;
        self.dtypes[reference as usize] = dtype;
    }

    /// Discards the resolved series, because the run was replaced by a new one.
    pub(super) fn unresolve(&mut self) {
        self.numbers.fill(UNRESOLVED);
    }

    /// Approximate memory use.
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

/// Definitions of a message. Strings that are too long are truncated to just above their limits:
/// they then fit in a row, and are still rejected later.
pub(super) fn definitions(series: &[SeriesDef]) -> Vec<Definition> {
    let cut = |text: &str, limit: usize| text[..text.ceil_char_boundary(limit + 1)].to_owned();
    let definition = |series: &SeriesDef| Definition {
        name: cut(&series.name, limits::NAME_BYTES),
        context: cut(&series.context, limits::CONTEXT_BYTES),
        dtype: cut(&series.dtype, limits::DTYPE_BYTES),
    };
    series.iter().map(definition).collect()
}
