//! The sort order of a search of runs.

use matyan_proto::search::v1::{Sort, sort::By};

use crate::{
    query::table::{RunValue, SortKey, ValueSource},
    server::{convert, error::Result},
};

/// Maximum number of keys in a sort order.
const MAX_KEYS: usize = 16;

/// The order of a search that names none.
pub(super) fn newest_first() -> Vec<SortKey> {
    vec![SortKey { value: RunValue::Number, descending: true }]
}

pub(super) fn parse_keys(sort: Vec<Sort>) -> Result<Vec<SortKey>> {
    convert::check_limit("sort", sort.len(), MAX_KEYS)?;
    sort.into_iter().map(parse_key).collect()
}

fn parse_key(Sort { by, descending, metric_value }: Sort) -> Result<SortKey> {
    let source = by.map(|by| match by {
        By::Field(field) => ValueSource::Field(field),
        By::Param(path) => ValueSource::Param(path),
        By::Metric(key) => ValueSource::Metric(key, metric_value),
    });
    Ok(SortKey { value: RunValue::parse("sort", source)?, descending })
}

/// Whether the newest runs come first, if runs are sorted by creation time only.
pub(super) fn created_order(keys: &[SortKey]) -> Option<bool> {
    match keys {
        [SortKey { value: RunValue::Created, descending }] => Some(*descending),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::search::v1::SortField;

    use super::*;

    #[test]
    fn invalid_orders_are_rejected() {
        let sort = |by| Sort { by, ..Sort::default() };
        for wrong in [None, Some(By::Field(0)), Some(By::Field(99)), Some(By::Param(Default::default()))] {
            assert!(parse_keys(vec![sort(wrong)]).is_err());
        }
        let field = Some(By::Field(SortField::Name.into()));
        assert!(parse_keys(vec![sort(field.clone()); MAX_KEYS]).is_ok());
        assert!(parse_keys(vec![sort(field); MAX_KEYS + 1]).is_err());
    }
}
