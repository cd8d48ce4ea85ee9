//! Panels of reports and dashboards, including the cases that the tests of the web UI also read.

use matyan_proto::search::v1::{MetricValue, SortField, sort::By};
use matyan_value::{json, query_words::expression_of};
use serde_json::Value as Json;

use super::*;

const REPORT: &str = "\
# Losses

```python
query: of no panel
```

```chart
title: Losses
metric: loss
query: run.active
  and run.hparams.lr > 0
runs: 12
```
![a](artifact:3fd1/a%20b/c.png)

``` runs
sort: -metric:loss {\"a\"\\,1}, name
```

```text
query: no
```

```number
metric: loss
";

fn searches(report: &str) -> Vec<PanelSearch> {
    of_report(&ReportText::parse(report))
}

/// The cases in a list of the file.
fn cases(list: &str) -> Vec<Json> {
    let text = std::fs::read_to_string("../../tests/vectors/panels.json").unwrap();
    let vectors: Json = serde_json::from_str(&text).unwrap();
    let cases = vectors[list].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{list}");
    cases
}

fn text<'c>(case: &'c Json, name: &str) -> &'c str {
    case[name].as_str().unwrap_or_else(|| panic!("{case} has no {name}"))
}

/// The name of a value of an enum, without the name of the enum.
fn short(name: &str, of: &str) -> String {
    name.strip_prefix(of).unwrap().to_owned()
}

fn described_order(sort: &Sort) -> Json {
    let descending = sort.descending;
    match sort.by.as_ref().unwrap() {
        By::Field(field) => {
            let field = SortField::try_from(*field).unwrap().as_str_name();
            serde_json::json!({"field": short(field, "SORT_FIELD_"), "descending": descending})
        }
        By::Param(path) => serde_json::json!({"param": path.segments, "descending": descending}),
        By::Metric(key) => {
            let value = MetricValue::try_from(sort.metric_value).unwrap().as_str_name();
            serde_json::json!({
                "metric": key.name,
                "context": key.context,
                "value": short(value, "METRIC_VALUE_"),
                "descending": descending,
            })
        }
    }
}

/// Compares what a panel shows with a case. `query` is the field with its query.
fn check(found: &PanelSearch, expected: &Json, query: &str) {
    let kind = text(expected, "kind");
    let shown = if query == "expression" { expression_of(&found.query) } else { found.query.clone() };
    assert_eq!(shown, text(expected, query), "{expected}");
    assert_eq!(Json::from(found.limit), expected["runs"], "{expected}");
    let sort: Vec<Json> = found.sort.iter().map(described_order).collect();
    let none = Json::Array(Vec::new());
    assert_eq!(Json::from(sort), *expected.get("sort").unwrap_or(&none), "{expected}");
    assert_eq!(found.has_points, matches!(kind, "chart" | "heat"), "{expected}");
    assert_eq!(found.has_objects, kind == "media", "{expected}");
    let media = expected.get("media").and_then(Json::as_str).unwrap_or("images");
    let having = (kind == "media").then(|| media_of(media).unwrap());
    assert_eq!(found.having, having, "{expected}");
}

#[test]
fn vectors_of_reports() {
    for case in cases("reports") {
        let report = ReportText::parse(text(&case, "text"));
        let found = of_report(&report);
        let expected = case["panels"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{case}");
        for (found, expected) in found.iter().zip(expected) {
            check(found, expected, "query");
        }
        let pictures = report.pictures().into_iter();
        let pictures: Json = pictures.map(|it| serde_json::json!([it.run_id, it.path])).collect();
        let none = Json::Array(Vec::new());
        assert_eq!(pictures, *case.get("pictures").unwrap_or(&none), "{case}");
    }
}

#[test]
fn vectors_of_dashboards() {
    for case in cases("dashboards") {
        let state = json::parse(&case["state"].to_string()).unwrap();
        let Value::Map(mut state) = state else { panic!("{case}") };
        let found = of_dashboard(&mut state);
        let shown = case["panels"].as_array().unwrap().iter();
        let expected: Vec<&Json> = shown.filter(|panel| text(panel, "kind") != TEXT).collect();
        assert_eq!(found.len(), expected.len(), "{case}");
        for (found, expected) in found.iter().zip(expected) {
            check(found, expected, "expression");
        }
    }
}

#[test]
fn vectors_of_queries() {
    for case in cases("queries") {
        assert_eq!(expression_of(text(&case, "query")), text(&case, "expression"), "{case}");
    }
}

#[test]
fn the_panels_of_a_report_are_found() {
    let found = searches(REPORT);
    let texts = found.iter().map(|it| (it.query.as_str(), it.limit, it.has_points, it.sort.len()));
    assert_eq!(
        texts.collect::<Vec<_>>(),
        [("run.active\nand run.hparams.lr > 0", 12, true, 0), ("", 20, false, 2), ("", 1_000, false, 0)]
    );
    assert!(searches("").is_empty());
}

#[test]
fn panels_of_a_dashboard_get_its_filter() {
    let text = |text: &str| Value::Text(text.to_owned());
    let panel = |kind: &str, query: &str| {
        Value::Map(Map::from([("kind".to_owned(), text(kind)), ("query".to_owned(), text(query))]))
    };
    let panels = vec![panel("", ""), panel("text", ""), panel("media", "run.active"), Value::Null];
    let mut state =
        Map::from([("query".to_owned(), text("falcon")), ("panels".to_owned(), Value::List(panels))]);
    let found = of_dashboard(&mut state);
    let having: Vec<_> = found.iter().map(|it| it.having).collect();
    assert_eq!(having, [None, Some(SeriesType::Images), None]);
    assert_eq!(found[0].query, "falcon");
    assert!(found[1].query.starts_with("any(\"falcon\" in text.lower()"), "{}", found[1].query);
    assert!(found[1].query.ends_with(" and run.active"), "{}", found[1].query);
    assert_eq!(state["query"], text(""));
    let Value::List(panels) = &state["panels"] else { panic!("no panels") };
    for (at, query) in [(0, &found[0].query), (2, &found[1].query), (3, &found[2].query)] {
        assert_eq!(panels[at].as_map().unwrap()["query"], text(query.as_str()), "{at}");
    }
    assert!(of_dashboard(&mut Map::new()).is_empty());
}
