//! Checks the examples in the documentation of the language: every example compiles without a
//! warning, or is refused where the documentation says so.

use matyan_ql::{Endpoint, QueryOptions, compile};

const ENDPOINTS: [Endpoint; 9] = [
    Endpoint::Run,
    Endpoint::Metric,
    Endpoint::Images,
    Endpoint::Texts,
    Endpoint::Distributions,
    Endpoint::Audios,
    Endpoint::Figures,
    Endpoint::Htmls,
    Endpoint::PointClouds,
];

/// Returns the lines of the code blocks that start with this fence; each line is a query.
fn examples(fence: &str) -> Vec<&'static str> {
    let mut is_inside = false;
    let document = include_str!("../../../../docs/concepts/matyanql.md");
    let mut queries = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            is_inside = line == fence;
        } else if is_inside && !line.is_empty() {
            queries.push(line);
        }
    }
    queries
}

/// Whether some kind of search accepts the query and knows every name in it.
fn is_taken(query: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| {
        let options = QueryOptions { endpoint: *endpoint, offset_minutes: 0, now: 0.0 };
        compile(query, options).is_ok_and(|query| query.warnings().is_empty())
    })
}

#[test]
fn examples_compile() {
    let examples = examples("```python");
    assert!(examples.len() > 15, "only {} examples found", examples.len());
    let wrong: Vec<_> = examples.into_iter().filter(|query| !is_taken(query)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn refused_examples_are_refused() {
    let examples = examples("```python refused");
    assert!(examples.len() > 3, "only {} examples found", examples.len());
    for query in examples {
        for endpoint in ENDPOINTS {
            compile(query, QueryOptions { endpoint, offset_minutes: 0, now: 0.0 }).expect_err(query);
        }
    }
}
