//! The recorded queries of MatyanQL: every file `matyanql*.json` of the repository and of
//! `MATYAN_VECTORS_DIR`. Where the recorded system was wrong, a vector names the sound answer;
//! that answer, or an accepted alternative, must result.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::memory::{Run, Sequence};
use matyan_ql::{Endpoint, Exception, Outcome, QueryLimits, QueryOptions, SequenceSummary, compile};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Later than all times in the fixture.
const NOW: f64 = 1_800_000_000.0;

fn folders() -> Vec<PathBuf> {
    let own = PathBuf::from("../../tests/vectors");
    [Some(own), std::env::var_os("MATYAN_VECTORS_DIR").map(PathBuf::from)].into_iter().flatten().collect()
}

fn files() -> Vec<(String, Value)> {
    let mut files = Vec::new();
    for folder in folders() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("matyanql") && name.ends_with(".json") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((name, serde_json::from_str(&text).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "no vectors found");
    files
}

/// Returns the runs that a search can see.
fn runs(file: &Value) -> Vec<Run> {
    let runs = file["fixture"]["runs"].as_array().unwrap();
    runs.iter().filter(|run| run["pending_deletion"] != true).map(run).collect()
}

fn run(value: &Value) -> Run {
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let mut sequences: Vec<Sequence> = value["sequences"].as_array().unwrap().iter().map(sequence).collect();
    sequences.sort_by_key(|sequence| context_id(&sequence.context));
    Run {
        hash: text("hash"),
        name: text("name"),
        description: text("description"),
        experiment: value["experiment"].as_str().map(str::to_owned),
        tags: value["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect(),
        created_at: value["created_at"].as_f64().unwrap(),
        end_time: value["finalized_at"].as_f64(),
        outcome: None,
        parent: None,
        active: value["active"].as_bool().unwrap(),
        archived: value["archived"].as_bool().unwrap(),
        params: value["attrs"].clone(),
        sequences,
    }
}

/// Returns the sort key of sequences in a store: a digest of the context, with the empty one
/// first.
fn context_id(context: &Value) -> u32 {
    if context.as_object().unwrap().is_empty() {
        return 0;
    }
    let digest = Sha256::digest(ascii(&id(context)).as_bytes());
    u32::from_be_bytes(digest[..4].try_into().unwrap())
}

fn ascii(text: &str) -> String {
    let escaped = |unit: &u16| match u8::try_from(*unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    text.encode_utf16().map(|unit| escaped(&unit)).collect()
}

fn sequence(value: &Value) -> Sequence {
    Sequence {
        name: value["name"].as_str().unwrap().to_owned(),
        context: value["context"].clone(),
        dtype: value["dtype"].as_str().unwrap().to_owned(),
        summary: SequenceSummary {
            last: value["last"].as_f64(),
            last_step: value["last_step"].as_i64(),
            ..SequenceSummary::default()
        },
    }
}

fn endpoint(mode: &str) -> Endpoint {
    match mode {
        "run" => Endpoint::Run,
        "metric" => Endpoint::Metric,
        "images" => Endpoint::Images,
        "texts" => Endpoint::Texts,
        "distributions" => Endpoint::Distributions,
        "audios" => Endpoint::Audios,
        "figures" => Endpoint::Figures,
        other => panic!("unknown mode {other}"),
    }
}

/// The result of a query in the form of a vector: a set of hashes or triples, or the refusal.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    refused: Option<String>,
    /// Line and column in the statement.
    place: Option<(u32, u32)>,
    matches: BTreeSet<String>,
    raises: BTreeSet<(String, String)>,
}

fn answer(vector: &Value, runs: &[Run]) -> Answer {
    let endpoint = endpoint(vector["mode"].as_str().unwrap());
    let offset_minutes = vector["tz_offset_min"].as_i64().unwrap_or(0) as i32;
    let query =
        match compile(vector["q"].as_str().unwrap(), QueryOptions { endpoint, offset_minutes, now: NOW }) {
            Ok(query) => query,
            Err(error) => {
                let place = Some((error.line, error.column));
                return Answer { refused: Some(error.to_string()), place, ..Answer::default() };
            }
        };
    let mut evaluator = query.evaluator(QueryLimits::default());
    let mut answer = Answer::default();
    for run in runs {
        let candidates: Vec<Option<&Sequence>> = match endpoint {
            Endpoint::Run => vec![None],
            _ => run.sequences.iter().filter(|s| endpoint.accepts(&s.dtype)).map(Some).collect(),
        };
        for candidate in candidates {
            let (id, outcome) = match candidate {
                None => (id(&Value::from(run.hash.clone())), evaluator.run(run)),
                Some(sequence) => {
                    let triple = serde_json::json!([run.hash, sequence.name, sequence.context]);
                    (id(&triple), evaluator.sequence(run, sequence))
                }
            };
            match outcome {
                Ok(Outcome::Match) => drop(answer.matches.insert(id)),
                Ok(Outcome::NoMatch) => {}
                Ok(Outcome::Raised(raise)) => drop(answer.raises.insert((exception(raise), id))),
                Err(budget) => {
                    return Answer { refused: Some(budget.to_string()), ..Answer::default() };
                }
            }
        }
    }
    answer
}

fn exception(raise: Exception) -> String {
    format!("{raise:?}")
}

/// Returns a canonical text of a value, independent of the order of keys.
fn id(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let mut parts: Vec<String> = entries.iter().map(|(k, v)| format!("{k:?}:{}", id(v))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(id).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn ids(expected: &Value) -> BTreeSet<String> {
    let list = expected.get("runs").or(expected.get("triples")).and_then(Value::as_array);
    list.expect("a match names its runs or triples").iter().map(id).collect()
}

/// Whether an answer meets an expectation.
fn fits(answer: &Answer, expected: &Value) -> bool {
    match expected["kind"].as_str().unwrap() {
        "match" => answer.refused.is_none() && answer.matches == ids(expected),
        "syntax_error" | "rejected" => answer.refused.is_some() && answer.place.is_some(),
        "internal_error" => answer.refused.is_some(),
        // Bounded time and memory, and no match.
        "resource_limit" | "not_executed" | "hang" => answer.matches.is_empty(),
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn vectors_matyanql_answers() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, content) in files() {
        let runs = runs(&content);
        for vector in content["vectors"].as_array().unwrap() {
            count += 1;
            let expected = vector.get("recommended").unwrap_or(&vector["expect"]);
            let accepted = vector.get("also_accept");
            let answer = answer(vector, &runs);
            if !fits(&answer, expected) && !accepted.is_some_and(|accepted| fits(&answer, accepted)) {
                wrong.push(format!("{file} {}: {}\n  {answer:?}", vector["id"], vector["q"]));
            }
        }
    }
    println!("{count} vectors");
    assert!(count > 0);
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The recorded system could not compare its dates with numbers; this system can, and finds the
/// same runs.
const COMPARES_NOW: &str = "datetime-008";

/// For vectors that expect the recorded answer itself, the same candidates raise the same
/// exceptions.
#[test]
fn vectors_matyanql_exceptions() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, content) in files() {
        let runs = runs(&content);
        for vector in content["vectors"].as_array().unwrap() {
            let extended = vector.get("recommended").is_some() || vector.get("also_accept").is_some();
            if extended || vector["expect"]["kind"] != "match" || vector["id"] == COMPARES_NOW {
                continue;
            }
            count += 1;
            let mut expected = BTreeSet::new();
            for (name, list) in vector.get("raises").and_then(Value::as_object).into_iter().flatten() {
                expected.extend(list.as_array().unwrap().iter().map(|item| (name.clone(), id(item))));
            }
            let raises = answer(vector, &runs).raises;
            if raises != expected {
                wrong.push(format!("{file} {}: {}\n  {raises:?}\n  {expected:?}", vector["id"], vector["q"]));
            }
        }
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A refused query reports the line that CPython reported.
#[test]
fn vectors_matyanql_lines_of_errors() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, content) in files() {
        for vector in content["vectors"].as_array().unwrap() {
            let Some(line) = vector["expect"]["line"].as_u64() else { continue };
            let found = answer(vector, &[]);
            count += usize::from(found.refused.is_some());
            if found.refused.is_some() && found.place.map(|(line, _)| u64::from(line)) != Some(line) {
                wrong.push(format!("{file} {}: {} {found:?}", vector["id"], vector["q"]));
            }
        }
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Indexes leave out no match, neither by the plan nor by the access path chosen from it.
#[test]
fn vectors_matyanql_plans() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, content) in files() {
        let runs = runs(&content);
        for vector in content["vectors"].as_array().unwrap() {
            let endpoint = endpoint(vector["mode"].as_str().unwrap());
            let offset_minutes = vector["tz_offset_min"].as_i64().unwrap_or(0) as i32;
            let options = QueryOptions { endpoint, offset_minutes, now: NOW };
            let Ok(query) = compile(vector["q"].as_str().unwrap(), options) else { continue };
            count += 1;
            let plan = query.plan();
            let found = answer(vector, &runs).matches;
            for run in &runs {
                let hash = id(&Value::from(run.hash.clone()));
                let matches =
                    found.iter().any(|found| *found == hash || found.starts_with(&format!("[{hash},")));
                let proposed = crate::indexes::proposed(&plan.runs, run);
                if matches && !proposed || plan.exact && endpoint == Endpoint::Run && matches != proposed {
                    wrong.push(format!("{file} {}: {} {plan} {}", vector["id"], vector["q"], run.hash));
                }
            }
        }
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
