//! Measures evaluations per second of typical predicates over runs in memory, on one core, and
//! the time to compile and plan a query. Run it with `cargo run --release -p matyan-ql
//! --example ql_bench`.

use std::borrow::Cow;
use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use matyan_ql::{
    Datum, Endpoint, KeyPath, ParamRead, QueryLimits, QueryOptions, RunView, SequenceSummary, SequenceView,
    compile,
};

/// Small enough to stay in the cache, so that the evaluator is measured and not memory.
const RUNS: usize = 200;
const PARAMS: usize = 50;
const ROUNDS: usize = 2_000;

/// A run as a backend holds it during a scan: params found by path, values borrowed.
struct Run {
    hash: String,
    name: String,
    tags: Vec<String>,
    created_at: f64,
    /// Sorted by key.
    params: Vec<(String, Param)>,
    loss: Loss,
}

enum Param {
    Number(f64),
    Text(String),
    List(Vec<i64>),
}

struct Loss(f64);

impl SequenceView for Loss {
    fn name(&self) -> &str {
        "loss"
    }
    fn dtype(&self) -> &str {
        "float"
    }
    fn context(&self, path: &KeyPath) -> Option<Datum<'_>> {
        match path.keys() {
            [] => Some(Datum::Object(vec![("subset".into(), Datum::Text("val".into()))])),
            [key] if **key == *"subset" => Some(Datum::Text("val".into())),
            _ => None,
        }
    }
    fn summary(&self) -> SequenceSummary {
        SequenceSummary { last: Some(self.0), last_step: Some(99), ..SequenceSummary::default() }
    }
}

impl RunView for Run {
    fn hash(&self) -> &str {
        &self.hash
    }
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
    fn description(&self) -> Option<&str> {
        None
    }
    fn experiment(&self) -> Option<&str> {
        Some("baseline")
    }
    fn created_at(&self) -> f64 {
        self.created_at
    }
    fn end_time(&self) -> Option<f64> {
        Some(self.created_at + 60.0)
    }
    fn active(&self) -> bool {
        false
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
        self.tags.iter().map(String::as_str).collect()
    }
    fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
        let [first, key] = path.keys() else { return None.into() };
        if **first != *"hparams" {
            return None.into();
        }
        let found = self.params.binary_search_by(|(known, _)| (**known).cmp(&**key)).ok();
        let datum = found.map(|at| match &self.params[at].1 {
            Param::Number(number) => Datum::Float(*number),
            Param::Text(text) => Datum::Text(Cow::Borrowed(text)),
            Param::List(items) => Datum::List(items.iter().map(|item| Datum::Int(*item)).collect()),
        });
        datum.into()
    }
    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView> {
        if name == "loss" { vec![&self.loss] } else { Vec::new() }
    }
}

fn run(number: usize) -> Run {
    let mut params: Vec<(String, Param)> =
        (0..PARAMS).map(|at| (format!("p{at:03}"), Param::Number(at as f64))).collect();
    params.push(("lr".into(), Param::Number(number as f64 / RUNS as f64 / 10.0)));
    params.push((
        "optimizer".into(),
        Param::Text(if number.is_multiple_of(2) { "adam" } else { "sgd" }.into()),
    ));
    params.push(("layers".into(), Param::List(vec![64, 128, 256])));
    params.sort_by(|(a, _), (b, _)| a.cmp(b));
    Run {
        hash: format!("{number:032x}"),
        name: format!("{}-{number}", if number.is_multiple_of(3) { "x" } else { "resnet" }),
        tags: vec!["cv".into(), "production".into()],
        created_at: 1.7e9 + number as f64,
        params,
        loss: Loss(number as f64 / RUNS as f64),
    }
}

const QUERIES: [&str; 11] = [
    "run.hparams.lr < 0.01 and run.name.startswith('x')",
    "run.hparams.lr < 0.01",
    "run.active == False",
    "run.hparams.optimizer == 'adam' and 0.001 <= run.hparams.lr < 0.05",
    "'cv' in run.tags and run.experiment == 'baseline'",
    "run.created_at > datetime(2023, 11, 15) or run.hparams.p010 == 3",
    "run.hparams.optimizer in ['adam', 'adamw', 'lion']",
    "run.metrics['loss'].last < 0.5",
    "128 in run.hparams.layers",
    "any(t in run.tags for t in ['nlp', 'cv'])",
    "run.name.lower().split('-')[0] == 'resnet' and len(run.name) > 8",
];

fn main() -> std::io::Result<()> {
    let runs: Vec<Run> = (0..RUNS).map(run).collect();
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 1.8e9 };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:>12} {:>9} {:>12}  query", "evaluations/s", "matches", "compile+plan")?;
    let lookups = lookups(&runs);
    writeln!(out, "{lookups:>11.1} M {:>9} {:>12}  (param lookup in the view, without a query)", "", "")?;
    for text in QUERIES {
        let query = compile(text, options).expect("the benchmark queries are valid");
        let mut evaluator =
            query.evaluator(QueryLimits { steps_in_total: u64::MAX, ..QueryLimits::default() });
        let mut best = f64::MAX;
        let mut matches = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            matches =
                runs.iter().filter(|run| evaluator.run(black_box(*run)).is_ok_and(|o| o.is_match())).count();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        for _ in 0..200 {
            black_box(compile(black_box(text), options).map(|query| query.plan()))
                .expect("the benchmark queries are valid");
        }
        let compiled = start.elapsed().as_secs_f64() / 200.0;
        let rate = RUNS as f64 / best / 1e6;
        writeln!(out, "{rate:>11.1} M {matches:>9} {:>9.0} us  {text}", compiled * 1e6)?;
    }
    Ok(())
}

/// Returns the millions of param lookups per second that the view achieves without a query.
fn lookups(runs: &[Run]) -> f64 {
    let path = KeyPath::new(["hparams", "lr"]);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for run in runs {
            black_box(black_box(run).param(&path, usize::MAX));
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    runs.len() as f64 / best / 1e6
}
