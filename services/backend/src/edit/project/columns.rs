//! Search for params and series by a text.

use std::{collections::BTreeSet, sync::Arc};

use matyan_proto::{
    common::v1::SeriesType,
    limits,
    project::v1::{FindColumnsRequest, FindColumnsResponse, SequenceName, SeriesColumn},
    runs::v1::ParamPath,
};
use matyan_store::Error as StoreError;
use matyan_value::{Map, Value, cbor};

use crate::{
    query::params::MergedParams,
    server::{
        convert,
        error::{Error, Result},
        evaluation::Evaluation,
    },
};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// Most different words in a text: each is searched in every column.
const MAX_WORDS: usize = 16;

/// Bytes searched in a slice of work: some milliseconds.
const SLICE_BYTES: usize = 2 << 20;

/// Cost of a column apart from its name, in bytes searched.
const COLUMN_BYTES: usize = 64;

/// A validated request.
pub(super) struct ColumnSearch {
    /// In lower case.
    words: BTreeSet<String>,
    types: Vec<SeriesType>,
    has_params: bool,
    limit: usize,
}

impl ColumnSearch {
    pub(super) fn new(request: &FindColumnsRequest) -> Result<Self> {
        convert::check_limit("text", request.text.len(), limits::QUERY_BYTES)?;
        convert::check_limit("limit", request.limit as usize, MAX_LIMIT as usize)?;
        let types: Vec<SeriesType> = request.types().collect();
        if types.contains(&SeriesType::Unspecified) || types.len() < request.types.len() {
            return Err(Error::field("types", "contains an unknown type"));
        }
        let words: BTreeSet<String> = request.text.split_whitespace().map(str::to_lowercase).collect();
        if words.len() > MAX_WORDS {
            let words = words.len();
            return Err(Error::field("text", format!("has {words} words, and the limit is {MAX_WORDS}")));
        }
        Ok(Self {
            words,
            types,
            has_params: !request.exclude_params,
            limit: if request.limit == 0 { DEFAULT_LIMIT } else { request.limit } as usize,
        })
    }

    /// Looks at all columns, in slices: there may be a million of them.
    pub(super) async fn find(
        self,
        evaluation: &Evaluation,
        merged: Arc<MergedParams>,
    ) -> Result<FindColumnsResponse> {
        let _memory = evaluation.column_find().await;
        let mut scan = evaluation.run(move || ColumnScan::new(self, merged)).await??;
        while !scan.is_done {
            scan = evaluation.run(move || scan.slice()).await?;
        }
        Ok(scan.found)
    }

    fn matches(&self, column: &str) -> bool {
        let column = column.to_lowercase();
        self.words.iter().all(|word| column.contains(word.as_str()))
    }
}

/// A search as far as it has come: through the params, and then through the series.
struct ColumnScan {
    search: ColumnSearch,
    merged: Arc<MergedParams>,
    /// The entries that are left of the root, and of each map on the path.
    trees: Vec<<Map as IntoIterator>::IntoIter>,
    path: Vec<String>,
    series: SeriesPlace,
    found: FindColumnsResponse,
    is_done: bool,
}

/// Indexes of a type among the requested types, of a name, and of a context of the name.
#[derive(Clone, Copy, Default)]
struct SeriesPlace {
    of: usize,
    name: usize,
    context: usize,
}

impl ColumnScan {
    fn new(search: ColumnSearch, merged: Arc<MergedParams>) -> Result<Self> {
        let mut trees = Vec::new();
        if search.has_params {
            let params = cbor::decode_map(merged.params()).map_err(|error| {
                Error::Internal(StoreError::corrupt(format!("invalid merged params: {error}")))
            })?;
            trees.push(params.into_iter());
        }
        let path = Vec::new();
        let series = SeriesPlace::default();
        let found = FindColumnsResponse::default();
        Ok(Self { search, merged, trees, path, series, found, is_done: false })
    }

    fn slice(mut self) -> Self {
        let mut bytes = 0;
        let words = 1 + self.search.words.len();
        while bytes < SLICE_BYTES && !self.is_done {
            let looked_at = if self.trees.is_empty() { self.next_series() } else { self.next_param() };
            bytes += COLUMN_BYTES + looked_at * words;
        }
        self
    }

    /// Looks at the next entry of a tree, and returns the size of its name. The depth of params is limited.
    fn next_param(&mut self) -> usize {
        let Some((key, value)) = self.trees.last_mut().and_then(Iterator::next) else {
            self.trees.pop();
            self.path.pop();
            return 0;
        };
        self.path.push(key);
        match value {
            Value::Map(map) if !map.is_empty() => {
                self.trees.push(map.into_iter());
                return 0;
            }
            _ => {}
        }
        let column = self.path.join(".");
        if self.search.matches(&column) {
            self.found.param_count += 1;
            if self.found.params.len() < self.search.limit {
                self.found.params.push(ParamPath { segments: self.path.clone() });
            }
        }
        self.path.pop();
        column.len()
    }

    /// Looks at the next series, and returns the size of its name.
    fn next_series(&mut self) -> usize {
        let SeriesPlace { of, name, context } = self.series;
        let Some(kind) = self.search.types.get(of).copied() else {
            self.is_done = true;
            return 0;
        };
        let Some(named) = self.merged.names(kind).get(name) else {
            self.series = SeriesPlace { of: of + 1, ..SeriesPlace::default() };
            return 0;
        };
        let SequenceName { name: text, contexts } = named;
        let Some(found) = contexts.get(context) else {
            self.series = SeriesPlace { name: name + 1, context: 0, ..self.series };
            return 0;
        };
        let column = format!("{text} {found}");
        if self.search.matches(&column) {
            self.found.series_count += 1;
            if self.found.series.len() < self.search.limit {
                let name = text.clone();
                let context = found.clone();
                self.found.series.push(SeriesColumn { r#type: kind.into(), name, context });
            }
        }
        self.series.context += 1;
        column.len()
    }
}

#[cfg(test)]
mod tests {
    use matyan_value::json;

    use super::*;

    #[test]
    fn params_have_all_words_of_the_text() {
        let tree = json::parse(r#"{"model":{"Depth":3,"lr.x":{"warmup":1}},"lr":0.1,"empty":{}}"#).unwrap();
        let Value::Map(tree) = tree else { panic!("{tree:?}") };
        let merged = Arc::new(MergedParams::of_params(&tree));
        let check = |text: &str, limit: u32, expected: &[&str], count: u64| {
            let request = FindColumnsRequest { text: text.into(), limit, ..Default::default() };
            let search = ColumnSearch::new(&request).unwrap();
            let ColumnScan { found, is_done, .. } = ColumnScan::new(search, merged.clone()).unwrap().slice();
            assert!(is_done);
            let paths: Vec<String> = found.params.iter().map(|path| path.segments.join("/")).collect();
            assert_eq!(
                (paths.iter().map(String::as_str).collect::<Vec<_>>(), found.param_count),
                (expected.to_vec(), count),
                "{text}"
            );
        };
        check("", 0, &["empty", "lr", "model/Depth", "model/lr.x/warmup"], 4);
        check("", 2, &["empty", "lr"], 4);
        check("LR", 0, &["lr", "model/lr.x/warmup"], 2);
        check("up model", 0, &["model/lr.x/warmup"], 1);
        check("model.depth", 0, &["model/Depth"], 1);
        check("nothing", 0, &[], 0);
        assert!(ColumnSearch::new(&FindColumnsRequest { limit: 1_001, ..Default::default() }).is_err());
    }

    #[test]
    fn a_large_project_is_searched_in_slices() {
        let key = |at: usize| (format!("{at:05}{}", "x".repeat(1_000)), Value::Null);
        let merged = Arc::new(MergedParams::of_params(&(0..10_000).map(key).collect()));
        let text = "0 1 2 3 x".to_owned();
        let request = FindColumnsRequest { text, ..Default::default() };
        let mut scan = ColumnScan::new(ColumnSearch::new(&request).unwrap(), merged).unwrap();
        let mut slices = 0;
        while !scan.is_done {
            scan = scan.slice();
            slices += 1;
        }
        assert_eq!(scan.found.param_count, 204, "four digits, three of which are given");
        assert!(slices > 10, "{slices}");
    }

    #[test]
    fn a_text_has_few_words() {
        let words = |count: usize| (0..count).map(|word| format!("{word} A a ")).collect::<String>();
        let search = |text| ColumnSearch::new(&FindColumnsRequest { text, ..Default::default() });
        assert!(search(words(MAX_WORDS - 1)).is_ok());
        let refused = search(words(MAX_WORDS)).err();
        assert!(matches!(refused, Some(Error::InvalidField { field: "text", .. })), "{refused:?}");
    }
}
