//! The tables of the query language's documentation, row by row, over a run with two metrics.
//! `Raises` is an exception, which counts as no match.

mod language;

use crate::memory::{Run, Sequence};
use matyan_ql::{
    Endpoint, ErrorKind, Exception, Outcome, QueryLimits, QueryOptions, SequenceSummary, compile,
};
use serde_json::json;

/// 2024-01-01 00:00 UTC.
const NEW_YEAR: f64 = 1_704_067_200.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    True,
    False,
    Raises(Exception),
}

use Exception::{
    IndexError, KeyError, NameError, NotImplementedError, OverflowError, TypeError, ValueError,
    ZeroDivisionError,
};
use Is::{False, Raises, True};

fn run() -> Run {
    let sequence = |name: &str, context, last: f64| Sequence {
        name: name.to_owned(),
        context,
        dtype: "float".to_owned(),
        summary: SequenceSummary {
            first: Some(9.0),
            last: Some(last),
            min: Some(0.25),
            max: Some(9.0),
            first_step: Some(0),
            last_step: Some(99),
        },
    };
    Run {
        hash: "0a1b".into(),
        name: "Sweep/007".into(),
        description: String::new(),
        experiment: Some("baseline".into()),
        tags: vec!["cv".into(), "Prod".into()],
        created_at: NEW_YEAR,
        end_time: Some(NEW_YEAR + 90.5),
        active: false,
        archived: false,
        outcome: Some("failed".into()),
        parent: Some("0a1a".into()),
        params: json!({
            "hparams": {
                "lr": 0.001, "batch": 32, "optimizer": "adam", "amp": true, "layers": [64, 128, 256], "none": null,
                "big": 9007199254740993_i64, "model": {"depth": 50}, "stages": [{"lr": 0.1}], "empty": {}, "a b": 1,
                "lists": [], "count": 3, "имя": "x", "text": "32"
            },
            "name": "param name", "score": 1, "__system_params": {"git": {"branch": "main"}}, "finalized": 1
        }),
        sequences: vec![
            sequence("loss", json!({}), 0.5),
            sequence("loss", json!({"subset": "val", "fold": 1}), 0.25),
            sequence("acc", json!({"subset": "val", "deep": {"n": 1}, "flag": true}), 0.9),
            sequence("acc", json!({"fold": 1.0}), 0.8),
        ],
    }
}

fn options(endpoint: Endpoint) -> QueryOptions {
    QueryOptions { endpoint, offset_minutes: -240, now: NEW_YEAR + 86_400.0 }
}

fn verdict(outcome: Outcome) -> Is {
    match outcome {
        Outcome::Match => True,
        Outcome::NoMatch => False,
        Outcome::Raised(raise) => Raises(raise),
    }
}

/// Evaluates rows for the run.
fn rows(table: &[(&str, Is)]) {
    let run = run();
    for (text, expected) in table {
        let query = compile(text, options(Endpoint::Run)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let outcome = query
            .evaluator(QueryLimits::default())
            .run(&run)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(verdict(outcome), *expected, "{text}");
    }
}

/// Evaluates rows for the run's second sequence, `loss` of the validation set.
fn metric_rows(table: &[(&str, Is)]) {
    let run = run();
    for (text, expected) in table {
        let query =
            compile(text, options(Endpoint::Metric)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let outcome = query.evaluator(QueryLimits::default()).sequence(&run, &run.sequences[1]);
        assert_eq!(verdict(outcome.unwrap()), *expected, "{text}");
    }
}

#[test]
fn names_of_a_run() {
    rows(&[
        ("run.hash == '0a1b'", True),
        ("run.name == 'Sweep/007'", True),
        ("run.description == ''", True),
        ("run.experiment == 'baseline'", True),
        ("run.created_at == 1704067200 == run.creation_time", True),
        ("run.end_time == 1704067290.5", True),
        ("run.duration == 90.5", True),
        ("run.active == False and run.active is False", True),
        ("run.archived == run.is_archived == False", True),
        ("run.finalized_at == run.end_time", True),
        ("run.outcome == 'failed' and [r.outcome for r in [run]] == ['failed']", True),
        ("run.parent == '0a1a' and [r.parent for r in [run]] == ['0a1a']", True),
        ("run.creator is None and run.created is None", True),
        ("run.score == 1", True),
        ("run.nothing is None", True),
        ("run['name'] == 'param name'", True),
        ("run['hash'] is None", True),
        ("run['nothing'] is None", True),
        ("run", True),
        ("isinstance(run.created_at, float) and isinstance(run.duration, float)", True),
    ]);
}

#[test]
fn tags() {
    rows(&[
        ("'cv' in run.tags", True),
        ("'CV' in run.tags", False),
        ("'c' in run.tags", False),
        ("'nlp' not in run.tags", True),
        ("1 in run.tags", False),
        ("run.tags.contains('Prod')", True),
        ("run.tags.contains", True),
        ("run.tags", True),
        ("not run.tags", False),
        ("len(run.tags) == 2", True),
        ("[t for t in run.tags] == ['cv', 'Prod']", True),
        ("run.tags == ['Prod', 'cv']", True),
        ("run.tags == []", False),
        ("run.tags.nope is None", True),
        ("run.tags < ['cv']", Raises(TypeError)),
        ("run.tags[0]", Raises(TypeError)),
    ]);
}

#[test]
fn params_in_every_spelling() {
    rows(&[
        ("run.hparams.lr == 0.001", True),
        ("run['hparams']['lr'] == 0.001", True),
        ("run.hparams['lr'] == 0.001", True),
        ("run['hparams'].lr == 0.001", True),
        ("run['hparams', 'lr'] == 0.001", True),
        ("run['hparams', 'nope'] is None", True),
        ("run['hparams', 'lr', 'x'] is None", True),
        ("run['hparams.lr'] is None", True),
        ("run.hparams['a b'] == 1", True),
        ("run.hparams.имя == 'x'", True),
        ("run.__system_params.git.branch == 'main'", True),
        ("run['__system_params'].git['branch'] == 'main'", True),
        ("run.get('hparams').lr == 0.001", True),
        ("run.get('nope') is None", True),
        ("run.get('nope', 5) == 5", True),
        ("run['hpa' + 'rams'].lr == 0.001", True),
        ("run[('hpa' + 'rams', 'lr')] == 0.001", True),
        ("(lambda r: r.hparams.lr)(run) == 0.001", True),
        ("'hparams' in run", True),
        ("'lr' in run", False),
        ("run.hparams.count == 3", True),
        ("[x for x in run]", Raises(TypeError)),
    ]);
}

#[test]
fn objects() {
    rows(&[
        ("run.hparams.model.depth == 50", True),
        ("run.hparams.model.nope is None", True),
        ("run.hparams['model']['nope']", Raises(KeyError)),
        ("run.hparams[1]", Raises(KeyError)),
        ("'depth' in run.hparams.model", True),
        ("'nope' in run.hparams.model", False),
        ("[] in run.hparams.model", Raises(TypeError)),
        ("run.hparams.model == {'depth': 50}", True),
        ("run.hparams.model == {'depth': 50.0}", True),
        ("run.hparams.model == run['hparams']['model']", True),
        ("run.hparams.model != {}", True),
        ("run.hparams.model", True),
        ("run.hparams.empty", False),
        ("run.hparams.model < {}", Raises(TypeError)),
        // Beyond the recorded system: an object is also a dict.
        ("len(run.hparams.model) == 1", True),
        ("list(run.hparams.model) == ['depth']", True),
        ("run.hparams.model.get('depth') == 50", True),
        ("run.hparams.model.get('nope', 1) == 1", True),
        ("list(run.hparams.model.items()) == [('depth', 50)]", True),
        ("'depth' in run.hparams.model.keys()", True),
        ("run.hparams.stages[0].lr == 0.1", True),
        ("run.hparams.stages[0]['lr'] == 0.1", True),
        ("run.hparams.stages[0].get('lr') == 0.1", True),
        ("run.hparams.stages[0].nope is None", True),
        ("isinstance(run.hparams, dict)", True),
        ("{**run.hparams.model}['depth'] == 50", True),
    ]);
}

#[test]
fn lists() {
    rows(&[
        ("run.hparams.layers[0] == 64", True),
        ("run.hparams.layers[-1] == 256", True),
        ("run.hparams.layers[3]", Raises(IndexError)),
        ("128 in run.hparams.layers", True),
        ("len(run.hparams.layers) == 3", True),
        ("run.hparams.layers == [64, 128, 256]", True),
        ("run.hparams.layers == (64, 128, 256)", False),
        ("run.hparams.layers[1:] == [128, 256]", True),
        ("run.hparams.layers[::-1][0] == 256", True),
        ("sum(x for x in run.hparams.layers) == 448", True),
        ("run.hparams.layers.count(64) == 1", True),
        ("run.hparams.layers.index(128) == 1", True),
        ("run.hparams.layers.append(1)", Raises(TypeError)),
        ("run.hparams.lists", False),
        ("run.hparams.layers.nope is None", True),
    ]);
}

#[test]
fn missing_values() {
    rows(&[
        ("run.nope is None and run.nope.a.b is None and run.hparams.lr.x is None", True),
        ("run.name.nope is None", True),
        ("run.hparams['nope']", Raises(KeyError)),
        ("run['nope']['x']", Raises(TypeError)),
        ("run.hparams.lr['x']", Raises(TypeError)),
        ("run.hparams.nope == 3", False),
        ("run.hparams.nope != 3", True),
        ("run.hparams.nope == None", True),
        ("run.hparams.none is None", True),
        ("run.hparams.nope in [1, None]", True),
        ("not run.hparams.nope", True),
        ("run.hparams.nope < 3", Raises(TypeError)),
        ("run.hparams.nope > 3", Raises(TypeError)),
        ("run.hparams.nope + 3", Raises(TypeError)),
        ("len(run.hparams.nope)", Raises(TypeError)),
        ("'x' in run.hparams.nope", Raises(TypeError)),
        ("run.hparams.nope.startswith('x')", Raises(TypeError)),
    ]);
}

#[test]
fn comparison_rules() {
    rows(&[
        ("1 == 1.0 == True", True),
        ("run.hparams.text == 32", False),
        ("run.hparams.batch == '32'", False),
        ("run.hparams.text < 33", Raises(TypeError)),
        ("None < 1", Raises(TypeError)),
        ("None == 0", False),
        ("'Z' < 'a' < 'é'", True),
        ("run.hparams.big == 9007199254740993", True),
        ("run.hparams.big == 9007199254740992.0", False),
        ("run.hparams.big > 9007199254740992.0", True),
        ("9007199254740993 != 9007199254740992.0", True),
        ("0.0001 < run.hparams.lr < 0.01", True),
        ("run.hparams.lr == run.hparams.lr == 0.001", True),
        ("run.hparams.amp is True and run.hparams.amp == 1", True),
        ("run.hparams.batch is 32", True),
    ]);
}

#[test]
fn metrics_of_a_run() {
    rows(&[
        ("run.metrics['loss'].last == 0.5", True),
        ("run.metrics['loss'].last_step == 99", True),
        (
            "run.metrics['loss'].first == 9 and run.metrics['loss'].min == 0.25 and run.metrics['loss'].max == 9",
            True,
        ),
        ("run.metrics['loss'].first_step == 0 and run.metrics['loss'].dtype == 'float'", True),
        ("run.metrics['loss'].name == 'loss'", True),
        ("run.metrics['loss'].nope is None", True),
        ("run.metrics['loss']", True),
        ("run.metrics['nope']", False),
        ("run.metrics['nope'].last is None", True),
        ("run.metrics['nope'].last < 1", Raises(TypeError)),
        ("run.metrics['loss', {}].last == 0.5", True),
        ("run.metrics['loss', {'fold': 1, 'subset': 'val'}].last == 0.25", True),
        ("run.metrics['loss', {'fold': 1.0, 'subset': 'val'}].last == 0.25", True),
        ("run.metrics['loss', {'fold': True, 'subset': 'val'}].last is None", True),
        ("run.metrics['loss', {'subset': 'val'}].last is None", True),
        ("run.metrics['acc', {'fold': 1}].last == 0.8", True),
        ("run.metrics['acc'].last == 0.9", True),
        ("run.metrics['lo' + 'ss'].last == 0.5", True),
        ("run.metrics[('loss', {})].last == 0.5", True),
        ("run.metrics.loss is None", True),
        ("'loss' in run.metrics", True),
        ("'nope' in run.metrics", False),
        ("[m for m in run.metrics]", Raises(TypeError)),
        ("metric.name == 'loss'", True),
        ("'nope' == metric.name", False),
        ("metric.name in ['nope', 'acc']", True),
        ("metric.name != 'loss'", Raises(NameError)),
        ("metric.last > 1", Raises(NameError)),
        ("[metric.name == 'x' for metric in [1]] == [False]", True),
    ]);
}

#[test]
fn names_of_a_sequence() {
    metric_rows(&[
        ("metric.name == 'loss'", True),
        ("metric.context == {'subset': 'val', 'fold': 1}", True),
        ("metric.context.subset == 'val'", True),
        ("metric.context['subset'] == 'val'", True),
        ("metric.context.nope is None", True),
        ("metric.context['nope']", Raises(KeyError)),
        ("metric.context.nope != 'train'", True),
        ("metric.context.subset.nope is None", True),
        ("'subset' in metric.context", True),
        ("metric.context.get('subset') == 'val'", True),
        ("len(metric.context) == 2", True),
        ("metric.context", True),
        ("metric.last == 0.25 and metric.last_step == 99", True),
        ("metric.first == 9 and metric.first_step == 0 and metric.min == 0.25 and metric.max == 9", True),
        ("metric.dtype == 'float'", True),
        ("metric.values is None", True),
        ("metric.run.name == run.name", True),
        ("metric.run is run", True),
        ("metric['name']", Raises(TypeError)),
        ("metric", True),
        ("metric is not None", True),
        ("images.name == 'x'", Raises(NameError)),
        ("(lambda m: m.context.fold)(metric) == 1", True),
        ("run.metrics['acc'].last > 0.5 and metric.name == 'loss'", True),
    ]);
}

#[test]
fn times() {
    // The caller's local time is four hours ahead of UTC.
    rows(&[
        ("run.created_at == datetime(2024, 1, 1, 4)", True),
        ("datetime(2024, 1, 1) <= run.created_at < datetime(2024, 1, 2)", True),
        ("datetime(2024, 1, 1, 4) == 1704067200", True),
        ("run.created_at == datetime(year=2024, month=1, day=1, hour=4)", True),
        ("run.created_at == datetime(2024, 1, 1, 4, tzinfo=None)", True),
        ("run.created_at == datetime(2024, 0 + 1, 1, 4)", True),
        ("run.created_at > datetime(2023, 12, 1) + timedelta(days=10)", True),
        ("run.created_at == datetime.now() - timedelta(days=1)", True),
        ("run.created_at < datetime.now()", True),
        ("run.created_at < datetime.now().timestamp()", True),
        ("datetime.utcnow() == datetime.today() == datetime.now()", True),
        ("datetime.fromtimestamp(1704067200) == run.created_at", True),
        ("datetime.fromisoformat('2024-01-01T04:00:00') == run.created_at", True),
        ("datetime.fromisoformat('2024-01-01T00:00:00Z') == run.created_at", True),
        ("datetime.fromisoformat('2024-01-01T03:30:00.000+03:30') == run.created_at", True),
        ("datetime.fromisoformat('2024-13-01')", Raises(ValueError)),
        ("datetime(2024, 13, 1)", Raises(ValueError)),
        ("datetime(2024, 1)", Raises(TypeError)),
        ("datetime(2024, 1, '1')", Raises(TypeError)),
        ("datetime(10**30, 1, 1)", Raises(OverflowError)),
        ("datetime(2024, 1, 1).timestamp() == 1704052800", True),
        ("run.end_time - run.created_at == 90.5", True),
        ("run.end_time - run.created_at > timedelta(seconds=90)", True),
        ("(run.end_time - run.created_at).total_seconds() == 90.5", True),
        ("run.duration < timedelta(minutes=2)", True),
        ("run.duration / 60 > 1.5", True),
        ("run.created_at + timedelta(seconds=90.5) == run.end_time", True),
        ("run.end_time - timedelta(seconds=90.5) == run.created_at", True),
        ("timedelta(hours=1).total_seconds() == 3600", True),
        ("timedelta(days=1, hours=2).days == 1 and timedelta(days=1, hours=2).seconds == 7200", True),
        ("timedelta(seconds=-1).days == -1 and timedelta(microseconds=5).microseconds == 5", True),
        ("timedelta(weeks=1) / timedelta(days=1) == 7", True),
        ("timedelta(days=1) * 2 == timedelta(days=2)", True),
        ("timedelta(days=10**12)", Raises(OverflowError)),
        ("run.created_at.year == 2024 and run.created_at.hour == 4", True),
        ("run.created_at.weekday() == 0 and run.created_at.isoweekday() == 1", True),
        ("run.created_at.isoformat() == '2024-01-01T04:00:00'", True),
        ("run.end_time.isoformat(' ') == '2024-01-01 04:01:30.500000'", True),
        ("run.created_at.strftime('%Y-%m-%d %H:%M:%S %j %a %b') == '2024-01-01 04:00:00 001 Mon Jan'", True),
        ("f'{run.created_at:%d.%m.%Y}' == '01.01.2024'", True),
        ("f'{run.created_at:.1f}' == '1704067200.0'", True),
        ("str(run.created_at) == '1704067200.0'", True),
        ("run.created_at.date() == datetime(2024, 1, 1)", True),
        ("run.created_at.replace(hour=5) - run.created_at == 3600", True),
        ("isinstance(run.created_at, datetime) and isinstance(timedelta(), timedelta)", True),
        ("isinstance(1.0, datetime)", False),
        ("datetime.today", True),
        ("run.created_at > 'x'", Raises(TypeError)),
    ]);
}

#[test]
fn evaluation_order_and_failure() {
    rows(&[
        ("not (run.hparams.nope > 3)", Raises(TypeError)),
        ("run.nope > 3 or True", Raises(TypeError)),
        ("True or run.nope > 3", True),
        ("False and run.nope > 3", False),
        ("1 if True else run.nope > 3", True),
        ("experiment == 'x'", Raises(NameError)),
        ("1 / 0", Raises(ZeroDivisionError)),
        ("any(x == run.hparams.batch for x in [32])", True),
        ("any(x > 1 or x.fail for x in [2, None])", True),
        ("(lambda: run.hparams.batch)() == 32", True),
        ("[x == run.hparams.batch for x in [32]] == [True]", True),
        ("(x := run.hparams.batch) > 3 and x == 32", True),
        ("x == 32 or (x := 1)", Raises(NameError)),
        ("[y := x for x in [1, 2]] and y == 2", True),
        ("(g := (x for x in [1, 2, 3])) and any(x == 1 for x in g) and list(g) == [2, 3]", True),
        ("(len := 3) and len == 3", True),
        ("run.active == 0 and [run for run in [5]] == [5]", True),
        ("[f() for f in [lambda: i for i in range(2)]] == [1, 1]", True),
        ("(f := lambda n: 1 if n == 0 else n * f(n - 1))(10) == 3628800", True),
    ]);
}
