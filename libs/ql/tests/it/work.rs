//! Work that a query causes in the view of a run, against the steps that it pays. Work is counted,
//! never timed: bytes that are passed over, and elements that are returned.

use std::cell::Cell;

use matyan_ql::{
    BudgetError, Datum, Endpoint, Exception, KeyPath, Outcome, ParamRead, QueryLimits, QueryOptions, RunView,
    SequenceSummary, SequenceView, StoredParam, compile,
};

/// Params of the largest run, in bytes.
const PARAMS: usize = 6 << 20;
/// Sequences of the largest run with one name.
const SEQUENCES: usize = 10_000;
/// Most tags of a run.
const TAGS: usize = 256;
/// Bytes that a step pays for.
const STEP_BYTES: u64 = 64;
/// More rounds than any query can pay for.
const ROUNDS: &str = "for x in range(1000) for y in range(1000)";

/// The largest legal run. Each of its params costs a pass over all params.
#[derive(Default)]
struct LargestRun {
    reads: Cell<u64>,
    /// Work so far, in steps.
    work: Cell<u64>,
}

impl LargestRun {
    fn count(&self, work: u64) {
        self.work.set(self.work.get() + work);
    }
}

struct EmptySequence;

impl SequenceView for EmptySequence {
    fn name(&self) -> &str {
        "loss"
    }
    fn dtype(&self) -> &str {
        "float"
    }
    fn context(&self, _: &KeyPath) -> Option<Datum<'_>> {
        Some(Datum::Object(vec![("subset".into(), Datum::Int(1))]))
    }
    fn summary(&self) -> SequenceSummary {
        SequenceSummary::default()
    }
}

impl RunView for LargestRun {
    fn hash(&self) -> &str {
        "h"
    }
    fn name(&self) -> Option<&str> {
        None
    }
    fn description(&self) -> Option<&str> {
        None
    }
    fn experiment(&self) -> Option<&str> {
        None
    }
    fn created_at(&self) -> f64 {
        0.0
    }
    fn end_time(&self) -> Option<f64> {
        None
    }
    fn active(&self) -> bool {
        true
    }
    fn outcome(&self) -> Option<&str> {
        None
    }
    fn parent(&self) -> Option<&str> {
        None
    }
    fn archived(&self) -> bool {
        false
    }
    fn tags(&self) -> Vec<&str> {
        self.count(TAGS as u64);
        vec!["tag"; TAGS]
    }
    fn param(&self, path: &KeyPath, most_values: usize) -> ParamRead<'_> {
        self.reads.set(self.reads.get() + 1);
        self.count(PARAMS as u64 / STEP_BYTES);
        let values = |count: usize| Datum::List((0..count as i64).map(Datum::Int).collect());
        let param = match path.keys() {
            [key] => &**key,
            _ => "absent",
        };
        let param = match param {
            "number" => StoredParam::Value(Datum::Int(7)),
            "text" => StoredParam::Value(Datum::Text("text".into())),
            "list" if most_values > 1_000 => StoredParam::Value(values(1_000)),
            "list" | "huge" => StoredParam::TooLarge,
            _ => StoredParam::Absent,
        };
        ParamRead { param, bytes: PARAMS }
    }
    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView> {
        let named = if name == "loss" { SEQUENCES } else { 0 };
        self.count(1 + named as u64);
        vec![&EmptySequence; named]
    }
}

fn options() -> QueryOptions {
    QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 }
}

/// Evaluates a query. Returns the outcome, and the steps that it took.
fn evaluate(text: &str, run: &LargestRun) -> (Result<Outcome, BudgetError>, u64) {
    let query = compile(text, options()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let limits = QueryLimits::default();
    let mut evaluator = query.evaluator(limits);
    let outcome = evaluator.run(run);
    (outcome, limits.steps_in_total - evaluator.steps_left())
}

#[test]
fn rule_51_a_query_pays_for_what_it_reads() {
    for node in [
        "run.number != 7",
        "run.absent != None",
        "run.absent.a.b != None",
        "run.text.upper() == 'x'",
        "run.finalized_at == 1",
        "'x' in run.list",
        "'absent' in run",
        "'huge' in run and False",
        "run[str(x)] != None",
        "run['a', str(x)] != None",
        "(lambda r: r.number)(run) != 7",
        "(lambda r: r.finalized_at)(run) == 1",
        "metric.name == 'absent'",
        "not (metric.name == 'loss')",
        "run.metrics['absent'].last != None",
        "run.metrics['loss', {}].last != None",
        "run.metrics['loss'].last != None",
        "'absent' in run.metrics",
        "'x' in run.tags",
        "run.tags == ['x']",
        "len(run.tags) == 1",
        "'x' in (lambda r: r.tags)(run)",
        "any(tag == 'x' for tag in run.tags)",
        "str(run.tags) == 'x'",
    ] {
        let run = LargestRun::default();
        let text = format!("any({node} {ROUNDS})");
        let (outcome, steps) = evaluate(&text, &run);
        assert!(!matches!(outcome, Ok(Outcome::Match)), "{text}: {outcome:?}");
        // The last read is paid for after it was made.
        let last = (PARAMS as u64 / STEP_BYTES).max(SEQUENCES as u64);
        let work = run.work.get();
        assert!(work <= steps + last, "{text}: {work} for {steps} steps");
    }
}

#[test]
fn rule_51_a_value_or_its_absence_is_read_once_for_a_candidate() {
    for (node, reads) in [
        ("run.number != 7", 1),
        ("run.absent != None", 1),
        ("run.list == 1", 1),
        ("run.finalized_at == 1", 1),
        // The path, and the value at its first key, which decides.
        ("run.number.real.real != 7", 2),
    ] {
        let run = LargestRun::default();
        let text = format!("any({node} for x in range(1000))");
        assert_eq!(evaluate(&text, &run).0, Ok(Outcome::NoMatch), "{text}");
        assert_eq!(run.reads.get(), reads, "{text}");
    }
}

#[test]
fn a_membership_test_decodes_nothing() {
    let run = LargestRun::default();
    for (text, outcome) in [
        ("'huge' in run and 'list' in run", Outcome::Match),
        ("'absent' in run", Outcome::NoMatch),
        ("run.huge == 1", Outcome::Raised(Exception::MemoryError)),
    ] {
        assert_eq!(evaluate(text, &run).0, Ok(outcome), "{text}");
    }
}

/// A run whose params cost too much is no match. The search goes on.
#[test]
fn an_expensive_run_does_not_end_a_search() {
    let query = compile("any(run[str(x)] for x in range(1000))", options()).unwrap();
    let mut evaluator = query.evaluator(QueryLimits::default());
    for _ in 0..2 {
        let outcome = evaluator.run(&LargestRun::default());
        assert_eq!(outcome, Ok(Outcome::Raised(Exception::MemoryError)));
    }
}

#[test]
fn rule_51_an_abandoned_evaluation_stops() {
    let checks = Cell::new(0);
    let is_stopped = || {
        checks.set(checks.get() + 1);
        checks.get() == 3
    };
    let query = compile(&format!("any(x < 0 {ROUNDS})"), options()).unwrap();
    let limits = QueryLimits::default();
    let mut evaluator = query.stoppable_evaluator(limits, &is_stopped);
    assert_eq!(evaluator.run(&LargestRun::default()), Err(BudgetError::Stopped));
    let steps = limits.steps_in_total - evaluator.steps_left();
    assert!((2 * 65_536..4 * 65_536).contains(&steps), "{steps}");
}
