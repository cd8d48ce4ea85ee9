//! The dictionary of a spool: definitions of series, which records refer to by number.
//!
//! The file `series` is a sequence of entries: length of the definition (4), CRC32C of it (4), the
//! encoded `SeriesDef`. An entry is written before the first record that refers to it, so a
//! torn entry at the end is one to which nothing refers. Entries are counted, so a damaged entry
//! keeps its number, under a name that says so.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, Write as _},
    mem,
    path::Path,
    sync::Mutex,
};

use matyan_proto::{ingest::v1::SeriesDef, limits};
use prost::Message as _;

use crate::locks::lock;

/// Name of the file.
const FILE: &str = "series";
const HEAD_BYTES: usize = 8;

/// Definitions by number.
pub(crate) struct Dictionary(Mutex<Definitions>);

struct Definitions {
    entries: Vec<SeriesDef>,
    /// Numbers of definitions, by name, context and type.
    numbers: HashMap<(String, String, String), u32>,
    /// Numbers of step counters, by name and context: values of different types share steps.
    counters: HashMap<(String, String), u32>,
    bytes: usize,
    /// Encoded entries that are not in the file yet.
    unwritten: Vec<u8>,
}

/// Numbers of a series in one spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesNumbers {
    pub(crate) series: u32,
    pub(crate) counter: u32,
}

/// The reason why a series gets no number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DictionaryError {
    #[error("a run cannot have more series: points of further series are dropped")]
    Full,
    #[error("failed to write the definition of a series: {0}")]
    Write(#[from] io::Error),
}

impl Dictionary {
    /// Starts an empty dictionary. Its file is created by the first definition.
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(Definitions::new(Vec::new())))
    }

    /// Reads a dictionary up to the first entry that is incomplete. Returns it with the numbers of the
    /// series whose definition is damaged.
    pub(crate) fn open(directory: &Path) -> io::Result<(Self, Vec<u32>)> {
        let path = directory.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Self::empty(), Vec::new())),
            Err(error) => return Err(error),
        };
        let mut rest = bytes.as_slice();
        let mut entries = Vec::new();
        let mut damaged = Vec::new();
        while let Some(definition) = read_entry(&mut rest) {
            let number = entries.len() as u32;
            entries.push(definition.unwrap_or_else(|| {
                damaged.push(number);
                replacement(number)
            }));
        }
        OpenOptions::new().append(true).open(path)?.set_len((bytes.len() - rest.len()) as u64)?;
        Ok((Self(Mutex::new(Definitions::new(entries))), damaged))
    }

    /// Returns the numbers of a series. If it is new, it is defined in the file of a directory at
    /// once, or by `write` if there is none.
    pub(crate) fn define(
        &self,
        directory: Option<&Path>,
        name: &str,
        context: &str,
        dtype: &str,
    ) -> Result<SeriesNumbers, DictionaryError> {
        let mut definitions = lock(&self.0);
        let definitions = &mut *definitions;
        let key = (name.to_owned(), context.to_owned(), dtype.to_owned());
        let series = match definitions.numbers.get(&key) {
            Some(series) => *series,
            None => definitions.append(directory, key)?,
        };
        let next = definitions.counters.len() as u32;
        let counter = *definitions.counters.entry((name.to_owned(), context.to_owned())).or_insert(next);
        Ok(SeriesNumbers { series, counter })
    }

    /// Writes the definitions that are not in the file yet. Callers that define others do not wait.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = mem::take(&mut lock(&self.0).unwritten);
        if new.is_empty() {
            return Ok(());
        }
        let written = append_to_file(directory, &new);
        if written.is_err() {
            lock(&self.0).unwritten.splice(..0, new);
        }
        written
    }

    pub(crate) fn len(&self) -> u32 {
        lock(&self.0).entries.len() as u32
    }

    /// Returns the number of definitions, and the end of a range that starts at `from`, is not empty
    /// unless it must be, and has at most about `most_bytes`.
    pub(crate) fn end_of_range(&self, from: u32, most_bytes: usize) -> (u32, u32) {
        let definitions = lock(&self.0);
        let all = definitions.entries.len() as u32;
        let mut bytes = 0;
        let rest = definitions.entries.get(from as usize..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|entry| {
                bytes += entry.encoded_len();
                bytes > most_bytes
            })
            .map_or(all, |at| from + at.max(1) as u32);
        (all, end)
    }

    /// Returns the definitions with these numbers, as far as they exist.
    pub(crate) fn range(&self, from: u32, to: u32) -> Vec<SeriesDef> {
        let definitions = lock(&self.0);
        let to = definitions.entries.len().min(to as usize);
        definitions.entries.get(from as usize..to).unwrap_or_default().to_vec()
    }
}

impl Definitions {
    fn new(entries: Vec<SeriesDef>) -> Self {
        let numbers = HashMap::new();
        let counters = HashMap::new();
        let mut definitions =
            Self { entries: Vec::new(), numbers, counters, bytes: 0, unwritten: Vec::new() };
        for entry in entries {
            let key = (entry.name.clone(), entry.context.clone(), entry.dtype.clone());
            definitions.insert(key, entry);
        }
        definitions
    }

    fn append(
        &mut self,
        directory: Option<&Path>,
        key: (String, String, String),
    ) -> Result<u32, DictionaryError> {
        let (name, context, dtype) = key.clone();
        let bytes = self.bytes + name.len() + context.len() + dtype.len();
        if self.entries.len() >= limits::SERIES_PER_RUN || bytes > limits::DICTIONARY_BYTES {
            return Err(DictionaryError::Full);
        }
        let entry = SeriesDef { name, context, dtype };
        let encoded = encode_entry(&entry);
        match directory {
            Some(directory) => append_to_file(directory, &encoded)?,
            None => self.unwritten.extend(encoded),
        }
        Ok(self.insert(key, entry))
    }

    fn insert(&mut self, key: (String, String, String), entry: SeriesDef) -> u32 {
        self.bytes += key.0.len() + key.1.len() + key.2.len();
        let number = self.entries.len() as u32;
        self.entries.push(entry);
        self.numbers.insert(key, number);
        number
    }
}

/// Appends entries to the file, which is not kept open: a script may have thousands of runs, and few
/// descriptors.
fn append_to_file(directory: &Path, entries: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(directory.join(FILE))?;
    let end = file.metadata()?.len();
    if let Err(error) = file.write_all(entries) {
        // Half of an entry would hide all that follow.
        file.set_len(end)?;
        return Err(error);
    }
    Ok(())
}

fn encode_entry(entry: &SeriesDef) -> Vec<u8> {
    let definition = entry.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + definition.len());
    bytes.extend((definition.len() as u32).to_le_bytes());
    bytes.extend(crc32c::crc32c(&definition).to_le_bytes());
    bytes.extend(definition);
    bytes
}

/// Takes the next entry. Its definition is `None` if it is damaged.
fn read_entry(rest: &mut &[u8]) -> Option<Option<SeriesDef>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (crc, after) = after.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    // After a power failure, a torn entry may be zeros.
    let (definition, after) = after.split_at_checked(length).filter(|_| length > 0)?;
    *rest = after;
    let is_intact = crc32c::crc32c(definition) == u32::from_le_bytes(*crc);
    Some(SeriesDef::decode(definition).ok().filter(|_| is_intact))
}

/// The definition of a series whose own is damaged, so that its points are stored all the same.
fn replacement(number: u32) -> SeriesDef {
    SeriesDef { name: format!("damaged_series_{number}"), dtype: "float".to_owned(), ..SeriesDef::default() }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn definitions_are_numbered_once_and_found_again() {
        let directory = TempDir::new().unwrap();
        let dictionary = Dictionary::empty();
        let numbers = |dictionary: &Dictionary, name, dtype| {
            dictionary.define(Some(directory.path()), name, "", dtype).unwrap()
        };
        assert_eq!(numbers(&dictionary, "a", "float"), SeriesNumbers { series: 0, counter: 0 });
        assert_eq!(numbers(&dictionary, "b", "float"), SeriesNumbers { series: 1, counter: 1 });
        assert_eq!(numbers(&dictionary, "a", "int"), SeriesNumbers { series: 2, counter: 0 });
        assert_eq!(numbers(&dictionary, "a", "float"), SeriesNumbers { series: 0, counter: 0 });
        let (found, damaged) = Dictionary::open(directory.path()).unwrap();
        assert_eq!((found.range(0, 3), damaged), (dictionary.range(0, 3), Vec::new()));
        assert_eq!(numbers(&found, "b", "float").series, 1);
    }

    #[test]
    fn definitions_without_a_directory_are_in_the_file_after_a_write_that_succeeds() {
        let directory = TempDir::new().unwrap();
        let dictionary = Dictionary::empty();
        dictionary.define(None, "a", "", "float").unwrap();
        dictionary.write(&directory.path().join("missing")).unwrap_err();
        dictionary.define(None, "b", "", "float").unwrap();
        assert!(!directory.path().join(FILE).exists());
        for _ in 0..2 {
            dictionary.write(directory.path()).unwrap();
            let (found, _) = Dictionary::open(directory.path()).unwrap();
            assert_eq!(found.range(0, found.len()), dictionary.range(0, 2));
        }
    }

    #[test]
    fn ranges_are_limited_but_not_empty() {
        let dictionary = Dictionary::empty();
        assert_eq!(dictionary.end_of_range(0, 10), (0, 0));
        for name in ["long".repeat(10), "a".into(), "b".into()] {
            dictionary.define(None, &name, "", "").unwrap();
        }
        assert_eq!(dictionary.end_of_range(0, 10), (3, 1));
        assert_eq!(dictionary.end_of_range(1, 3), (3, 2));
        assert_eq!(dictionary.end_of_range(1, 6), (3, 3));
        assert_eq!(dictionary.end_of_range(3, 6), (3, 3));
    }

    #[test]
    fn a_torn_entry_is_cut_off() {
        let directory = TempDir::new().unwrap();
        Dictionary::empty().define(Some(directory.path()), "a", "", "float").unwrap();
        let path = directory.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for torn in [[9, 0, 0, 0, 1].as_slice(), &[0; 32]] {
            std::fs::write(&path, [bytes.as_slice(), torn].concat()).unwrap();
            let (found, damaged) = Dictionary::open(directory.path()).unwrap();
            assert_eq!((found.len(), damaged), (1, Vec::new()));
        }
        let (found, _) = Dictionary::open(directory.path()).unwrap();
        found.define(Some(directory.path()), "b", "", "float").unwrap();
        assert_eq!(Dictionary::open(directory.path()).unwrap().0.len(), 2);
    }

    #[test]
    fn a_damaged_entry_keeps_its_number() {
        let directory = TempDir::new().unwrap();
        let dictionary = Dictionary::empty();
        for name in ["a", "b", "c"] {
            dictionary.define(Some(directory.path()), name, "", "float").unwrap();
        }
        let path = directory.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let second = bytes.iter().position(|byte| *byte == b'b').unwrap();
        bytes[second] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (found, damaged) = Dictionary::open(directory.path()).unwrap();
        assert_eq!(damaged, [1]);
        let names: Vec<_> = found.range(0, 3).into_iter().map(|series| series.name).collect();
        assert_eq!(names, ["a", "damaged_series_1", "c"]);
    }
}
