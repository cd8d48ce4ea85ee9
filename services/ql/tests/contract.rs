//! The tables of the query language's documentation, row by row, over one run with two metrics.
//! `Raises` is an exception, which counts as no match.

#![cfg(test)]

#[path = "support/memory.rs"]
mod memory;

use matyan_ql::{Endpoint, ErrorKind, Limits, Options, Outcome, Raise, Summary, compile};
use memory::{Run, Sequence};
use serde_json::json;

/// 2024-01-01 00:00 UTC.
const NEW_YEAR: f64 = 1_704_067_200.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    True,
    False,
    Raises(Raise),
}

use Is::{False, Raises, True};
use Raise::{
    IndexError, KeyError, NameError, NotImplementedError, OverflowError, TypeError, ValueError,
    ZeroDivisionError,
};

fn run() -> Run {
    let sequence = |name: &str, context, last: f64| Sequence {
        name: name.to_owned(),
        context,
        dtype: "float".to_owned(),
        summary: Summary {
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

fn options(endpoint: Endpoint) -> Options {
    Options { endpoint, offset_minutes: -240, now: NEW_YEAR + 86_400.0 }
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
        let outcome =
            query.evaluator(Limits::default()).run(&run).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(verdict(outcome), *expected, "{text}");
    }
}

/// Evaluates rows for the run's second sequence, `loss` of the validation set.
fn metric_rows(table: &[(&str, Is)]) {
    let run = run();
    for (text, expected) in table {
        let query =
            compile(text, options(Endpoint::Metric)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let outcome = query.evaluator(Limits::default()).sequence(&run, &run.sequences[1]);
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
        // Beyond the recorded system: an object is a dict as well.
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
    // The caller's clock is four hours ahead of UTC.
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

#[test]
fn accepted_syntax() {
    rows(&[
        ("1 and 1.5 and 2j and 'é\\n\\x41\\u0042' and r'\\d' and b'x' and True", True),
        ("'é\\x41' == 'éA' and r'\\d' == '\\\\d' and 'a' 'b' == 'ab'", True),
        ("[1, *[2]] == [1, 2] and (1,) and {1, 2} == {2, 1} and {'a': 1, **{'b': 2}}['b'] == 2", True),
        ("[x for x in [3]] == [3] and {x for x in [3]} == {3} and {x: 1 for x in [3]} == {3: 1}", True),
        ("sum(x for x in [1, 2]) == 3", True),
        ("(lambda x, *a, y=1, **k: x + y)(1) == 2", True),
        ("max(*[1, 2]) == 2 and dict(**{'a': 1})['a'] == 1", True),
        ("-1 == ~0 and +1 == 1 and not 0", True),
        ("7 // 2 == 3 and 7 % 2 == 1 and 2 ** 3 == 8 and 1 << 2 == 4 and 5 >> 1 == 2", True),
        ("5 & 3 == 1 or (5 & 3) == 1 and (5 | 3) == 7 and (5 ^ 3) == 6", True),
        ("1 @ 1", Raises(TypeError)),
        ("f'{run.name!r:>12}|{1.5:.2f}' == \" 'Sweep/007'|1.50\"", True),
        ("'%s-%03d' % (run.name, 7) == 'Sweep/007-007'", True),
        ("a, b", Raises(NameError)),
        ("1, 2", True),
        ("x for x in []", True),
        ("x := 1", True),
        ("run.active == False # finished\n and run.name != ''", True),
        ("run.active == False\n\n and\trun.name != ''  ", True),
        ("SELECT anything IF run.active", False),
        ("  select x if not run.active", True),
        ("(1\n+ 1) == 2", True),
        ("1) or (2", True),
    ]);
}

#[test]
fn callable_names() {
    rows(&[
        ("abs(-1) == 1 and bool([]) == False and bytes([65]) == b'A' and callable(len)", True),
        ("chr(65) == 'A' and ord('A') == 65 and complex(1, 2).imag == 2", True),
        ("divmod(7, 2) == (3, 1) and float('1.5') == 1.5 and int('12') == 12", True),
        ("hash(1) == hash(1.0) == 1 and hash('a') == hash('a') and id(run) == id(run)", True),
        ("hex(255) == '0xff' and oct(8) == '0o10'", True),
        ("isinstance(1, (str, int)) and issubclass(bool, int)", True),
        ("len('é') == 1 and pow(2, 5) == 32 and repr('a') == \"'a'\" and round(2.5) == 2", True),
        ("slice(1, 2) == slice(1, 2) and str(1) == '1' and list(zip([1], [2])) == [(1, 2)]", True),
        ("sorted([2, 1]) == [1, 2] and min(1, 2) == 1 and max([1, 2]) == 2 and sum([1, 2]) == 3", True),
        ("any([0, 1]) and not all([0, 1])", True),
        ("len(range(1000)) == 1000", True),
        ("range(1001)", Raises(ValueError)),
        ("range(0, 10**9, 10**8)", True),
        ("list('abc')", Raises(TypeError)),
        ("tuple('abc')", Raises(TypeError)),
        ("list((1, 2)) == [1, 2] and tuple([1]) == (1,)", True),
        ("math.sqrt(4) == 2 and math.pi > 3 and math.nope is None", True),
        ("random and whrandom and math and string and datetime and timedelta", True),
        ("string.digits == '0123456789' and 'a' in string.ascii_lowercase", True),
        ("string.capwords('a b') == 'A B'", True),
        ("string.Formatter", Raises(NotImplementedError)),
        ("set([1, 1]) == {1} and frozenset([1]) == {1}", True),
        ("same_type(1, 2) and not same_type(1, 2.0) and not same_type(True, 1)", True),
        ("test(0, 'a', 1, 'b', 'c') == 'b' and test(0, 'a', 'c') == 'c'", True),
        ("reorder(['a', 'b', 'c'], ['c', 'a']) == ['c', 'a']", True),
        ("Exception('x') and KeyError and isinstance(KeyError(), KeyError)", True),
        ("setattr(run, 'name', 'x')", Raises(TypeError)),
        ("delattr(run, 'name')", Raises(TypeError)),
        // Beyond the recorded system.
        (
            "dict(a=1) == {'a': 1} and list(map(str, [1])) == ['1'] and list(filter(None, [0, 1])) == [1]",
            True,
        ),
        ("list(enumerate(['a'])) == [(0, 'a')] and list(reversed([1, 2])) == [2, 1]", True),
    ]);
    for name in [
        "type",
        "iter",
        "next",
        "getattr",
        "hasattr",
        "open",
        "compile",
        "globals",
        "locals",
        "vars",
        "dir",
        "input",
        "object",
        "super",
        "memoryview",
        "bytearray",
        "print",
        "exit",
        "quit",
        "help",
        "property",
        "staticmethod",
        "classmethod",
        "eval",
        "exec",
        "bin",
        "format",
        "Run",
        "import_module",
    ] {
        rows(&[(name, Raises(NameError))]);
    }
}

#[test]
fn text_methods_that_queries_use() {
    rows(&[
        (
            "run.name.startswith('Sweep') and run.name.startswith(('x', 'S')) and run.name.endswith('007')",
            True,
        ),
        (
            "run.name.lower() == 'sweep/007' and run.name.upper() == 'SWEEP/007' and 'a b'.title() == 'A B'",
            True,
        ),
        (
            "' a '.strip() == 'a' and run.name.split('/') == ['Sweep', '007'] and run.name.replace('/', '') == 'Sweep007'",
            True,
        ),
        ("run.name.find('/') == 5 and run.name.count('e') == 2 and '-'.join(['a', 'b']) == 'a-b'", True),
        ("'12'.isdigit() and 'ab'.isalpha() and 'ß'.casefold() == 'ss'", True),
        (
            "run.name.partition('/') == ('Sweep', '/', '007') and run.name.removeprefix('Sweep') == '/007'",
            True,
        ),
        ("run.hparams.optimizer.upper() == 'ADAM' and run.hparams.optimizer[0] == 'a'", True),
        ("'{0}'.format(1)", Raises(NotImplementedError)),
        ("'{r}'.format_map({'r': run})", Raises(NotImplementedError)),
        ("str.format('{0.hash}', run)", Raises(NotImplementedError)),
        ("str.format_map('{r.hash}', {'r': run})", Raises(NotImplementedError)),
        ("str.lower('A') == 'a' and list(map(str.upper, ['a'])) == ['A']", True),
        ("run.name.nope()", Raises(TypeError)),
    ]);
}

/// Kind, text, line, column and end column of what is refused, and a part of the message.
const REFUSED: &[(ErrorKind, &str, u32, u32, u32, &str)] = &[
    (ErrorKind::Forbidden, "run._db", 1, 5, 8, "starts with"),
    (ErrorKind::Forbidden, "run.name == 'x' and\n  ''.__class__", 2, 6, 15, "__class__"),
    (ErrorKind::Forbidden, "f'{run.__class__}'", 1, 8, 17, "__class__"),
    (ErrorKind::Forbidden, "run.hparams._private == 3", 1, 13, 21, "_private"),
    (ErrorKind::Forbidden, "run.hparams.__system_params", 1, 13, 28, "__system_params"),
    (ErrorKind::Forbidden, "run.x__roles__", 1, 5, 15, "__roles__"),
    (ErrorKind::Forbidden, "x__roles__", 1, 1, 11, "__roles__"),
    (ErrorKind::Forbidden, "(x for x in run.y).gi_frame", 1, 20, 28, "gi_frame"),
    (ErrorKind::Forbidden, "__import__('os')", 1, 1, 11, "__import__"),
    (ErrorKind::Forbidden, "[_x for _x in [1]]", 1, 9, 11, "_x"),
    (ErrorKind::Forbidden, "lambda _a: 1", 1, 8, 10, "_a"),
    (ErrorKind::Forbidden, "lambda *_a: 1", 1, 9, 11, "_a"),
    (ErrorKind::Forbidden, "(_y := 1)", 1, 2, 4, "_y"),
    (ErrorKind::Forbidden, "eval('1')", 1, 1, 10, "eval"),
    (ErrorKind::Forbidden, "exec('1')", 1, 1, 10, "exec"),
    (ErrorKind::Forbidden, "breakpoint()", 1, 1, 11, "reserved"),
    (ErrorKind::Forbidden, "builtins", 1, 1, 9, "reserved"),
    (ErrorKind::Forbidden, "(await run)", 1, 2, 11, "await"),
    (ErrorKind::Forbidden, "(yield 1)", 1, 2, 9, "yield"),
    (ErrorKind::Forbidden, "(yield from [1])", 1, 2, 16, "yield"),
    (ErrorKind::Forbidden, "[i async for i in run]", 1, 4, 22, "asynchronous"),
    (ErrorKind::Forbidden, "...", 1, 1, 4, "..."),
    (ErrorKind::Syntax, "run.", 1, 5, 5, ""),
    (ErrorKind::Syntax, "run.lr = 3", 1, 1, 9, "cannot assign"),
    (ErrorKind::Syntax, "run.a and\nrun.b run.c", 1, 1, 10, "operator"),
    (ErrorKind::Syntax, "run.name == 'abc", 1, 13, 17, "quote"),
    (ErrorKind::Syntax, "(run.a\nand run.b", 1, 1, 1, "never closed"),
    (ErrorKind::Syntax, "[1,\n2", 2, 2, 2, "does not match"),
    (ErrorKind::Syntax, ")", 1, 2, 2, "unmatched"),
    (ErrorKind::Syntax, "select x if run.", 1, 5, 5, ""),
    (ErrorKind::Syntax, "run.x\0", 1, 6, 7, "null"),
    (ErrorKind::Syntax, "f(a=1, a=2)", 1, 8, 11, "repeated"),
    (ErrorKind::Syntax, "lambda a, a: 1", 1, 11, 12, "duplicate"),
    (ErrorKind::Syntax, "[x := 1 for x in [1]]", 1, 2, 8, "rebind"),
    (ErrorKind::Syntax, "[1 for x in (y := [1])]", 1, 14, 22, "iterable"),
    (ErrorKind::Syntax, "*run.x", 1, 1, 7, "tarred"),
    (ErrorKind::Syntax, "t'{1}'", 1, 1, 7, ""),
    (ErrorKind::Limit, "9**9**9 > 0", 1, 1, 8, "large"),
    (ErrorKind::Limit, "run.active or 'a' * 10**12 == ''", 1, 15, 27, "large"),
    (ErrorKind::Limit, "10**10**8 > 0", 1, 1, 10, "large"),
    (ErrorKind::Limit, "1 << 10**6", 1, 1, 11, "large"),
    (ErrorKind::Limit, "math.factorial(10**6)", 1, 1, 22, "large"),
];

#[test]
fn refused_before_evaluation() {
    for &(kind, text, line, column, end_column, message) in REFUSED {
        let error =
            compile(text, options(Endpoint::Run)).err().unwrap_or_else(|| panic!("{text} is accepted"));
        let place = (error.kind, error.line, error.column, error.end_column);
        assert_eq!(place, (kind, line, column, end_column), "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert_eq!(
            error.to_string(),
            format!("Invalid query syntax: {} (<query>, line {line})", error.message)
        );
    }
}

#[test]
fn unknown_names_are_warned_of() {
    let query =
        compile("run.active and\n experiment == 'x' or [len for y in foo]", options(Endpoint::Run)).unwrap();
    let places: Vec<_> = query.warnings().iter().map(|w| (w.line, w.column, w.end_column)).collect();
    assert_eq!(places, [(2, 2, 12), (2, 37, 40)]);
    assert!(query.warnings()[0].message.contains("'experiment'"));
}

#[test]
fn queries_are_told_as_they_are_evaluated() {
    for (text, normalized) in [
        ("", "run.is_archived == False"),
        ("select run if run.active", "run.is_archived == False and (run.active)"),
        ("run.archived == True", "run.archived == True"),
        ("run.archived != True # all", "run.archived != True # all"),
        (
            "run.created_at > datetime(2024, 1, 1) - timedelta(days=1)",
            "run.is_archived == False and (run.created_at > 1703966400.0)",
        ),
        // The condition is evaluated first, and stands second.
        (
            "run.end_time < (datetime(2024, 1, 1) if run.created_at > datetime(2024, 1, 2) else 3)",
            "run.is_archived == False and (run.end_time < (1704052800.0 if run.created_at > 1704139200.0 else 3))",
        ),
    ] {
        let query = compile(text, options(Endpoint::Run)).unwrap();
        assert_eq!(query.normalized(), normalized, "{text}");
    }
}
