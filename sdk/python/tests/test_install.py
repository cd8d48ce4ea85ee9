"""Matyan as users install it, from nothing to a chart: both wheels in an empty environment without
a network, the server in an empty directory, the demo, and a search.

`make install-test` installs the wheels of a release from `MATYAN_WHEELS`. Otherwise a wheel is
packed around the server `MATYAN_BIN`, next to the wheel `MATYAN_SDK_WHEEL`. `make install-matrix`
does the same with several versions of Python.
"""

import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import install_matrix
import pytest
from installing import Place, from_nothing_to_a_chart

SERVER_PROJECT = Path(__file__).parents[3] / "services" / "matyan" / "pyproject.toml"


@pytest.fixture
def wheels(tmp_path):
    """Directory with the wheels of the server and of the SDK."""
    if directory := os.environ.get("MATYAN_WHEELS"):
        return Path(directory)
    if not {"MATYAN_BIN", "MATYAN_SDK_WHEEL"} <= os.environ.keys():
        pytest.skip("neither MATYAN_WHEELS nor MATYAN_BIN and MATYAN_SDK_WHEEL are set")
    directory = tmp_path / "wheels"
    directory.mkdir()
    shutil.copy(os.environ["MATYAN_SDK_WHEEL"], directory)
    pack(Path(os.environ["MATYAN_BIN"]), directory)
    return directory


def pack(program, directory):
    """Packs a program as the wheel of the server, as far as pip needs it."""
    (requirement,) = re.findall(r'^dependencies = \["(.*)"\]$', SERVER_PROJECT.read_text(), re.M)
    version = requirement.partition("==")[2]
    metadata = f"Metadata-Version: 2.1\nName: matyan\nVersion: {version}\n"
    name = f"matyan-{version}"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n"
    texts = {"METADATA": f"{metadata}Requires-Dist: {requirement}\n", "WHEEL": tags, "RECORD": ""}
    with zipfile.ZipFile(directory / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.write(program, f"{name}.data/scripts/{program.name}")
        for file, text in texts.items():
            wheel.writestr(f"{name}.dist-info/{file}", text)


def test_from_nothing_to_a_chart(wheels, tmp_path, capsys):
    directory = tmp_path / "empty"
    directory.mkdir()
    times = from_nothing_to_a_chart(Place(directory), sys.executable, wheels)
    with capsys.disabled():
        print("\nseconds:", ", ".join(f"{step} {at:.1f}" for step, at in times.items()))


def test_interpreters_are_looked_for_where_people_have_them(tmp_path, monkeypatch):
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    (tmp_path / ".pyenv/versions/3.12.1").mkdir(parents=True)
    (tmp_path / ".local/share/uv/python/cpython-3.12.7-linux-x86_64-gnu").mkdir(parents=True)
    shim = tmp_path / "bin" / "python3.12"
    shim.parent.mkdir()
    shim.touch(0o755)
    here = install_matrix.candidates("3.12", None, home=tmp_path, path=str(shim.parent))
    assert here[:3] == [
        f"{tmp_path}/.pyenv/versions/3.12.1/bin/python3.12",
        f"{tmp_path}/.local/share/uv/python/cpython-3.12.7-linux-x86_64-gnu/bin/python3.12",
        str(shim),
    ]
    in_a_root = install_matrix.candidates("3.12", Path("/some/root"))
    assert in_a_root == here[3:]
    assert in_a_root[0] == "/opt/python/cp312-cp312/bin/python3.12"


def test_a_shim_that_fails_is_no_interpreter(tmp_path, monkeypatch):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    name = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(
        install_matrix, "candidates", lambda version, root: [str(shim), sys.executable]
    )
    place = Place(tmp_path)
    assert install_matrix.find_python(place, name)[0] == sys.executable
    assert install_matrix.find_python(place, "3.99") is None


def test_the_libc_of_a_root_names_itself(tmp_path):
    library = tmp_path / "usr/lib/x86_64-linux-gnu/libc.so.6"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n\0")
    assert install_matrix.libc(tmp_path) == "glibc 2.36"
    library.unlink()
    assert install_matrix.libc(tmp_path) == "unknown"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/ld-musl-x86_64.so.1").touch()
    assert install_matrix.libc(tmp_path) == "musl"


def test_programs_of_a_root_see_its_paths(tmp_path):
    place = Place(tmp_path / "tmp" / "matyan-1", tmp_path)
    assert place.inside(place.directory / "data") == "/tmp/matyan-1/data"
    assert place.environment["MATYAN_DATA_DIR"] == "/tmp/matyan-1/data"
    assert place.command("/usr/bin/python3", "-V")[-3:] == [str(tmp_path), "/usr/bin/python3", "-V"]
