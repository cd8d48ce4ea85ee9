//! Expressions with results recorded from CPython: the `repr` of the value, the exception, or
//! the line of the error. The recordings omit deliberate differences (`list('abc')`, long
//! ranges, `str.format`) and results that contain addresses.

use matyan_ql::{Endpoint, Outcome, QueryLimits, QueryOptions, compile};
use serde_json::Value;

fn evaluate(text: &str) -> Result<Outcome, String> {
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let query = compile(text, options).map_err(|error| error.to_string())?;
    query
        .evaluator(QueryLimits::default())
        .run(&crate::memory::Run::default())
        .map_err(|error| error.to_string())
}

fn literal(text: &str) -> String {
    let escaped = |c: char| match c {
        '\'' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    format!("'{}'", text.chars().map(escaped).collect::<String>())
}

/// Compares a row with the recording. Returns `None` if the results agree.
fn difference(row: &Value) -> Option<String> {
    let expression = row["e"].as_str().unwrap();
    if let Some(exception) = row["x"].as_str() {
        let outcome = evaluate(expression);
        let same = match &outcome {
            Ok(Outcome::Raised(raise)) => format!("{raise:?}") == exception,
            Err(_) => exception == "SyntaxError",
            Ok(_) => false,
        };
        return (!same).then(|| format!("{expression}: {outcome:?}, not {exception}"));
    }
    let expected = row["r"].as_str().unwrap();
    let outcome = evaluate(&format!("repr({expression}) == {}", literal(expected)));
    (outcome != Ok(Outcome::Match)).then(|| format!("{expression}: {outcome:?}, not {expected}"))
}

#[test]
fn expressions_evaluate_as_in_cpython() {
    let rows = include_str!("data/python.jsonl");
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<String> = rows.iter().filter_map(difference).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// The same texts are refused at the same lines. The text is wrapped in parentheses for CPython
/// as well.
#[test]
fn texts_are_refused_where_cpython_refuses_them() {
    let rows = include_str!("data/syntax.jsonl");
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
    for row in &rows {
        let line = compile(row["q"].as_str().unwrap(), options).err().map(|error| u64::from(error.line));
        assert_eq!(line, row["line"].as_u64(), "{}", row["q"]);
    }
}
