//! Columns such as `-created` or `metric:loss`, in whose order a table has its runs, and lists in addresses. The web UI
//! reads them in `ui/src/pages/runs/columns.ts` and `ui/src/state/url.ts`.

use matyan_proto::{
    common::v1::SeriesKey,
    runs::v1::ParamPath,
    search::v1::{MetricValue, Sort, SortField, sort::By},
};

/// A column by which the server does not sort.
const TAGS: &str = "tags";

/// The order of columns with commas between them; `None` if one of them is no column.
pub(super) fn sort_of(columns: &str) -> Option<Vec<Sort>> {
    let mut sort = Vec::new();
    for column in parts(columns, ',') {
        let column = unescaped(column);
        let column = column.trim();
        let name = column.strip_prefix('-').unwrap_or(column);
        if column.is_empty() || name == TAGS {
            continue;
        }
        let (by, value) = source_of(name)?;
        sort.push(Sort { by: Some(by), metric_value: value.into(), descending: name.len() < column.len() });
    }
    Some(sort)
}

/// The content of a column, and for a metric, which of its values.
fn source_of(column: &str) -> Option<(By, MetricValue)> {
    let field = |field: SortField| Some((By::Field(field.into()), MetricValue::Unspecified));
    match column {
        "created" => return field(SortField::Created),
        "duration" => return field(SortField::Duration),
        "status" => return field(SortField::Outcome),
        "name" => return field(SortField::Name),
        "experiment" => return field(SortField::Experiment),
        _ => {}
    }
    let (kind, rest) = column.split_once(':')?;
    let value = match kind {
        "param" => {
            let segments = parts(rest, '.').filter(|part| !part.is_empty()).map(unescaped).collect();
            return Some((By::Param(ParamPath { segments }), MetricValue::Unspecified));
        }
        "metric" | "curve" => MetricValue::Last,
        "first" => MetricValue::First,
        "min" => MetricValue::Min,
        "max" => MetricValue::Max,
        _ => return None,
    };
    // The context begins with the first brace that is not protected.
    let (name, context) = match places(rest, '{').next() {
        Some(at) => (rest[..at].strip_suffix(' ')?, &rest[at..]),
        None => (rest, ""),
    };
    Some((By::Metric(SeriesKey { name: unescaped(name), context: context.to_owned() }), value))
}

/// The values of a field of an address that has a list.
pub(super) fn list_of(value: &str) -> Vec<String> {
    parts(value, ',').filter(|part| !part.trim().is_empty()).map(unescaped).collect()
}

/// The parts of a text between separators that no backslash protects.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let ends = places(text, separator).chain([text.len()]);
    let mut start = 0;
    ends.map(move |end| {
        let part = &text[start..end];
        start = end + separator.len_utf8();
        part
    })
}

/// Where a text has a character that no backslash protects.
fn places(text: &str, wanted: char) -> impl Iterator<Item = usize> {
    let mut is_protected = false;
    text.char_indices().filter_map(move |(at, char)| {
        let is_found = char == wanted && !is_protected;
        is_protected = char == '\\' && !is_protected;
        is_found.then_some(at)
    })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(if char == '\\' { chars.next().unwrap_or('\\') } else { char });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_sort_keys() {
        let metric = |name: &str, context: &str| {
            By::Metric(SeriesKey { name: name.to_owned(), context: context.to_owned() })
        };
        assert_eq!(source_of("min:a\\{b"), Some((metric("a{b", ""), MetricValue::Min)));
        let context = "{\"subset\":\"val\"}";
        let column = format!("metric:val loss {context}");
        assert_eq!(source_of(&column), Some((metric("val loss", context), MetricValue::Last)));
        let path = ParamPath { segments: vec!["a.b".to_owned(), "c".to_owned()] };
        assert_eq!(source_of("param:a\\.b.c"), Some((By::Param(path), MetricValue::Unspecified)));
        assert_eq!(source_of("tags"), None);
        let sort = sort_of("-created, tags, name,").unwrap();
        assert_eq!(sort.iter().map(|one| one.descending).collect::<Vec<_>>(), [true, false]);
        for wrong in ["created, nothing", "/created/", "metric:a{", "--created"] {
            assert_eq!(sort_of(wrong), None, "{wrong}");
        }
        assert_eq!(sort_of(""), Some(Vec::new()));
    }

    #[test]
    fn lists_are_decoded() {
        assert_eq!(list_of("a,b\\,c,"), ["a", "b,c"]);
        assert!(list_of("").is_empty());
    }
}
