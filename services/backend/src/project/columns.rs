//! Search for params and series by a text.

use matyan_proto::{
    common::v1::SeriesType,
    limits,
    project::v1::{FindColumnsRequest, FindColumnsResponse, SeriesColumn},
    runs::v1::ParamPath,
};
use matyan_store::Error as StoreError;
use matyan_value::{Map, Value, cbor};

use super::params::MergedParams;
use crate::{
    convert,
    error::{Error, Result},
};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// A validated request.
pub(super) struct ColumnSearch {
    /// In lower case.
    words: Vec<String>,
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
        Ok(Self {
            words: request.text.split_whitespace().map(str::to_lowercase).collect(),
            types,
            has_params: !request.exclude_params,
            limit: if request.limit == 0 { DEFAULT_LIMIT } else { request.limit } as usize,
        })
    }

    pub(super) fn find(&self, merged: &MergedParams) -> Result<FindColumnsResponse> {
        let mut found = FindColumnsResponse::default();
        if self.has_params {
            let params = cbor::decode_map(merged.params()).map_err(|error| {
                Error::Internal(StoreError::corrupt(format!("invalid merged params: {error}")))
            })?;
            self.params(&params, &mut Vec::new(), &mut found);
        }
        for of in &self.types {
            for (name, context) in merged.series(*of) {
                if !self.matches(&format!("{name} {context}")) {
                    continue;
                }
                found.series_count += 1;
                if found.series.len() < self.limit {
                    let (name, context) = (name.to_owned(), context.to_owned());
                    found.series.push(SeriesColumn { r#type: (*of).into(), name, context });
                }
            }
        }
        Ok(found)
    }

    /// Adds the leaves of a tree below `path`. The depth of params is limited.
    fn params<'m>(&self, tree: &'m Map, path: &mut Vec<&'m str>, found: &mut FindColumnsResponse) {
        for (key, value) in tree {
            path.push(key);
            match value {
                Value::Map(map) if !map.is_empty() => self.params(map, path, found),
                _ if self.matches(&path.join(".")) => {
                    found.param_count += 1;
                    if found.params.len() < self.limit {
                        let segments = path.iter().map(|key| (*key).to_owned()).collect();
                        found.params.push(ParamPath { segments });
                    }
                }
                _ => {}
            }
            path.pop();
        }
    }

    fn matches(&self, column: &str) -> bool {
        let column = column.to_lowercase();
        self.words.iter().all(|word| column.contains(word.as_str()))
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
        let check = |text: &str, limit: u32, expected: &[&str], count: u64| {
            let request = FindColumnsRequest { text: text.into(), limit, ..Default::default() };
            let mut found = FindColumnsResponse::default();
            ColumnSearch::new(&request).unwrap().params(&tree, &mut Vec::new(), &mut found);
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
}
