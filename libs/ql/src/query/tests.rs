//! Work that a query causes in the view of a run, against the steps that it pays. Work is counted,
//! never timed: bytes that are passed over, and elements that are returned.

use std::cell::Cell;

use super::*;
use crate::{Datum, Endpoint, ParamRead, SequenceSummary, StoredParam};

/// Params of the largest run, in bytes.
const PARAMS: usize = 6 << 20;
/// Sequences of the largest run with one name.
const SEQUENCES: usize = 10_000;
/// Most tags of a run.
const TAGS: usize = 256;
/// Bytes that a step pays for.
const STEP_BYTES: u64 = 64;
/// Length of a long text.
const LONG: u64 = 65_536;
/// Elements of a list.
const ELEMENTS: u64 = 1_000;
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
            "long" | "also_long" => StoredParam::Value(Datum::Text("x".repeat(LONG as usize).into())),
            "list" if most_values > 1_000 => StoredParam::Value(values(ELEMENTS as usize)),
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

/// Examples of every kind of node, each with the least steps of one evaluation after the first: the nodes, the
/// elements that they visit, and one for every 64 bytes of text or digits. An example with 0 raises, which ends the
/// evaluation of the candidate. A kind of node without an example does not compile.
macro_rules! node_examples {
    ($($kind:ident: $($text:literal $steps:expr),+;)+) => {
        const NODE_EXAMPLES: &[(&str, &[(&str, u64)])] =
            &[$((stringify!($kind), &[$(($text, $steps)),+])),+];

        fn kind(node: &Node) -> &'static str {
            match node {
                $(Node::$kind { .. } => stringify!($kind),)+
            }
        }
    };
}

/// Bytes by which a list refers to an element.
const REFERENCE: u64 = 8;
const LONG_STEPS: u64 = LONG / STEP_BYTES;
/// Steps for the digits of 7 ** 4000.
const DIGITS_STEPS: u64 = 11_229 / 8 / STEP_BYTES;

node_examples! {
    Const: "1" 1, "'text'" 1;
    Builtin: "len" 1;
    Unknown: "absent_name" 0;
    Local: "x" 1;
    Run: "run" 1;
    Property: "run.hash" 1;
    Tags: "run.tags" 1, "[*run.tags]" TAGS as u64;
    Metrics: "run.metrics" 1;
    Param: "run.long" 1, "run.list" 1;
    ParamOr: "run.finalized_at" 1;
    Sequence: "metric" 1;
    SequenceField: "metric.last" 1;
    Context: "metric.context.subset" 1;
    HasSequence: "metric.name == 'loss'" SEQUENCES as u64, "metric.name == 'absent'" 1;
    Metric: "run.metrics['loss']" SEQUENCES as u64, "run.metrics['absent']" 1;
    Attribute: "x.real" 2;
    Index: "run.list[x]" 3;
    Slice: "run.long[1:]" LONG_STEPS, "run.list[1:]" (ELEMENTS - 1) * REFERENCE / STEP_BYTES;
    Call: "str(run.list)" ELEMENTS, "sorted(run.list)" ELEMENTS, "max(run.list)" ELEMENTS, "int(run.long)" 0;
    MethodCall: "run.long.upper()" LONG_STEPS, "run.long.find('y')" LONG_STEPS, "run.list.count(x)" ELEMENTS;
    And: "1 and x" 1, "run.long and run.list and x" 3;
    Or: "x or x" 2;
    Not: "not x" 2;
    If: "x if x else x" 3;
    Compare: "run.long == run.also_long" LONG_STEPS, "'y' in run.long" LONG_STEPS, "-1 in run.list" ELEMENTS;
    Chain: "run.long <= run.also_long <= run.long" 2 * LONG_STEPS;
    Unary: "-(run.number ** 4000)" DIGITS_STEPS, "-x" 2;
    Binary: "run.long + run.also_long" 2 * LONG_STEPS, "run.list + run.list" 2 * ELEMENTS, "run.number ** 4000" DIGITS_STEPS;
    Display: "[*run.list]" ELEMENTS, "{*run.list}" ELEMENTS, "(x, x)" 3;
    Dict: "{'a': x, 'b': x}" 5, "{**{str(y): y for y in run.list}}" 2 * ELEMENTS;
    Comprehension: "[y for y in run.list]" ELEMENTS, "{y: y for y in run.list}" ELEMENTS;
    Lambda: "lambda: x" 1, "(lambda y: y)(x)" 3;
    Assign: "(y := x)" 2;
    Format: "f'{run.long}'" LONG_STEPS, "f'{x:>640}'" 10, "f'{run.list}'" ELEMENTS;
}

/// Evaluates an example as often as asked. Returns the outcome, and the steps that it took.
fn evaluate_example(kind: &str, text: &str, rounds: u64) -> (Outcome, u64) {
    let is_of_sequence = matches!(kind, "Sequence" | "SequenceField" | "Context");
    let endpoint = if is_of_sequence { Endpoint::Metric } else { Endpoint::Run };
    let text = format!("[{text} for x in range({rounds})] == 0");
    let query =
        compile(&text, QueryOptions { endpoint, ..options() }).unwrap_or_else(|it| panic!("{text}: {it}"));
    let mut has_kind = false;
    query.program.root.walk(&mut |node| has_kind |= self::kind(node) == kind);
    assert!(has_kind, "{text} has no {kind}");
    let limits = QueryLimits::default();
    let mut evaluator = query.evaluator(limits);
    let run = LargestRun::default();
    let outcome = if is_of_sequence { evaluator.sequence(&run, &EmptySequence) } else { evaluator.run(&run) };
    (outcome.unwrap_or_else(|it| panic!("{text}: {it}")), limits.steps_in_total - evaluator.steps_left())
}

#[test]
fn rule_51_every_kind_of_node_pays_for_its_work() {
    const MORE_ROUNDS: u64 = 4;
    let mut unpaid = Vec::new();
    for (kind, examples) in NODE_EXAMPLES {
        for (text, least) in *examples {
            let (outcome, first) = evaluate_example(kind, text, 1);
            if *least == 0 {
                assert!(matches!(outcome, Outcome::Raised(_)), "{text}: {outcome:?}");
                continue;
            }
            let (outcome, all) = evaluate_example(kind, text, 1 + MORE_ROUNDS);
            assert_eq!(outcome, Outcome::NoMatch, "{text}");
            // Without the step for the element of the range.
            let steps = (all - first) / MORE_ROUNDS - 1;
            if steps < *least {
                unpaid.push(format!("{text}: {steps} steps instead of {least}"));
            }
        }
    }
    assert!(unpaid.is_empty(), "{unpaid:#?}");
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
