//! A plan may only affect speed: over random runs and queries, the plan proposes every run that
//! the evaluator matches, and the evaluator matches every run that an exact plan proposes. The
//! indexes are modeled here the way the store keeps them.

use crate::indexes::{proposed, proposed_by_probe};
use crate::memory::{Run, Sequence};
use matyan_ql::{
    AccessPath, Endpoint, Outcome, Plan, Probe, QueryLimits, QueryOptions, SequenceSummary, Statistics,
    compile,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn found(access: &AccessPath<'_>, run: &Run) -> bool {
    match access {
        AccessPath::Scan => true,
        AccessPath::Nothing => false,
        AccessPath::Probe(probe) => proposed_by_probe(probe, run),
        AccessPath::Intersect(parts) => parts.iter().all(|part| found(part, run)),
        AccessPath::Union(parts) => parts.iter().any(|part| found(part, run)),
    }
}

/// Made-up counts: no count may affect results, so some probes are not indexed and some counts
/// are wrong.
struct Counts(u64);

impl Statistics for Counts {
    fn runs(&self) -> u64 {
        10_000
    }
    fn count(&self, probe: &Probe) -> Option<u64> {
        let digest = probe
            .to_string()
            .bytes()
            .fold(self.0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        (digest % 7 != 0).then_some(digest % 5_000)
    }
}

/// Values of params, chosen so that types, signs and rounding collide.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(-0.0),
            json!(1),
            json!(1.0),
            json!(2),
            json!(-1),
            json!(0.5),
            json!(9007199254740992_i64),
            json!(9007199254740993_i64),
            json!(9007199254740992.0),
            json!(9223372036854775807_i64),
            json!(18446744073709551615_u64),
            json!(1e308),
            json!("a"),
            json!("b"),
            json!("ab"),
            json!(""),
            json!("1"),
            json!("é"),
            json!([]),
            json!([1]),
            json!({}),
            json!({"x": 1}),
        ]),
        (-3_i64..4).prop_map(Value::from),
    ]
}

fn params() -> impl Strategy<Value = Value> {
    let object =
        || prop::collection::btree_map(prop::sample::select(vec!["x", "y", "real", "get"]), values(), 0..3);
    (object(), object(), prop::bool::ANY).prop_map(|(top, inner, nested)| {
        let mut top: serde_json::Map<String, Value> =
            top.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        if nested {
            top.insert("h".into(), inner.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        }
        Value::Object(top)
    })
}

fn sequences() -> impl Strategy<Value = Vec<Sequence>> {
    let one = (prop::sample::select(vec!["a", "b", "loss"]), 0..3_i64, prop::option::of(-1.0..2.0));
    let dtype = prop::sample::select(vec!["float", "image"]);
    prop::collection::vec((one, dtype), 0..4).prop_map(|list| {
        let sequence = |((name, fold, last), dtype): ((&str, i64, Option<f64>), &str)| Sequence {
            name: name.to_owned(),
            context: if fold == 0 { json!({}) } else { json!({ "fold": fold }) },
            dtype: dtype.to_owned(),
            summary: SequenceSummary { last, last_step: last.map(|_| fold), ..SequenceSummary::default() },
        };
        list.into_iter().map(sequence).collect()
    })
}

fn runs() -> impl Strategy<Value = Run> {
    let names = || prop::sample::select(vec!["a", "b", "ab", ""]);
    let texts = (names(), prop::option::of(names()), prop::collection::vec(names(), 0..3));
    let times = (prop::sample::select(vec![0.0, 1.0, 2.5, 1_704_067_200.0]), prop::option::of(0.0..3.0));
    (texts, times, any::<(bool, bool)>(), params(), sequences()).prop_map(
        |((name, experiment, tags), (created_at, length), (active, archived), params, sequences)| Run {
            hash: name.to_owned(),
            name: name.to_owned(),
            description: String::new(),
            experiment: experiment.map(str::to_owned),
            tags: tags.into_iter().map(str::to_owned).collect(),
            created_at,
            end_time: length.map(|length| created_at + length),
            active,
            archived,
            outcome: None,
            parent: None,
            params,
            sequences,
        },
    )
}

const SUBJECTS: &[&str] = &[
    "run.hash",
    "run.name",
    "run.experiment",
    "run.active",
    "run.archived",
    "run.is_archived",
    "run.created_at",
    "run.end_time",
    "run.duration",
    "run.description",
    "run.x",
    "run.y",
    "run['x']",
    "run.h.x",
    "run['h']['y']",
    "run['h', 'x']",
    "run.h['x']",
    "run.h",
    "run.h.x.real",
    "run.real",
    "run.x.get",
    "run.get('x')",
    "run.finalized_at",
    "run.metrics['loss'].last",
    "run.metrics['a', {}].last_step",
    "run.metrics['b']",
    "metric.name",
    "metric.last",
    "metric.context.fold",
    "metric.last_step",
    "run.tags",
    "run.metrics",
    "foo",
    "len(run.name)",
    "run.x + 1",
    "(z := run.x)",
    "1",
    "'a'",
];

const CONSTANTS: &[&str] = &[
    "0",
    "-0.0",
    "1",
    "1.0",
    "True",
    "False",
    "None",
    "2",
    "-1",
    "0.5",
    "2**53",
    "2**53 + 1",
    "9007199254740992.0",
    "2**63",
    "2**64 - 1",
    "1e308",
    "10**400",
    "math.inf",
    "-math.inf",
    "math.nan",
    "'a'",
    "'b'",
    "'ab'",
    "''",
    "'1'",
    "'é'",
    "[1]",
    "()",
    "(1,)",
    "{}",
    "1j",
    "b'a'",
    "datetime(2024, 1, 1)",
    "timedelta(seconds=1)",
    "run.y",
];

const LISTS: &[&str] = &[
    "[1, 'a']",
    "(1.0, None)",
    "{True, 'b'}",
    "[]",
    "['a', 'b', 'loss']",
    "(2**53 + 1,)",
    "[math.nan]",
    "'ab'",
    "run.tags",
    "run.metrics",
    "run.x",
];

const OTHERS: &[&str] = &[
    "run.active",
    "run.archived",
    "run.x",
    "run.h.x",
    "'a' in run.tags",
    "'b' not in run.tags",
    "run.tags.contains('a')",
    "'loss' in run.metrics",
    "run.metrics['loss']",
    "metric.name == 'loss'",
    "metric.name in ('a', 'b')",
    "metric.name != 'a'",
    "run.name.startswith('a')",
    "run.x.startswith(('a', 'b'))",
    "run.h.x.startswith('')",
    "metric.name.startswith('l')",
    "run.name.endswith('b')",
    "True",
    "False",
    "[]",
    "1",
    "foo",
    "any(t in run.tags for t in ['a'])",
    "1 / 0",
    "0 < run.x <= 1",
    "'a' <= run.name < 'b'",
    "0 <= run.created_at < run.end_time",
    "run.x == run.y == 1",
];

const OPERATORS: &[&str] = &["==", "!=", "<", "<=", ">", ">=", "is", "is not"];

fn queries() -> impl Strategy<Value = String> {
    let pick = prop::sample::select;
    let comparison = (pick(SUBJECTS), pick(OPERATORS), pick(CONSTANTS), any::<bool>()).prop_map(
        |(subject, operator, constant, mirrored)| {
            if mirrored {
                format!("{constant} {operator} {subject}")
            } else {
                format!("{subject} {operator} {constant}")
            }
        },
    );
    let member = (pick(SUBJECTS), pick(&["in", "not in"][..]), pick(LISTS))
        .prop_map(|(subject, operator, list)| format!("{subject} {operator} {list}"));
    let leaf = prop_oneof![4 => comparison, 1 => member, 2 => pick(OTHERS).prop_map(str::to_owned)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a}) and ({b}) and ({c})")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a}) if ({b}) else ({c})")),
        ]
    })
}

fn check_runs(query: &str, runs: &[Run], seed: u64) -> Result<(), TestCaseError> {
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 1e9 };
    let query = compile(query, options).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let plan = query.plan();
    let choice = plan.choose(&Counts(seed));
    let mut evaluator = query.evaluator(QueryLimits::default());
    for run in runs {
        let matches = evaluator.run(run) == Ok(Outcome::Match);
        let planned = proposed(&plan.runs, run);
        let chosen = found(&choice.access, run);
        prop_assert!(!matches || planned, "left out by {plan}: {run:?}");
        prop_assert!(!matches || chosen, "left out by {choice:?}: {run:?}");
        prop_assert!(!plan.exact || matches == planned, "not exact: {plan}: {run:?}");
        prop_assert!(!choice.exact || matches == chosen, "not exact: {choice:?}: {run:?}");
    }
    Ok(())
}

fn wanted_name(plan: &Plan, sequence: &Sequence) -> bool {
    plan.sequences
        .as_ref()
        .is_none_or(|names| names.iter().any(|n| n.contains(&sequence.name.as_str().into())))
}

fn check_sequences(query: &str, runs: &[Run]) -> Result<(), TestCaseError> {
    let options = QueryOptions { endpoint: Endpoint::Metric, offset_minutes: 0, now: 1e9 };
    let query = compile(query, options).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let plan = query.plan();
    let mut evaluator = query.evaluator(QueryLimits::default());
    for run in runs {
        for sequence in run.sequences.iter().filter(|sequence| options.endpoint.accepts(&sequence.dtype)) {
            let matches = evaluator.sequence(run, sequence) == Ok(Outcome::Match);
            let planned = proposed(&plan.runs, run);
            prop_assert!(!matches || planned, "left out by {plan}: {run:?}");
            prop_assert!(!matches || wanted_name(&plan, sequence), "left out by {plan}: {sequence:?}");
            prop_assert!(!plan.exact || matches == planned, "not exact: {plan}: {run:?} {sequence:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn no_plan_leaves_out_a_run_that_matches(query in queries(), runs in prop::collection::vec(runs(), 8), seed: u64) {
        check_runs(&query, &runs, seed)?;
    }

    #[test]
    fn no_plan_leaves_out_a_sequence_that_matches(query in queries(), runs in prop::collection::vec(runs(), 6)) {
        check_sequences(&query, &runs)?;
    }
}
