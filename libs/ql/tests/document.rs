//! What the page on the language shows is what the language takes: every example compiles without a warning, or is refused where
//! it says so.

#![cfg(test)]

use matyan_ql::{Endpoint, Options, compile};

const ENDPOINTS: [Endpoint; 7] = [
    Endpoint::Run,
    Endpoint::Metric,
    Endpoint::Images,
    Endpoint::Texts,
    Endpoint::Distributions,
    Endpoint::Audios,
    Endpoint::Figures,
];

/// Lines of the blocks that begin so; each is a query.
fn examples(fence: &str) -> Vec<&'static str> {
    let mut is_inside = false;
    let document = include_str!("../../../docs/matyanql.md");
    let lines = document.lines().filter(|line| match line.starts_with("```") {
        true => {
            is_inside = *line == fence;
            false
        }
        false => is_inside && !line.is_empty(),
    });
    lines.collect()
}

/// Whether some search takes it, with every name known.
fn is_taken(query: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| {
        let options = Options { endpoint: *endpoint, offset_minutes: 0, now: 0.0 };
        compile(query, options).is_ok_and(|query| query.warnings().is_empty())
    })
}

#[test]
fn examples_are_taken() {
    let examples = examples("```python");
    assert!(examples.len() > 15, "{} were found", examples.len());
    let wrong: Vec<_> = examples.into_iter().filter(|query| !is_taken(query)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_shown_as_refused_is_refused() {
    let examples = examples("```python refused");
    assert!(examples.len() > 3, "{} were found", examples.len());
    for query in examples {
        for endpoint in ENDPOINTS {
            compile(query, Options { endpoint, offset_minutes: 0, now: 0.0 }).expect_err(query);
        }
    }
}
