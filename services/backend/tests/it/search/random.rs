//! Random projects: regardless of indexes, pages and snapshots, a search finds exactly the runs
//! that evaluating every run finds.

use matyan_model::run::{Outcome, OutcomeKind};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    runs::v1::{ParamPath, RunParts},
    search::v1::{
        ExplainRequest, MetricsRequest, ObjectsRequest, RunsRequest, SearchKind, Sort, SortField,
        metrics_request::Points, sort::By,
    },
};
use matyan_ql::Endpoint;
use matyan_value::{Map, Value};

use crate::search::{
    harness::{self, Harness, RunSpec, STORED_PARAMS, Sequence, StoredParams, map, spec},
    naive::{NaiveSearch, compare},
};

/// A deterministic pseudorandom generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// Values of params, of all types that an index has to distinguish.
const VALUES: [&str; 14] = [
    "0.001",
    "0.01",
    "0.1",
    "1",
    "1.0",
    "true",
    "-0.5",
    "0",
    "-0.0",
    "9007199254740993",
    "\"auto\"",
    "\"adam\"",
    "null",
    "[1,2]",
];

pub(crate) fn run(random: &mut Random, at: u64) -> RunSpec {
    let created_us = 1_700_000_000_000_000 + at as i64 * 1_000_000;
    let mut run = spec(&format!("run-{at:05}"), created_us);
    if random.one_in(2) {
        run.name = format!("{}-{at}", random.of(&["resnet", "bert", "sweep", "größe\0"]));
    }
    run.experiment = (!random.one_in(3)).then(|| (*random.of(&["baseline", "sweep", "rare"])).to_owned());
    run.tags =
        ["cv", "nlp", "old"].iter().filter(|_| random.one_in(4)).map(|tag| (*tag).to_owned()).collect();
    run.archived = random.one_in(5);
    run.active = random.one_in(3);
    run.finalized_us = (!run.active).then(|| created_us + random.below(100_000_000) as i64);
    run.outcome = (!run.active && random.one_in(2)).then(|| outcome(random));
    run.pending_delete = random.one_in(20);
    run.params = params(random, at);
    run.sequences = sequences(random);
    run
}

fn outcome(random: &mut Random) -> Outcome {
    let kind = *random.of(&[OutcomeKind::Finished, OutcomeKind::Failed, OutcomeKind::Interrupted]);
    Outcome { kind, message: "no memory left".to_owned() }
}

fn params(random: &mut Random, at: u64) -> Map {
    let value = |random: &mut Random| *random.of(&VALUES);
    let mut params = map(&format!(
        r#"{{"hparams":{{"lr":{},"seed":{at},"model":{{"depth":{}}}}},"top":{}}}"#,
        value(random),
        random.below(6) * 9,
        value(random),
    ));
    if random.one_in(9) {
        // Too large for an index: such runs are always checked against the document.
        params.insert("note".into(), Value::Text("x".repeat(random.below(600) as usize)));
    }
    if random.one_in(15) {
        params.insert("big".into(), Value::Text("y".repeat(40_000)));
    }
    params
}

fn sequences(random: &mut Random) -> Vec<Sequence> {
    let mut sequences = Vec::new();
    for (name, dtype) in
        [("loss", "float"), ("loss", "image"), ("acc", "int"), ("pics", "image"), ("words", "text")]
    {
        for context in ["{}", r#"{"subset":"train"}"#, r#"{"subset":"val","fold":1}"#] {
            if random.one_in(3) {
                let count = 1 + random.below(6) as i64;
                let points = (0..count).map(|step| (step * 3, random.below(200) as f64 / 100.0)).collect();
                let name = name.to_owned();
                let dtype = dtype.to_owned();
                sequences.push(Sequence { name, context: map(context), dtype, points });
            }
        }
    }
    sequences
}

/// Conditions for every kind of index, and some that no index can answer.
const ATOMS: [&str; 50] = [
    "run.hparams.lr < 0.01",
    "run.hparams.lr <= 0.01",
    "run.hparams.lr == 1",
    "run.hparams.lr == True",
    "run.hparams.lr > 0",
    "run.hparams.lr >= 0",
    "run.hparams.lr == 9007199254740993",
    "run.hparams.lr == 'auto'",
    "run.hparams.lr in [0.1, 'adam', None]",
    "run.hparams.lr is None",
    "run.hparams.seed == 17",
    "run.hparams.seed < 5",
    "100 < run.hparams.seed <= 130",
    "run.hparams.model.depth == 45",
    "run.top == 'adam'",
    "run.top.startswith('a')",
    "run.hparams.seed % 7 == 3",
    "str(run.hparams.lr) == '1.0'",
    "repr(run.top) in ['1', 'True', '-0.0']",
    "str(run.top) + str(run.hparams.lr) == 'adamNone'",
    "run.hparams.seed % 5 == 1 and run.name.startswith('bert')",
    "run.top != 1",
    "run.note == ''",
    "len(run.note) > 300",
    "len(run.big) == 40000",
    "run.experiment == 'baseline'",
    "run.experiment == 'rare'",
    "run.experiment is None",
    "'cv' in run.tags",
    "'missing' in run.tags",
    "run.active",
    "run.archived == True",
    "run.outcome == 'failed'",
    "run.outcome in ['finished', 'interrupted']",
    "run.outcome is None",
    "run.outcome == 'finished' and run.hparams.seed % 3 == 1",
    "run.created_at > 1700000100",
    "run.created_at <= 1700000003",
    "run.end_time < 1700000050",
    "run.end_time >= 1700000050",
    "1700000020 < run.end_time <= 1700000070.5",
    "run.end_time == 1700000050",
    "run.name == 'bert-17'",
    "run.name in ['größe\\0-3', 'bert-4', 'Run: run-00005', 'Run: run-00006']",
    "'bert-2' <= run.name < 'größe\\0-3'",
    "run.name > 'sweep'",
    "run.name.startswith('bert')",
    "run.hash == 'run-00042'",
    "run.metrics['loss'].last > 1.5",
    "'acc' in run.metrics",
];

fn expression(random: &mut Random, depth: u64) -> String {
    if depth == 0 || random.one_in(4) {
        return (*random.of(&ATOMS)).to_owned();
    }
    let left = expression(random, depth - 1);
    let right = expression(random, depth - 1);
    match random.below(5) {
        0 => format!("not ({left})"),
        1 | 2 => format!("({left} and {right})"),
        _ => format!("({left} or {right})"),
    }
}

/// Runs of a cohort: few, so that a project has several.
const COHORT: usize = 50;

async fn project(random: &mut Random, count: u64) -> (Harness, Vec<RunSpec>) {
    project_with(random, count, StoredParams::Documents).await
}

async fn project_with(random: &mut Random, count: u64, stored: StoredParams) -> (Harness, Vec<RunSpec>) {
    let harness = Harness::new().await;
    let mut runs = Vec::new();
    let mut numbers = Vec::new();
    for at in 0..count {
        if stored == StoredParams::Both && at == count * 2 / 3 {
            harness.collect_params(COHORT).await;
        }
        let run = run(random, at);
        numbers.push(harness.create(&run).await);
        runs.push(run);
    }
    match stored {
        StoredParams::Documents => {}
        StoredParams::Columns => harness.collect_params(COHORT).await,
        StoredParams::Both => {
            let changed: Vec<usize> = (0..runs.len()).filter(|at| at % 7 == 3).collect();
            for (place, at) in changed.iter().enumerate() {
                // Some of the changed runs are in a later cohort.
                if place == changed.len() / 2 {
                    harness.collect_params(COHORT).await;
                }
                runs[*at].params = params(random, *at as u64);
                harness.change(numbers[*at], &runs[*at]).await;
            }
        }
    }
    (harness, runs)
}

#[tokio::test]
async fn rule_133_searches_of_runs_match_the_naive_evaluation() {
    for (stored, seed) in STORED_PARAMS.into_iter().zip(1..) {
        check_searches(stored, seed).await;
    }
}

async fn check_searches(stored: StoredParams, seed: u64) {
    let mut random = Random(seed);
    let (harness, runs) = project_with(&mut random, 400, stored).await;
    let mut queries: Vec<String> = ATOMS.iter().map(ToString::to_string).collect();
    queries.extend(["".into(), "run.archived == True or run.archived == False".into()]);
    queries.extend((0..150).map(|_| expression(&mut random, 3)));
    let mut narrowed = 0;
    let mut found = 0;
    for text in &queries {
        let expected: Vec<&str> = NaiveSearch::new(text, Endpoint::Run)
            .runs(&runs)
            .into_iter()
            .map(|run| run.id.as_str())
            .collect();
        let response = harness
            .runs(harness::runs_request(text))
            .await
            .unwrap_or_else(|status| panic!("{text}: {status}"));
        assert_eq!(response.ids(), expected, "{stored:?}: {text}");
        assert_eq!(response.match_count, Some(expected.len() as u64), "{text}");
        found += expected.len();
        let request = ExplainRequest { kind: SearchKind::Runs.into(), query: harness::query(text) };
        let explained = harness.search().explain(request).await.unwrap().into_inner();
        assert!(explained.candidates >= expected.len() as u64, "{text}: {explained:?}");
        narrowed += usize::from(!explained.full_scan);
    }
    // The documents of runs that are in no column yet are candidates.
    let least = if stored == StoredParams::Columns { 20 } else { 10 };
    assert!(
        narrowed > least && queries.len() - narrowed > 20,
        "{stored:?}: {narrowed} of {} by index",
        queries.len()
    );
    assert!(found > 1_000);
}

#[tokio::test]
async fn runs_are_sorted_by_their_keys() {
    for (stored, seed) in STORED_PARAMS.into_iter().zip(2..) {
        check_orders(stored, seed).await;
    }
}

async fn check_orders(stored: StoredParams, seed: u64) {
    let mut random = Random(seed);
    let (harness, runs) = project_with(&mut random, 150, stored).await;
    let field = |field: SortField| By::Field(field.into());
    let param =
        |path: &[&str]| By::Param(ParamPath { segments: path.iter().map(ToString::to_string).collect() });
    let metric = |context: &str| By::Metric(SeriesKey { name: "loss".into(), context: context.into() });
    let keys = [
        field(SortField::Created),
        field(SortField::Duration),
        field(SortField::Name),
        field(SortField::RunId),
        field(SortField::Experiment),
        field(SortField::Description),
        field(SortField::Ended),
        field(SortField::Outcome),
        field(SortField::Tags),
        param(&["hparams", "lr"]),
        param(&["hparams", "seed"]),
        param(&["top"]),
        param(&["nothing"]),
        metric(""),
        metric(r#"{"subset": "train"}"#),
    ];
    let matching = NaiveSearch::new("", Endpoint::Run).runs(&runs);
    for first in &keys {
        for descending in [false, true] {
            let second = random.of(&keys).clone();
            let mut value = || *random.of(&[0, 1, 2, 3, 4]);
            let sort = vec![
                Sort { by: Some(first.clone()), descending, metric_value: value() },
                Sort { by: Some(second), descending: !descending, metric_value: value() },
            ];
            let mut expected = matching.clone();
            expected.sort_by(|a, b| compare(a, b, &sort));
            let request = RunsRequest { sort: sort.clone(), ..harness::runs_request("") };
            let response = harness.runs(request).await.unwrap();
            let expected: Vec<&str> = expected.iter().map(|run| run.id.as_str()).collect();
            assert_eq!(response.ids(), expected, "{stored:?}: {sort:?}");
            assert_eq!(response.places, (1..=expected.len() as u64).map(Some).collect::<Vec<_>>());
            assert!(
                response
                    .messages
                    .iter()
                    .all(|it| it.runs.is_empty() || it.match_count == Some(expected.len() as u64))
            );
        }
    }
}

const SEQUENCE_ATOMS: [&str; 12] = [
    "X.name == 'loss'",
    "X.name != 'loss'",
    "X.name.startswith('p')",
    "X.context.subset == 'train'",
    "X.context == {'subset': 'val', 'fold': 1}",
    "not X.context",
    "X.last > 1",
    "X.last_step == 9",
    "run.experiment == 'rare'",
    "run.hparams.seed < 20",
    "run.metrics['acc'].last < 0.5",
    "'nlp' in run.tags",
];

/// The identity of a sequence within its run.
fn reported(sequence: &Sequence) -> (String, String) {
    (sequence.name.clone(), matyan_value::Context::new(&sequence.context).canonical().to_owned())
}

#[tokio::test]
async fn rule_133_searches_of_sequences_match_the_naive_evaluation() {
    for (stored, seed) in STORED_PARAMS.into_iter().zip(3..) {
        check_searches_of_sequences(stored, seed).await;
    }
}

async fn check_searches_of_sequences(stored: StoredParams, seed: u64) {
    let mut random = Random(seed);
    let (harness, runs) = project_with(&mut random, 200, stored).await;
    let kinds = [
        (Endpoint::Metric, SeriesType::Metric, "metric"),
        (Endpoint::Images, SeriesType::Images, "images"),
        (Endpoint::Texts, SeriesType::Texts, "texts"),
    ];
    let mut found = 0;
    for (endpoint, series_type, word) in kinds {
        for round in 0..40 {
            let atom = |at: usize| SEQUENCE_ATOMS[at].replace('X', word);
            let text = match round {
                0..12 => atom(round),
                _ => {
                    let mut pick = || random.below(12) as usize;
                    let a = atom(pick());
                    let b = atom(pick());
                    let c = atom(pick());
                    if round % 2 == 0 {
                        format!("{a} and ({b} or not {c})")
                    } else {
                        format!("({a} and {b}) or {c}")
                    }
                }
            };
            let naive = NaiveSearch::new(&text, endpoint);
            let mut expected: Vec<(String, Vec<(String, String)>)> = Vec::new();
            for run in runs.iter().rev() {
                let matching: Vec<_> = naive.sequences(run).into_iter().map(reported).collect();
                if !matching.is_empty() {
                    expected.push((run.id.clone(), matching));
                }
            }
            found += expected.len();
            assert_eq!(response(&harness, &text, series_type).await, expected, "{stored:?}: {text}");
        }
    }
    assert!(found > 1_000);
}

async fn response(harness: &Harness, text: &str, of: SeriesType) -> Vec<(String, Vec<(String, String)>)> {
    let id = |run: Option<matyan_proto::runs::v1::Run>| run.unwrap_or_default().run_id;
    if of == SeriesType::Metric {
        let points = Some(Points::None(true));
        let request = MetricsRequest { query: harness::query(text), points, ..MetricsRequest::default() };
        let rows = harness.metrics(request).await.unwrap_or_else(|status| panic!("{text}: {status}"));
        let keys = |row: &matyan_proto::search::v1::RunMetrics| {
            row.series.iter().map(|it| (it.name.clone(), canonical(&it.context))).collect()
        };
        return rows.into_iter().map(|row| (id(row.run.clone()), keys(&row))).collect();
    }
    let request =
        ObjectsRequest { query: harness::query(text), r#type: of.into(), ..ObjectsRequest::default() };
    let rows = harness.objects(request).await.unwrap_or_else(|status| panic!("{text}: {status}"));
    let keys = |row: &matyan_proto::search::v1::RunObjects| {
        row.sequences.iter().map(|it| (it.name.clone(), canonical(&it.context))).collect()
    };
    rows.into_iter().map(|row| (id(row.run.clone()), keys(&row))).collect()
}

fn canonical(context: &str) -> String {
    if context.is_empty() { "{}".to_owned() } else { context.to_owned() }
}

/// Points, buckets and totals of the matching series are returned.
#[tokio::test]
async fn matching_series_come_with_the_requested_points() {
    let mut random = Random(4);
    let (harness, runs) = project(&mut random, 60).await;
    let text = "metric.name == 'loss'";
    let naive = NaiveSearch::new(text, Endpoint::Metric);
    for points in [Points::Density(0), Points::Density(3), Points::Pixels(100)] {
        let request = MetricsRequest {
            query: harness::query(text),
            points: Some(points),
            x_axis: Some("acc".into()),
            parts: Some(RunParts { props: true, ..RunParts::default() }),
            ..MetricsRequest::default()
        };
        let rows = harness.metrics(request).await.unwrap();
        let mut rows = rows.into_iter();
        for run in runs.iter().rev() {
            let matching = naive.sequences(run);
            if matching.is_empty() {
                continue;
            }
            let row = rows.next().expect("every run with a match is returned");
            assert_eq!(row.run.unwrap().props.unwrap().name, run.name);
            for (at, sequence) in matching.iter().enumerate() {
                let first = sequence.points[0];
                let last = sequence.points[sequence.points.len() - 1];
                match points {
                    Points::Pixels(_) => {
                        let buckets = &row.buckets[at];
                        assert_eq!(buckets.last.last(), Some(&last.1));
                        let highest = sequence.points.iter().map(|it| it.1).reduce(f64::max);
                        assert_eq!(buckets.max.iter().copied().reduce(f64::max), highest);
                    }
                    Points::Density(density) => {
                        let found = &row.points[at];
                        let all: Vec<(i64, f64)> =
                            found.steps.iter().copied().zip(found.values.iter().copied()).collect();
                        assert_eq!((all[0], all[all.len() - 1]), (first, last));
                        match density {
                            0 => assert_eq!(all, sequence.points),
                            _ => assert!(all.len() <= 3 && all.iter().all(|it| sequence.points.contains(it))),
                        }
                        let axis = run
                            .sequences
                            .iter()
                            .find(|it| it.name == "acc" && it.context == sequence.context);
                        let value = |step: &i64| axis?.points.iter().find(|it| it.0 == *step).map(|it| it.1);
                        let x: Vec<(u32, f64)> = (0..)
                            .zip(&found.steps)
                            .filter_map(|(at, step)| Some((at, value(step)?)))
                            .collect();
                        let reported: Vec<(u32, f64)> =
                            found.x_places.iter().copied().zip(found.x_values.iter().copied()).collect();
                        assert_eq!(reported, x);
                    }
                    Points::None(_) => panic!("not used by the test"),
                }
            }
        }
        assert!(rows.next().is_none());
    }
}
