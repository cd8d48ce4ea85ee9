//! Plans in their textual form, and the choice among probes by counts. `tests/plans.rs`
//! verifies over random queries and runs that no plan leaves out a match.

use super::{AccessPath, Probe, Statistics};
use crate::{Endpoint, QueryOptions, compile};

fn plan(endpoint: Endpoint, text: &str) -> String {
    let options = QueryOptions { endpoint, offset_minutes: 0, now: 1_700_000_000.0 };
    compile(text, options).expect(text).plan().to_string()
}

/// Query and expected plan, without the default filter.
const RUNS: &[(&str, &str)] = &[
    // Properties.
    ("run.hash == 'a'", r#"hash = "a"; exact"#),
    ("'a' == run.hash", r#"hash = "a"; exact"#),
    ("run.hash in ['a', 'b']", r#"(hash = "a" or hash = "b"); exact"#),
    ("run.hash == 'a' and run.hash == 'b'", "nothing; exact"),
    ("run.name == 'a'", r#"name = "a"; exact"#),
    ("run.name.startswith('re')", r#"name starts with "re"; exact"#),
    ("run.name.startswith(('a', 'b'))", r#"(name starts with "a" or name starts with "b"); exact"#),
    ("run.name.startswith('')", r#""" <= name; exact"#),
    ("run.name > 's'", r#""s" < name; exact"#),
    ("'a' < run.name <= 'b'", r#""a" < name <= "b"; exact"#),
    ("run.name != 'a'", "; superset"),
    ("not run.name != 'a'", r#"name = "a"; exact"#),
    ("run.experiment == 'b'", r#"experiment = "b"; exact"#),
    ("run.experiment is None", "no experiment; superset"),
    ("run.experiment == None", "no experiment; exact"),
    ("run.experiment in ('a', None)", r#"(experiment = "a" or no experiment); exact"#),
    ("run.experiment != 'b'", "; superset"),
    ("run.experiment == 'a' and run.experiment == 'b'", "nothing; exact"),
    ("run.parent == 'a'", r#"(param parent = "a" or parent = "a"); superset"#),
    ("'a' == run.parent", r#"(param parent = "a" or parent = "a"); superset"#),
    ("run.parent is None", "; superset"),
    ("run.parent != 'a'", "; superset"),
    ("run.active", "active = true; exact"),
    ("not run.active", "active = false; exact"),
    ("run.active == False", "active = false; exact"),
    ("run.active == 1", "active = true; exact"),
    ("run.active == 2", "nothing; exact"),
    ("run.active > 0", "active = true; exact"),
    ("run.active is False", "active = false; exact"),
    ("run.active in (True,)", "active = true; exact"),
    ("run.active < 'a'", "nothing; exact"),
    ("run.active and not run.active", "nothing; exact"),
    ("run.created_at > 5", "5.0 < created_at; exact"),
    ("run.creation_time == 5", "created_at = 5.0; exact"),
    ("5 < run.created_at and run.created_at <= 7.5", "5.0 < created_at <= 7.5; exact"),
    ("5 < run.created_at < 5", "nothing; exact"),
    ("run.created_at >= datetime(2024, 1, 1)", "1704067200.0 <= created_at; exact"),
    ("run.created_at > datetime.now() - timedelta(days=1)", "1699913600.0 < created_at; exact"),
    ("run.end_time < 5", "end_time < 5.0; exact"),
    ("run.end_time is None", "; superset"),
    ("run.duration > 5", "; superset"),
    ("run.description == ''", "; superset"),
    // Tags and sequences.
    ("'cv' in run.tags", r#"tag "cv"; exact"#),
    ("run.tags.contains('cv')", r#"tag "cv"; exact"#),
    ("'cv' not in run.tags", "; superset"),
    ("not 'cv' not in run.tags", r#"tag "cv"; exact"#),
    ("'a' in run.tags and 'b' in run.tags", r#"tag "a" and tag "b"; exact"#),
    ("run.metrics['loss'].last < 1", r#"sequence = "loss"; superset"#),
    ("run.metrics['loss'].last is None", "; superset"),
    ("run.metrics['loss'].last is not None", "; superset"),
    ("run.metrics['loss']", r#"sequence = "loss"; superset"#),
    ("run.metrics['loss', {}].last == 1", r#"sequence = "loss"; superset"#),
    ("'loss' in run.metrics", r#"sequence = "loss"; exact"#),
    ("metric.name == 'loss'", r#"sequence = "loss"; exact"#),
    ("metric.name in ('a', 'b')", r#"(sequence = "a" or sequence = "b"); exact"#),
    // Params.
    ("run.hparams.lr == 0.1", "param hparams.lr = 0.1; exact"),
    ("run['hparams']['lr'] == 1", "param hparams.lr = 1.0; exact"),
    ("run['hparams'].lr == True", "param hparams.lr = 1.0; exact"),
    ("run['a', 'b'] == 1", "param a.b = 1.0; exact"),
    ("run.hparams['a b'] == 'x'", r#"param hparams."a b" = "x"; exact"#),
    ("run['a.b'] == 1", r#"param "a.b" = 1.0; exact"#),
    ("run.a.b.c.d <= -0.5", "param a.b.c.d <= -0.5; exact"),
    ("run.lr == -0.0", "param lr = 0.0; exact"),
    ("0.0001 <= run.hparams.lr < 0.01", "0.0001 <= param hparams.lr < 0.01; exact"),
    ("run.x > 1 and run.x < 'a'", "nothing; exact"),
    ("run.x == 9007199254740993", "param x = 9007199254740992.0; superset"),
    ("run.x < 9007199254740993", "param x <= 9007199254740992.0; superset"),
    ("run.x > 2**70", "1.1805916207174113e21 <= param x; superset"),
    ("run.x < 10**400", "param x <= inf; superset"),
    ("run.x == math.nan", "nothing; exact"),
    ("run.x < math.nan", "nothing; exact"),
    ("run.x < None", "nothing; exact"),
    ("run.x == None", "; superset"),
    ("run.x is None", "; superset"),
    ("run.x is True", "param x = 1.0; superset"),
    ("run.x != 3", "; superset"),
    ("not run.x != 3", "param x = 3.0; exact"),
    ("run.x in [1, 'a']", r#"(param x = 1.0 or param x = "a"); exact"#),
    ("run.x in [1, None]", "; superset"),
    ("run.x not in [1]", "; superset"),
    ("run.x in []", "nothing; exact"),
    ("run.x.startswith('a')", r#"param x starts with "a"; exact"#),
    ("run.x", "; superset"),
    ("run.x.real == 3", "; superset"),
    ("run.x == [1]", "; superset"),
    ("run.get('x') == 3", "param x = 3.0; exact"),
    ("run.finalized_at == 3", "; superset"),
    ("3 in run.x", "; superset"),
    ("run.created_at in 'ab' or run.active", "; superset"),
    ("run.x + 1 == 2", "; superset"),
    // Combinations.
    ("run.x == 1 or run.y == 2", "(param x = 1.0 or param y = 2.0); exact"),
    ("run.x == 1 or run.name", "; superset"),
    ("run.x > 1 or run.active", "(1.0 < param x or active = true); superset"),
    ("run.active or run.x > 1", "(active = true or 1.0 < param x); exact"),
    ("run.x == 1 and run.name.endswith('a')", "param x = 1.0; superset"),
    (
        "run.x == 1 if run.active else run.y == 2",
        "((active = true and param x = 1.0) or (active = false and param y = 2.0)); exact",
    ),
    ("not (run.active or run.archived)", "active = false; exact"),
    ("foo == 1", "nothing; exact"),
    ("foo or run.active", "nothing; exact"),
    ("run.active or foo", "active = true; exact"),
    ("True", "; exact"),
    ("1", "; exact"),
    ("False", "nothing; exact"),
    ("[]", "; superset"),
    ("any([t in run.tags for t in ('a',)])", "; superset"),
];

#[test]
fn plans_of_run_searches() {
    for (query, expected) in RUNS {
        let (runs, rest) = expected.split_once("; ").expect("a kind");
        let expected = match runs {
            "nothing" => format!("nothing; {rest}"),
            "" => format!("archived = false; {rest}"),
            runs => format!("archived = false and {runs}; {rest}"),
        };
        assert_eq!(plan(Endpoint::Run, query), expected, "{query}");
    }
}

#[test]
fn an_explicit_archived_filter_replaces_the_default_one() {
    for (query, expected) in [
        ("", "archived = false; exact"),
        ("run.archived == True", "archived = true; exact"),
        ("run.is_archived != False", "archived = true; exact"),
        ("(run.archived == True) or True", "everything; exact"),
        ("run.archived in (True, False)", "archived = true or archived = false; exact"),
        ("run.archived", "nothing; exact"),
        ("not run.archived", "archived = false; exact"),
    ] {
        assert_eq!(plan(Endpoint::Run, query), expected, "{query}");
    }
}

#[test]
fn plans_of_sequence_searches() {
    for (query, expected) in [
        ("", "archived = false; exact"),
        ("metric.name == 'a'", r#"archived = false and sequence = "a"; superset; sequences name = "a""#),
        ("'a' == metric.name", r#"archived = false and sequence = "a"; superset; sequences name = "a""#),
        (
            "metric.name in ['a', 'b'] and metric.last > 1",
            r#"archived = false and (sequence = "a" or sequence = "b"); superset; sequences name = "a" or name = "b""#,
        ),
        (
            "metric.name.startswith('__system__')",
            r#"archived = false and sequence starts with "__system__"; superset; sequences name starts with "__system__""#,
        ),
        (
            "metric.name == 'a' or run.experiment == 'b'",
            r#"archived = false and (sequence = "a" or experiment = "b"); superset"#,
        ),
        (
            "metric.name == 'a' and metric.name == 'b'",
            r#"archived = false and sequence = "a" and sequence = "b"; superset; no sequences"#,
        ),
        (
            "not (metric.name != 'a')",
            r#"archived = false and sequence = "a"; superset; sequences name = "a""#,
        ),
        ("metric.name != 'a'", "archived = false; superset"),
        (
            "'a' <= metric.name < 'c'",
            r#"archived = false and "a" <= sequence and sequence < "c"; superset; sequences "a" <= name < "c""#,
        ),
        ("metric.last > 1 and run.hparams.lr == 1", "archived = false and param hparams.lr = 1.0; superset"),
        ("images.name == 'a'", "nothing; exact"),
    ] {
        assert_eq!(plan(Endpoint::Metric, query), expected, "{query}");
    }
}

struct Counts(u64, &'static [(&'static str, u64)]);

impl Statistics for Counts {
    fn runs(&self) -> u64 {
        self.0
    }
    fn count(&self, probe: &Probe) -> Option<u64> {
        let probe = probe.to_string();
        self.1.iter().find(|(name, _)| *name == probe).map(|(_, count)| *count)
    }
}

fn described(access: &AccessPath<'_>) -> String {
    let list = |parts: &[AccessPath<'_>]| parts.iter().map(described).collect::<Vec<_>>().join(", ");
    match access {
        AccessPath::Scan => "scan".into(),
        AccessPath::Nothing => "nothing".into(),
        AccessPath::Probe(probe) => probe.to_string(),
        AccessPath::Intersect(parts) => format!("all of [{}]", list(parts)),
        AccessPath::Union(parts) => format!("any of [{}]", list(parts)),
    }
}

#[test]
fn the_most_selective_probes_are_chosen() {
    let counts = Counts(
        100_000,
        &[
            ("archived = false", 99_000),
            ("active = true", 5_000),
            (r#"tag "a""#, 1_000),
            (r#"tag "b""#, 2_000),
            (r#"tag "big""#, 60_000),
            (r#"hash = "h""#, 1),
        ],
    );
    for (query, access, exact, estimate) in [
        ("", "scan", false, 100_000),
        ("run.hash == 'h'", r#"hash = "h""#, false, 1),
        ("'a' in run.tags", r#"tag "a""#, false, 1_000),
        ("'a' in run.tags and 'b' in run.tags", r#"all of [tag "a", tag "b"]"#, false, 20),
        ("run.archived != True and 'a' in run.tags", r#"tag "a""#, false, 1_000),
        (
            "('a' in run.tags or 'b' in run.tags) and run.archived == run.archived",
            r#"any of [tag "a", tag "b"]"#,
            false,
            3_000,
        ),
        ("'a' in run.tags or 'big' in run.tags", "scan", false, 100_000),
        ("'a' in run.tags or 'unknown' in run.tags", "scan", false, 100_000),
        ("'unknown' in run.tags and 'a' in run.tags", r#"tag "a""#, false, 1_000),
        ("foo", "nothing", true, 0),
    ] {
        let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
        let plan = compile(query, options).expect(query).plan();
        let choice = plan.choose(&counts);
        assert_eq!(
            (described(&choice.access).as_str(), choice.exact, choice.estimate),
            (access, exact, estimate),
            "{query}"
        );
    }
}

/// Counts of a project in which many runs have their params only in documents.
struct ListedCounts(Counts, u64);

impl Statistics for ListedCounts {
    fn runs(&self) -> u64 {
        self.0.runs()
    }
    fn count(&self, probe: &Probe) -> Option<u64> {
        self.0.count(probe)
    }
    fn listed(&self) -> u64 {
        self.1
    }
}

#[test]
fn a_probe_of_a_param_costs_the_listed_runs() {
    const COUNTS: &[(&str, u64)] = &[
        ("archived = false", 299_000),
        ("param lr = 1.0", 10),
        ("param x = 1.0", 20),
        (r#"tag "a""#, 1_000),
        (r#"tag "b""#, 30_000),
    ];
    for (listed, query, access, estimate) in [
        (0, "run.lr == 1 and 'a' in run.tags", "param lr = 1.0", 10),
        (50, "run.lr == 1 and 'a' in run.tags", "param lr = 1.0", 60),
        (40_000, "run.lr == 1 and 'a' in run.tags", r#"tag "a""#, 1_000),
        // 4,000 of the listed runs have the tag.
        (40_000, "run.lr == 1 and 'b' in run.tags", r#"all of [tag "b", param lr = 1.0]"#, 4_001),
        (40_000, "run.lr == 1", "param lr = 1.0", 40_010),
        // All params have the same list.
        (40_000, "run.lr == 1 or run.x == 1", "any of [param lr = 1.0, param x = 1.0]", 40_030),
        (40_000, "run.lr == 1 and run.x == 1", "all of [param lr = 1.0, param x = 1.0]", 40_000),
        (40_000, "'a' in run.tags and (run.lr == 1 or run.x == 1)", r#"tag "a""#, 1_000),
        (60_000, "run.lr == 1", "scan", 300_000),
    ] {
        let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
        let plan = compile(query, options).expect(query).plan();
        let choice = plan.choose(&ListedCounts(Counts(300_000, COUNTS), listed));
        assert_eq!(
            (described(&choice.access).as_str(), choice.estimate),
            (access, estimate),
            "{listed} {query}"
        );
    }
}

#[test]
fn a_choice_is_exact_if_it_covers_an_exact_plan() {
    let counts = Counts(100_000, &[("archived = true", 50), ("active = true", 60)]);
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
    for (query, access, exact) in [
        ("run.archived == True", "archived = true", true),
        ("run.archived == True and run.active", "all of [archived = true, active = true]", true),
        ("run.archived == True and run.name.isdigit()", "archived = true", false),
    ] {
        let plan = compile(query, options).expect(query).plan();
        let choice = plan.choose(&counts);
        assert_eq!((described(&choice.access).as_str(), choice.exact), (access, exact), "{query}");
    }
    let everything = compile("run.archived == True or True", options).expect("a query").plan();
    assert!(everything.choose(&counts).exact);
}

#[test]
fn hostile_queries_have_small_plans() {
    let nested = (0..60).fold("run.x == 1".to_owned(), |inner, depth| {
        format!("(run.a{depth} == 1 if ({inner}) else run.b{depth} == 2)")
    });
    let many = (0..2_000).map(|at| format!("run.x == {at}")).collect::<Vec<_>>().join(" or ");
    for query in [nested, many] {
        let plan = compile(&query, QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 });
        assert!(plan.expect("compiles").plan().probes().len() <= 4_100);
    }
}
