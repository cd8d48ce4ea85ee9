"""Types of the public names, as type checkers see them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import matyan_client
from matyan_client._sequences import ColumnView

README = Path(__file__).parents[1] / "README.md"

# A checker refuses an assignment if a type is wider than the annotation.
SCRIPT = """
from collections.abc import Iterator
from typing import Any

import numpy as np

from matyan_client import Repo, Run

found: Iterator[Run] = Repo().query_runs("run.active", report_mode=0).iter_runs()
pages: Iterator[list[dict[str, Any]]] = Repo().query_runs(paginated=True)
for run in Repo().iter_runs():
    series = run.series("loss", first_step=np.int64(1))
    if series is not None:
        steps: list[int] = series.steps.tolist()
        first: int = series.steps[0]
        values: list[float] = series.values[1:]
    images = run.get_image_sequence("samples")
    print(images and images.values[0])
with Run() as run:
    run.track(np.float32(1), name="m", step=np.int64(3), epoch=np.float64(0.5))
"""


def test_the_types_of_scripts(tmp_path):
    pytest.importorskip("mypy")
    scripts = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    scripts.append(SCRIPT)
    for number, script in enumerate(scripts):
        (tmp_path / f"script_{number}.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", tmp_path]
    done = subprocess.run(
        [*command, f"--cache-dir={tmp_path / 'cache'}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(Path(matyan_client.__file__).parents[1])},
    )
    assert (done.returncode, len(scripts)) == (0, 4), done.stdout


def test_a_column_view_is_a_sequence():
    view = ColumnView([0, 5], ["a", "b"])
    assert (view[0], view[-1], view[1:], view.index("b")) == ("a", "b", ["b"], 1)
    assert ("a" in view, list(reversed(view)), len(view)) == (True, ["b", "a"], 2)
