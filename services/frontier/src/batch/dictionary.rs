//! The series that a producer has defined so far. For validation, it is enough to know their
//! number, and which are bad; names are kept only where JSON envelopes need them.
//!
//! A bad definition keeps its number, because the client counts it too: the log gets an empty
//! definition in its position, and points that refer to it are rejected. Definitions over the
//! limit of a run are not written to the log.
//!
//! A dictionary takes less than 64 KiB, no matter what it contains.

use std::collections::HashMap;

use matyan_proto::{ingest::v1 as pb, limits};

use super::{Problem, values};

/// Number of bad definitions whose problems are kept.
const KEPT_PROBLEMS: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    len: usize,
    bytes: usize,
    /// A bit for each number up to the last bad one.
    bad: Vec<u64>,
    /// The problems of the first bad definitions.
    problems: HashMap<u32, Problem>,
}

impl Dictionary {
    /// Restores the dictionary of a client that reopens a stream. Bad definitions become
    /// empty.
    pub(crate) fn new(series: &mut Vec<pb::SeriesDef>) -> Self {
        let mut dictionary = Self::default();
        dictionary.add_all(series);
        series.truncate(limits::SERIES_PER_RUN);
        dictionary
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number of entries that are in the log.
    fn logged_len(&self) -> usize {
        self.len.min(limits::SERIES_PER_RUN)
    }

    /// Adds the definitions of a batch and prepares the batch for the log. Returns true if
    /// the batch is unchanged.
    pub(super) fn extend(&mut self, batch: &mut pb::IngestionBatch) -> bool {
        let base = self.len;
        let mut unchanged = self.add_all(&mut batch.series);
        if self.len > self.logged_len() && !batch.series.is_empty() {
            let logged_base = base.min(limits::SERIES_PER_RUN);
            batch.series.truncate(limits::SERIES_PER_RUN - logged_base);
            batch.series_base = logged_base as u32;
            unchanged = false;
        }
        unchanged
    }

    /// Returns true if all definitions were valid.
    fn add_all(&mut self, series: &mut [pb::SeriesDef]) -> bool {
        let mut all_good = true;
        for definition in series {
            if !self.add(definition) {
                *definition = pb::SeriesDef::default();
                all_good = false;
            }
        }
        all_good
    }

    fn add(&mut self, definition: &pb::SeriesDef) -> bool {
        let number = self.len;
        self.len += 1;
        if number >= limits::SERIES_PER_RUN {
            return false;
        }
        match self.check(definition) {
            Ok(bytes) => {
                self.bytes += bytes;
                true
            }
            Err(problem) => {
                self.add_bad(number, problem);
                false
            }
        }
    }

    fn add_bad(&mut self, number: usize, problem: Problem) {
        let word = number / u64::BITS as usize;
        if word >= self.bad.len() {
            self.bad.resize(word + 1, 0);
        }
        self.bad[word] |= 1 << (number % u64::BITS as usize);
        if self.problems.len() < KEPT_PROBLEMS {
            self.problems.insert(number as u32, problem);
        }
    }

    fn is_bad(&self, number: u32) -> bool {
        let word = self.bad.get((number / u64::BITS) as usize);
        word.is_some_and(|word| word & (1 << (number % u64::BITS)) != 0)
    }

    /// Whether points may refer to all of these series.
    pub(super) fn has_all(&self, series: &[u32]) -> bool {
        let len = self.logged_len();
        let highest = series.iter().copied().max();
        highest.is_none_or(|highest| (highest as usize) < len)
            && (self.bad.is_empty() || !series.iter().any(|number| self.is_bad(*number)))
    }

    /// The same for a range of series.
    pub(super) fn has_range(&self, first: u32, count: u32) -> bool {
        let first = u64::from(first);
        let end = first + u64::from(count);
        end <= self.logged_len() as u64
            && (self.bad.is_empty() || !(first..end).any(|number| self.is_bad(number as u32)))
    }

    pub(super) fn has(&self, number: u32) -> bool {
        (number as usize) < self.logged_len() && !self.is_bad(number)
    }

    /// Reason why `has` returned false.
    pub(super) fn problem(&self, number: u32) -> Problem {
        if let Some(problem) = self.problems.get(&number) {
            return Problem::new(problem.field, format!("of series {number} {}", problem.reason));
        }
        if self.is_bad(number) {
            let reason = format!(
                "{number} has a bad name, context or dtype: only the first {KEPT_PROBLEMS} of a stream are described"
            );
            return Problem::new("series", reason);
        }
        let reason = if (number as usize) < self.len {
            format!("{number} exceeds the limit of {} series per run", limits::SERIES_PER_RUN)
        } else {
            format!("{number} is not defined: the dictionary has {} entries", self.len)
        };
        Problem::new("series", reason)
    }

    fn check(&self, definition: &pb::SeriesDef) -> Result<usize, Problem> {
        let pb::SeriesDef { name, context, dtype } = definition;
        if name.len() > limits::NAME_BYTES {
            return Err(Problem::too_long("name", name.len(), limits::NAME_BYTES));
        }
        if dtype.len() > limits::DTYPE_BYTES {
            return Err(Problem::too_long("dtype", dtype.len(), limits::DTYPE_BYTES));
        }
        values::check_context(context)?;
        let bytes = name.len() + context.len() + dtype.len();
        if self.bytes + bytes > limits::DICTIONARY_BYTES {
            let reason = format!(
                "does not fit: names and contexts may have at most {} bytes in total",
                limits::DICTIONARY_BYTES
            );
            return Err(Problem::new("series", reason));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_definitions_take_little_memory() {
        let bad = pb::SeriesDef { context: "[".into(), ..Default::default() };
        let dictionary = Dictionary::new(&mut vec![bad; limits::SERIES_PER_RUN]);
        assert_eq!(dictionary.problems.len(), KEPT_PROBLEMS);
        let texts: usize = dictionary.problems.values().map(|problem| problem.reason.capacity()).sum();
        let problems = dictionary.problems.capacity() * size_of::<(u32, Problem)>();
        let bytes = texts + problems + dictionary.bad.capacity() * size_of::<u64>();
        assert!(bytes < 64 << 10, "{bytes}");
    }
}
