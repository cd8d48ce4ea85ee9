//! Hostile queries: for any text, compilation and evaluation end within their budgets and
//! without a panic. Test threads have a stack of 2 MiB, like the threads of a server.

use crate::memory::{Run, Sequence};
use matyan_ql::{
    BudgetError, Endpoint, ErrorKind, Exception, Outcome, QueryError, QueryLimits, QueryOptions, compile,
};
use proptest::prelude::*;
use serde_json::json;

fn options() -> QueryOptions {
    QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 1e9 }
}

fn run() -> Run {
    let list: Vec<i64> = (0..50_000).collect();
    let nested = (0..90).fold(json!(1), |inner, _| json!([inner]));
    let tree = (0..90).fold(json!({"leaf": 1}), |inner, _| json!({ "a": inner }));
    Run {
        hash: "h".into(),
        name: "n".repeat(10_000),
        params: json!({"list": list, "nested": nested, "tree": tree, "text": "x".repeat(100_000)}),
        sequences: vec![Sequence { name: "loss".into(), context: json!({}), ..Sequence::default() }],
        ..Run::default()
    }
}

#[derive(Debug, PartialEq)]
enum End {
    Refused(QueryError),
    Evaluated(Outcome),
    OverBudget(BudgetError),
}

fn end(text: &str, limits: QueryLimits) -> End {
    match compile(text, options()) {
        Err(error) => End::Refused(error),
        Ok(query) => match query.evaluator(limits).run(&run()) {
            Ok(outcome) => End::Evaluated(outcome),
            Err(budget) => End::OverBudget(budget),
        },
    }
}

#[test]
fn expensive_expressions_exceed_the_budget() {
    use BudgetError::{CandidateSteps, Depth, Memory};
    let mut wrong = Vec::new();
    for (text, budget) in [
        ("[1 for x in range(1000) for y in range(1000) for z in range(1000)] == []", Memory),
        ("sum(x * y for x in range(1000) for y in range(1000) for z in range(1000))", CandidateSteps),
        ("any(x == -1 for x in run.list for y in run.list)", CandidateSteps),
        ("run.name * 10**6", Memory),
        ("[run.name] * 10**10", Memory),
        ("(run.name,) * 10**7", Memory),
        ("(x := run.text) and [x := x + x for i in range(100)]", Memory),
        ("(x := [1]) and [x := x + x for i in range(100)]", Memory),
        ("(x := len(run.name)) and [x := x * x for i in range(100)]", Memory),
        ("len(run.name) ** 9 ** 9 > 0", Memory),
        ("1 << len(run.name) * 100", Memory),
        ("math.factorial(len(run.name))", Memory),
        ("math.comb(10**8 + len(run.name), 5 * 10**7)", Memory),
        ("f'{run.hash:>{10**9}}'", Memory),
        ("'%*d' % (10**9, len(run.hash))", Memory),
        ("run.hash.ljust(10**9)", Memory),
        ("run.hash.zfill(10**9)", Memory),
        ("('\\t' * len(run.name)).expandtabs(10**6)", Memory),
        ("run.text.replace('', run.text)", Memory),
        ("run.text.join(run.text)", Memory),
        ("run.text.join([run.text for x in range(1000)])", Memory),
        ("bytes(10**9 + len(run.name))", Memory),
        ("[run.text.count('y') for x in range(1000) for y in range(1000)]", CandidateSteps),
        ("[run.text.upper() for x in range(1000)]", Memory),
        ("sorted(run.list * 100)", Memory),
        ("{x * y for x in range(1000) for y in range(1000)}", CandidateSteps),
        ("{(x, y): 1 for x in range(1000) for y in range(1000)}", CandidateSteps),
        ("(f := lambda n: f(n + 1))(0)", Depth),
        ("(f := lambda: [f() for x in [1]])()", Depth),
        ("(g := [1]) and [g := map(lambda x: x, g) for i in range(1000)] and list(g)", Depth),
        ("pow(3, 10**4000 + len(run.name), 10**4000 + 1)", CandidateSteps),
        (
            "(lambda a, b: any(a != b for x in range(1000) for y in range(300)))(run.text * 30, run.text * 30)",
            CandidateSteps,
        ),
        (
            "(lambda a, b: any(a < b for x in range(1000) for y in range(300)))(run.text.encode() * 30, run.text.encode() * 30)",
            CandidateSteps,
        ),
        (
            "(lambda a, b: any(not a.startswith(b) for x in range(1000) for y in range(300)))(run.text * 30, run.text * 30)",
            CandidateSteps,
        ),
        ("(run.text * 70).split('x')", Memory),
        ("(run.text * 70).rsplit('x')", Memory),
        ("(' ' + run.text.replace('x', 'x ') * 20).split()", Memory),
        ("run.text.replace('x', '\\n\\n').splitlines() * 3", Memory),
    ] {
        let start = std::time::Instant::now();
        let found = end(text, QueryLimits::default());
        println!("{:>6} us  {text}", start.elapsed().as_micros());
        if found != End::OverBudget(budget) {
            wrong.push(format!("{text}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls that CPython answers with megabytes, or whose times no clock can show, raise or do not
/// match.
#[test]
fn odd_arguments_match_nothing() {
    for text in [
        "f'{1.5:.100000f}'",
        "f'{1.5:.70000}'",
        "f'{len(run.name):.70000g}'",
        "'%.100000f' % 1.5",
        "'%.100000e' % len(run.name)",
        "datetime(9999, 12, 31, 23, 59)",
        "datetime.fromisoformat('9999-12-31T23:59:59-23:59')",
        "datetime.fromtimestamp(1e18)",
        "datetime.fromtimestamp(math.nan)",
        "timedelta(days=1e300)",
        "(run.created_at + 1e300).year",
        "(run.created_at - timedelta(days=999999999)).isoformat()",
        "round(len(run.name) * 1.5, 2**62) == 'x' or round(1e300, -2**63)",
        "[1][2**62:-2**63:-2**63] == [] and [1][2**63]",
        "'x'.center(-2**63) and 'x'.zfill(-2**63) and ''.ljust(2**63)",
        "(2**63 - 1) // -1 == 0 or (-2**63) // 0",
        "(-2**63) % 0",
        "abs(-2**63) > 0 and chr(2**63)",
        "int('9' * 5000)",
        "str(10 ** 4400)",
        "range(-2**63, 2**63 - 1, 2**62)[9]",
        "'abc'.find('b', -2**63, 2**63 - 1) == 1 and 'abc'.index('x', 2**63 - 1)",
        "divmod(-2**63, -1) and divmod(1, 0)",
        "math.ldexp(1.5, 2**62)",
        "1 >> 2**62 == 0 and 1 >> -1",
    ] {
        let options = QueryOptions { offset_minutes: 240, ..options() };
        let query = compile(text, options).unwrap_or_else(|error| panic!("{text}: {error}"));
        let outcome = query.evaluator(QueryLimits::default()).run(&run());
        assert!(matches!(outcome, Ok(outcome) if !outcome.is_match()), "{text}: {outcome:?}");
    }
}

/// Scanning megabytes takes milliseconds for any search term.
#[test]
fn long_texts_are_searched_in_linear_time() {
    for text in [
        "(run.text.encode() * 15 + b'y') in (run.text.encode() * 30)",
        "(run.text.encode() * 30).find(run.text.encode() * 15 + b'y') >= 0",
        "(run.text.encode() * 30).count(run.text.encode() * 15 + b'y') > 0",
        "(run.text * 15 + 'y') in (run.text * 30)",
        "(run.text * 20).strip(run.text.replace('x', 'y') * 15 + 'x') != ''",
        "(lambda a, b: any(a is b for x in range(100) for y in range(1000)))(run.text * 30, run.text * 30)",
    ] {
        assert_eq!(end(text, QueryLimits::default()), End::Evaluated(Outcome::NoMatch), "{text}");
    }
}

/// A run with a huge value does not match a query that reads it, and the search continues.
#[test]
fn huge_values_of_one_run_do_not_end_a_search() {
    let list: Vec<i64> = (0..2_000_000).collect();
    let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
    let huge = Run { params: json!({ "list": list, "deep": deep, "x": 1 }), ..Run::default() };
    let query = compile("3 in run.list or run.deep", options()).unwrap();
    let mut evaluator = query.evaluator(QueryLimits::default());
    assert_eq!(evaluator.run(&huge), Ok(Outcome::Raised(Exception::MemoryError)));
    assert_eq!(evaluator.run(&run()), Ok(Outcome::Match));
    let beside = compile("run.x == 1", options()).unwrap();
    assert_eq!(beside.evaluator(QueryLimits::default()).run(&huge), Ok(Outcome::Match));
    let deep = compile("run.deep == 1", options()).unwrap();
    assert_eq!(
        deep.evaluator(QueryLimits::default()).run(&huge),
        Ok(Outcome::Raised(Exception::MemoryError))
    );
}

#[test]
fn deep_values_do_not_overflow_the_stack() {
    for text in [
        "run.nested == run.nested",
        "run.tree == run.tree",
        "repr(run.nested) != ''",
        "str(run.tree) != ''",
        "(x := run.nested) and [x := [x] for i in range(1000)] and x == x",
        "(x := 1) and [x := [x] for i in range(1000)] and repr(x)",
        "(x := 1) and [x := (x,) for i in range(1000)] and hash(x)",
        "(x := 1) and [x := (x,) for i in range(1000)] and x < x",
        "(x := 1) and [x := {'a': x} for i in range(1000)] and x == x",
        "(x := {}) and [x := [x, x] for i in range(60)] and x == x",
        "(x := []) == [] and [x := [x, x] for i in range(60)] and x == x",
        "(x := []) == [] and [x := [x, x] for i in range(60)] and repr(x)",
        "(x := int) and any((x := (x,)) == 1 for i in range(1000) for j in range(90)) or isinstance(1, x)",
        "(x := int) and any((x := (x,)) == 1 for i in range(1000) for j in range(90)) or issubclass(int, x)",
    ] {
        assert!(!matches!(end(text, QueryLimits::default()), End::Refused(_)), "{text}");
    }
}

#[test]
fn texts_that_nest_too_deeply_are_refused() {
    let wrap =
        |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    for text in [
        wrap("(", ")", 300),
        wrap("[", "]", 300),
        wrap("(", ")", 30_000),
        wrap("f(", ")", 30_000),
        wrap("{1:", "}", 10_000),
        wrap("not ", "", 3_000),
        wrap("not ", "", 15_000),
        wrap("-", "", 60_000),
        wrap("~", "", 60_000),
        wrap("lambda: ", "", 8_000),
        wrap("lambda a=", ": 1", 8_000),
        wrap("lambda a, b=lambda c, d=", ": 1", 1_000),
        wrap("1 if 1 else ", "", 5_000),
        wrap("1 if ", " else 1", 4_000),
        wrap("2 ** ", "", 10_000),
        wrap("await ", "", 10_000),
        wrap("yield ", "", 10_000),
        wrap("[x for x in ", "]", 190),
        wrap("[x for x in y if ", "]", 190),
        wrap("1 < not ", "", 5_000),
        wrap("1 + not ", "", 5_000),
        wrap("*", "", 60_000),
        wrap("x := ", "", 10_000),
        format!("run{}", ".a".repeat(30_000)),
        format!("run{}", "[0]".repeat(20_000)),
        format!("run{}", "()".repeat(30_000)),
        format!("1{}", "+1".repeat(30_000)),
        format!("1{}", " @ 1".repeat(10_000)),
        format!("[1 {}]", "for x in y ".repeat(5_000)),
        "f'{".repeat(10_000),
        "f'{1:{".repeat(10_000),
        "(".repeat(60_000),
        "[({".repeat(20_000),
        "'".repeat(60_001),
        "\\\n".repeat(30_000),
    ] {
        let short: String = text.chars().take(40).collect();
        match compile(&text, options()) {
            Err(error) => {
                assert!(
                    error.line >= 1 && error.column >= 1 && error.typed.end <= text.len(),
                    "{short}: {error:?}"
                );
            }
            Ok(_) => panic!("{short} is accepted"),
        }
    }
}

#[test]
fn wide_texts_are_fine() {
    let joined = |part: &str, word: &str, count| vec![part; count].join(word);
    for text in [
        joined("run.hparams.seed == 1", " or ", 2_000),
        joined("not run.active", " and ", 900),
        joined("-1 < run.x", " and ", 3_000),
        format!("run.hash in [{}]", joined("'0123456789abcdef0123456789abcdef'", ", ", 1_500)),
        format!("run.x in ({})", joined("-1.5", ",", 10_000)),
        format!("max({}) == 1", joined("1", ",", 20_000)),
        format!("1 {} == 2", "+ 1 ".repeat(150)),
        format!("({}1{}) == 1", "(".repeat(150), ")".repeat(150)),
        format!("1 {}", "< 2 ".repeat(10_000)),
    ] {
        let short: String = text.chars().take(40).collect();
        assert!(
            matches!(end(&text, QueryLimits::default()), End::Evaluated(_)),
            "{short}: {:?}",
            end(&text, QueryLimits::default())
        );
    }
}

/// The deepest accepted trees can be evaluated on the stack of an ordinary thread, including
/// calls.
#[test]
fn the_deepest_trees_fit_the_stack() {
    let depth = 180;
    let sum = format!("1 {} == 2", "+ 1 ".repeat(depth));
    let lists = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let calls = format!("{}1{}", "abs(".repeat(depth), ")".repeat(depth));
    let texts = format!("run.name{}", ".strip()".repeat(depth / 2));
    let choices = format!("{}1{}", "(1 if ".repeat(depth), " else 2)".repeat(depth));
    let loops = format!("{}[1]{}", "[x for x in ".repeat(60), "]".repeat(60));
    let generators = format!("{}[1]{}", "list(x for x in ".repeat(60), ")".repeat(60));
    let lambda = format!("(f := lambda n: {}f(n){})(1)", "abs(".repeat(depth - 10), ")".repeat(depth - 10));
    for text in [sum, lists, calls, texts, choices, loops, generators, lambda] {
        let short: String = text.chars().take(40).collect();
        assert!(
            !matches!(end(&text, QueryLimits::default()), End::Refused(_)),
            "{short}: {:?}",
            end(&text, QueryLimits::default())
        );
    }
}

#[test]
fn custom_limits_are_enforced() {
    let text = "any(x == len(run.name) for x in range(900))";
    let limits = QueryLimits { steps_per_candidate: 1_000, ..QueryLimits::default() };
    assert_eq!(end(text, limits), End::OverBudget(BudgetError::CandidateSteps));
    assert!(matches!(end(text, QueryLimits::default()), End::Evaluated(_)));
    let limits = QueryLimits { memory: 10_000, ..QueryLimits::default() };
    assert_eq!(end("[x for x in range(1000)] == []", limits), End::OverBudget(BudgetError::Memory));

    let query = compile("run.name == 'x'", options()).unwrap();
    let mut evaluator = query.evaluator(QueryLimits { steps_in_total: 20, ..QueryLimits::default() });
    let outcomes: Vec<_> = (0..8).map(|_| evaluator.run(&run())).collect();
    assert!(outcomes[0].is_ok() && outcomes[7] == Err(BudgetError::TotalSteps), "{outcomes:?}");
}

#[test]
fn too_much_folding_is_refused() {
    let text = vec!["sum([1, 2, 3] * 20000) > 1"; 60].join(" or ");
    match end(&text, QueryLimits::default()) {
        End::Refused(error) => assert_eq!(error.kind, ErrorKind::Limit),
        other => panic!("{other:?}"),
    }
}

const WORDS: &[&str] = &[
    "run",
    ".",
    "name",
    "hparams",
    "lr",
    "metric",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "'a'",
    "\"b\"",
    "1",
    "2.5",
    "1e9",
    "0x",
    "==",
    "!=",
    "<",
    ">=",
    "=",
    ":=",
    "in",
    "not",
    "and",
    "or",
    "is",
    "if",
    "else",
    "for",
    "lambda",
    "x",
    "y",
    "*",
    "**",
    "+",
    "-",
    "/",
    "//",
    "%",
    "<<",
    "&",
    "|",
    "^",
    "~",
    "@",
    "f'{",
    "}'",
    "f\"",
    "!r",
    ":>5",
    "'''",
    "'",
    "\"",
    "\\",
    "\n",
    "#",
    "None",
    "True",
    "...",
    "await",
    "yield",
    "async",
    "range(9)",
    "sum",
    "sorted",
    "map",
    "str",
    "dict",
    "_",
    "__a__",
    "é",
    "\u{0}",
    "select",
    "SELECT",
    " IF ",
    ";",
    "$",
    "?",
    "!",
    "`",
    "->",
    "b'",
    "rb'",
    "\t",
    "\r\n",
    "9999999999999999999",
    "1j",
    "any(",
    "run.tags",
    "run.metrics['loss']",
    ".last",
    "datetime(2024,1,1)",
    "timedelta(1)",
    ".startswith(",
    ".join(",
    ".split()",
];

fn holds_budget(text: &str) -> Result<(), TestCaseError> {
    let limits = QueryLimits { steps_per_candidate: 20_000, steps_in_total: 100_000, memory: 1 << 20 };
    if let End::Refused(error) = end(text, limits) {
        prop_assert!(error.line >= 1 && error.column >= 1);
        prop_assert!((error.end_line, error.end_column) >= (error.line, error.column));
        prop_assert!(text.get(error.typed.clone()).is_some(), "{:?} of {text:?}", error.typed);
        prop_assert!(error.kind != ErrorKind::Limit || !error.message.is_empty());
    }
    if let Ok(query) = compile(text, options()) {
        let plan = query.plan();
        prop_assert!(!plan.to_string().is_empty() && plan.probes().len() <= 5_000);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_text_is_a_query_or_an_error(text in "\\PC{0,60}") {
        holds_budget(&text)?;
    }

    #[test]
    fn any_bytes_are_a_query_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        holds_budget(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_words_are_a_query_or_an_error(words in prop::collection::vec(prop::sample::select(WORDS), 0..24), blanks: bool) {
        holds_budget(&words.join(if blanks { " " } else { "" }))?;
    }
}

/// The number of probes is bounded; a query with more terms than that keeps none.
#[test]
fn plans_of_many_terms_stay_small() {
    for word in ["and", "or"] {
        let terms: Vec<String> = (0..3_000).map(|term| format!("run.a{term} < 1")).collect();
        let query =
            compile(&terms.join(&format!(" {word} ")), options()).expect("a long but flat query compiles");
        let probes = query.plan().probes().len();
        assert!(probes <= 1_024, "{word}: {probes}");
    }
}
