"""Documents of the SDK: every Python example runs, and the table of settings is complete."""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from matyan_client import cli
from matyan_client.config import Settings

ROOT = Path(__file__).parents[3]
SDK = "docs/concepts/sdk.md"
ADAPTERS = "docs/concepts/adapters.md"
PAGES = ["README.md", SDK, ADAPTERS, "sdk/python/README.md"]
PACKAGE = "matyan_client"


@functools.cache
def text(path):
    return (ROOT / path).read_text()


def examples(page):
    """Returns the Python examples of a page with the lines where they begin."""
    fenced = re.finditer(r"^```python\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)
    return [(text(page)[: match.start(1)].count("\n") + 1, match[1]) for match in fenced]


def imported(source):
    """Returns the top-level names of the modules that a script imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def missing(source):
    """Returns the frameworks that a script needs and that are not installed."""
    needed = imported(source) - {PACKAGE}
    return sorted(name for name in needed if importlib.util.find_spec(name) is None)


EXAMPLES = [
    pytest.param(source, id=f"{page}:{line}") for page in PAGES for line, source in examples(page)
]


@pytest.mark.parametrize("source", EXAMPLES)
def test_an_example_runs_and_is_stored(source, shared_server, tmp_path, monkeypatch):
    if absent := missing(source):
        pytest.skip(f"{', '.join(absent)}: not installed")
    monkeypatch.setenv("MATYAN_BACKEND_URL", shared_server.url)
    monkeypatch.setenv("MATYAN_FRONTIER_URL", shared_server.gateway)
    script = tmp_path / "example.py"
    script.write_text(source.replace("http://127.0.0.1:53800", shared_server.url))
    finished = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr, finished.stderr
    # Nothing is left that the server refuses.
    assert cli.main(["sync"]) == 0


def test_pages_have_examples():
    assert [len(examples(page)) > 1 for page in PAGES] == [True] * len(PAGES)


def settings_in_source():
    """Returns all settings, with those defaults that are constants of the core."""
    source = text("sdk/rust/src/config.rs").partition("#[cfg(test)]")[0]
    names = set(re.findall(r'"(MATYAN_[A-Z_]+)"', source))
    # Settings for sockets are accepted and have no effect.
    names |= {f"MATYAN_{name.upper()}" for name in Settings._KNOWN if not name.startswith("ws_")}
    urls = dict(re.findall(r'const (\w+): &str = "(.*)";', source))
    bytes_of_spool = re.search(r"const SPOOL_BYTES: u64 = (\d+) << (\d+);", source)
    assert bytes_of_spool
    return names, {
        "MATYAN_BACKEND_URL": urls["BACKEND_URL"],
        "MATYAN_FRONTIER_URL": urls["GATEWAY_URL"],
        "MATYAN_SPOOL_BYTES": str(int(bytes_of_spool[1]) << int(bytes_of_spool[2])),
    }


def documented_settings():
    """Returns the rows of the table of settings: name, default, meaning."""
    section = text(SDK).partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if "MATYAN_" in line]
    return {row[0].strip("`"): row[1].strip("`") for row in rows if len(row) == 3}


def test_the_table_has_every_setting_with_its_default():
    names, defaults = settings_in_source()
    documented = documented_settings()
    assert set(documented) == names
    assert {name: documented[name] for name in defaults} == defaults


def test_choices_of_settings_are_documented():
    source = text("sdk/rust/src/config.rs").partition("#[cfg(test)]")[0]
    meanings = dict(re.findall(r"^\| `(MATYAN_\w+)` \| (.*)$", text(SDK), re.MULTILINE))
    for name in ("MATYAN_SPOOL_MODE", "MATYAN_SPOOL_FULL"):
        choices = re.search(rf'choice\("{name}", &\[(.*?)\]\)', source)
        assert choices
        for choice in re.findall(r'"(\w+)"', choices[1]):
            assert f"`{choice}`" in meanings[name]


def test_the_example_of_the_crate_is_the_one_that_is_compiled():
    documented = re.findall(r"^```rust\n(.*?)^```$", text("sdk/rust/README.md"), re.M | re.S)
    header = [line for line in text("sdk/rust/src/lib.rs").splitlines() if line.startswith("//!")]
    lines = [line.removeprefix("//!").removeprefix(" ") for line in header]
    # Lines that rustdoc hides are left out.
    shown = "\n".join(line for line in lines if not line.startswith("# "))
    compiled = re.findall(r"^```no_run\n(.*?)^```$", shown, re.M | re.S)
    assert documented == compiled


def exported(module):
    """Returns the names that an adapter exports, without importing its framework."""
    source = text(f"sdk/python/python/{PACKAGE}/{module}.py")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_the_table_of_adapters_is_complete():
    lines = re.findall(rf"`from {PACKAGE}\.(\w+) import ([\w, ]+)`", text(ADAPTERS))
    documented = {module: set(names.split(", ")) for module, names in lines}
    adapters = (ROOT / "sdk/python/python" / PACKAGE / "adapters").glob("[a-z]*.py")
    assert set(documented) == {path.stem for path in adapters}
    for module, names in documented.items():
        assert names <= exported(module), module
