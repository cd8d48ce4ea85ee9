//! Takes the params of runs for a cohort.
//!
//! Format of a row of paths: the byte 1; the number of paths as varint; then for each path, the number of its columns as
//! varint, the number of its keys as varint, and the keys as texts.

use std::{borrow::Cow, collections::HashMap};

use matyan_store::{Batch, Error, Key, Result, Snapshot};

use crate::{
    cohort::CohortSource,
    ids::{CohortNumber, Project, RunNumber},
    index::{EncodedParams, KEY_END, indexed_params},
    keys,
    params::{IndexedParam, encode_columns},
    run::{Document, Params, params_get, params_get_bytes, runs_get},
    series::wire::{FormatError, Input, put_text, put_varint},
};

const FORMAT: u8 = 1;

/// Size in memory above which a cohort takes no more runs. The params of one more run may be added to it: indexes have up to
/// a megabyte of them.
const MAX_BYTES: usize = 32 << 20;
/// Approximate memory of a path, without its values.
const PATH_BYTES: usize = 128;
/// Size of the columns that one transaction writes, and of the row with their paths.
const BATCH_BYTES: usize = 1 << 20;
const PATHS_BYTES: usize = 64 << 10;
/// Documents read from one snapshot.
const DOCUMENTS: usize = 32;

/// A param on its way to its columns.
struct PathValues {
    path: Vec<u8>,
    /// With the positions of their runs.
    values: Vec<(usize, IndexedParam<'static>)>,
}

/// Params of a cohort on their way from the documents to its columns. They have limited memory, and no row is written twice, so
/// a cohort takes only the first runs, whose params fit.
pub struct ParamValues<'c> {
    project: Project,
    cohort: CohortNumber,
    /// In the order of the cohort.
    numbers: &'c [RunNumber],
    /// Position of the run to be read.
    run: usize,
    params: Vec<PathValues>,
    /// The places of the params by their paths.
    places: HashMap<Vec<u8>, usize>,
    /// Number of params that are written.
    written: usize,
    bytes: usize,
    max_bytes: usize,
    /// The part of the paths that is written next.
    part: u32,
    has_rows: bool,
    damaged: Vec<RunNumber>,
}

impl<'c> ParamValues<'c> {
    /// `numbers` are the runs that the cohort was created with.
    pub fn new(project: Project, cohort: CohortNumber, numbers: &'c [RunNumber]) -> Self {
        Self {
            project,
            cohort,
            numbers,
            run: 0,
            params: Vec::new(),
            places: HashMap::new(),
            written: 0,
            bytes: 0,
            max_bytes: MAX_BYTES,
            part: 0,
            has_rows: false,
            damaged: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    async fn read_run(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RunNumber,
        document: &Document,
    ) -> Result<()> {
        let bytes = params_get_bytes(snapshot, self.project, number, document).await?;
        // Runs of a project mostly have the same params, in the same order.
        let mut next = 0;
        if let Some(encoded) = EncodedParams::read(&bytes) {
            encoded.visit(&mut |path, param| next = self.add(next, path, param) + 1);
            return Ok(());
        }
        let tree = params_get(snapshot, self.project, number, document).await?;
        let mut path_key = Vec::new();
        indexed_params(&tree, &mut |path, param| {
            path_key.clear();
            for key in path {
                path_key.extend_from_slice(key.as_bytes());
                path_key.push(KEY_END);
            }
            next = self.add(next, &path_key, param) + 1;
        });
        Ok(())
    }

    /// Adds a value of the current run, and returns the place of its param, which may be `guess`.
    fn add(&mut self, guess: usize, path: &[u8], param: IndexedParam<'_>) -> usize {
        self.bytes += size_of::<(usize, IndexedParam<'static>)>() + param.text_bytes();
        let value = (self.run, param.into_owned());
        let known = match self.params.get(guess) {
            Some(param) if param.path == path => Some(guess),
            _ => self.places.get(path).copied(),
        };
        if let Some(place) = known {
            self.params[place].values.push(value);
            return place;
        }
        self.bytes += PATH_BYTES + path.len();
        let place = self.params.len();
        self.places.insert(path.to_vec(), place);
        self.params.push(PathValues { path: path.to_vec(), values: vec![value] });
        place
    }
}

impl CohortSource for ParamValues<'_> {
    /// Reads some documents.
    async fn read(&mut self, snapshot: &dyn Snapshot) -> Result<bool> {
        let all = self.numbers;
        let left = &all[self.run..];
        if left.is_empty() || self.has_rows || self.is_full() {
            return Ok(false);
        }
        let numbers = &left[..left.len().min(DOCUMENTS)];
        let page = runs_get(snapshot, self.project, numbers).await?;
        self.damaged.extend(page.damaged);
        let mut runs = page.runs.into_iter().peekable();
        for number in numbers {
            if let Some((_, document)) = runs.next_if(|(found, _)| found == number) {
                match self.read_run(snapshot, *number, &document).await {
                    Ok(()) => {}
                    Err(Error::Corrupt { .. }) => self.damaged.push(*number),
                    Err(error) => return Err(error),
                }
                // Large params take long to read, and a snapshot lives for seconds.
                if document.params == Params::Pieces {
                    self.run += 1;
                    break;
                }
            }
            self.run += 1;
            if self.is_full() {
                break;
            }
        }
        Ok(true)
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes
    }

    fn write(&mut self, batch: &mut Batch) -> bool {
        self.has_rows = true;
        let mut written = 0;
        let mut count = 0_u64;
        let mut listed = Vec::new();
        while written < BATCH_BYTES
            && listed.len() < PATHS_BYTES
            && let Some(param) = self.params.get_mut(self.written)
        {
            let path = path_of(&param.path);
            let columns = encode_columns(self.run, &std::mem::take(&mut param.values));
            put_path(&mut listed, &path, columns.len());
            count += 1;
            for (column, part) in columns.into_iter().zip(0..) {
                let key = keys::param_column(self.project, &path, self.cohort, part);
                written += key.len() + column.len() + PATH_BYTES;
                batch.set(key, column);
            }
            self.written += 1;
        }
        if count > 0 {
            let mut row = vec![FORMAT];
            put_varint(&mut row, count);
            row.extend(listed);
            batch.set(keys::param_cohort_paths(self.project, self.cohort, self.part), row);
            self.part += 1;
        }
        let is_done = self.written == self.params.len();
        if is_done {
            self.bytes = 0;
        }
        is_done
    }

    fn runs(&self) -> usize {
        self.run
    }

    fn is_complete(&self) -> bool {
        self.run == self.numbers.len()
    }

    fn damaged(&self) -> &[RunNumber] {
        &self.damaged
    }
}

/// The keys of a path in memory.
fn path_of(path_key: &[u8]) -> Vec<Cow<'_, str>> {
    let path = path_key.strip_suffix(&[KEY_END]).unwrap_or(path_key);
    path.split(|byte| *byte == KEY_END).map(String::from_utf8_lossy).collect()
}

fn put_path(out: &mut Vec<u8>, path: &[Cow<'_, str>], columns: usize) {
    put_varint(out, columns as u64);
    put_varint(out, path.len() as u64);
    for key in path {
        put_text(out, key);
    }
}

/// The paths in a row, each with the number of its columns.
type CohortPaths<'r> = Vec<(Vec<Cow<'r, str>>, u16)>;

pub(super) fn cohort_paths<'r>(key: &Key, row: &'r [u8]) -> Result<CohortPaths<'r>> {
    decode_paths(row).map_err(|malformed| malformed.at(key))
}

fn decode_paths(row: &[u8]) -> Result<CohortPaths<'_>, FormatError> {
    let mut input = Input::with_format(row, FORMAT)?;
    let count = input.count(row.len())?;
    let mut paths = Vec::with_capacity(count);
    for _ in 0..count {
        let columns = input.count(usize::from(u16::MAX))? as u16;
        let keys = input.count(row.len())?;
        let path: Result<Vec<_>, _> = (0..keys).map(|_| input.text().map(Cow::Borrowed)).collect();
        paths.push((path?, columns));
    }
    input.end()?;
    Ok(paths)
}
