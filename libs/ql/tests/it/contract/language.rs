//! The language itself: its syntax, the callable names, and the queries that are refused or cause
//! a warning.

use super::*;

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

/// Kind, text, line, column and end column of refused queries, and a part of the message.
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
fn unknown_names_cause_warnings() {
    let query =
        compile("run.active and\n experiment == 'x' or [len for y in foo]", options(Endpoint::Run)).unwrap();
    let places: Vec<_> = query.warnings().iter().map(|w| (w.line, w.column, w.end_column)).collect();
    assert_eq!(places, [(2, 2, 12), (2, 37, 40)]);
    assert!(query.warnings()[0].message.contains("'experiment'"));
}

#[test]
fn normalized_queries_show_what_is_evaluated() {
    for (text, normalized) in [
        ("", "run.is_archived == False"),
        ("select run if run.active", "run.is_archived == False and (run.active)"),
        ("run.archived == True", "run.archived == True"),
        ("run.archived != True # all", "run.archived != True # all"),
        (
            "run.created_at > datetime(2024, 1, 1) - timedelta(days=1)",
            "run.is_archived == False and (run.created_at > 1703966400.0)",
        ),
        // The condition is evaluated first but comes second in the text.
        (
            "run.end_time < (datetime(2024, 1, 1) if run.created_at > datetime(2024, 1, 2) else 3)",
            "run.is_archived == False and (run.end_time < (1704052800.0 if run.created_at > 1704139200.0 else 3))",
        ),
    ] {
        let query = compile(text, options(Endpoint::Run)).unwrap();
        assert_eq!(query.normalized(), normalized, "{text}");
    }
}
