//! What the series numbers of a batch mean: definitions, and for each the series that it was found to name. The numbers lie
//! in a column of their own, because every point asks for one.

use matyan_model::producer::Definition;
use matyan_proto::ingest::v1::SeriesDef;

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
    pub(super) fn new(definitions: Vec<Definition>) -> Self {
        let (numbers, dtypes) = (vec![UNRESOLVED; definitions.len()], vec![0; definitions.len()]);
        Self { definitions, numbers, dtypes }
    }

    pub(super) fn len(&self) -> usize {
        self.definitions.len()
    }

    /// Cuts the dictionary to `first` definitions, and adds.
    pub(super) fn extend_from(&mut self, first: usize, definitions: Vec<Definition>) {
        self.definitions.truncate(first);
        self.definitions.extend(definitions);
        self.numbers.truncate(first);
        self.numbers.resize(self.definitions.len(), UNRESOLVED);
        self.dtypes.truncate(first);
        self.dtypes.resize(self.definitions.len(), 0);
    }

    /// Forgets which series the definitions name: the run is another.
    pub(super) fn unresolve(&mut self) {
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

pub(super) fn definition(series: &SeriesDef) -> Definition {
    Definition { name: series.name.clone(), context: series.context.clone(), dtype: series.dtype.clone() }
}
