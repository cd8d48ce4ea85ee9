"""Installs a release with every Python that is found, here and in root file systems.

Each row of the table is one installation from nothing to a chart, as `installing.py` makes it:
the wheels with one Python, or the program of the tarball or of the image with the wheel of the
SDK. Needs no network.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from installing import Place, from_nothing_to_a_chart

VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
STEPS = ["environment", "installation", "server", "demo", "chart"]
IMAGE_PROGRAM = "usr/local/bin/matyan"
LIBRARIES = ["lib*", "lib*/*", "usr/lib*", "usr/lib*/*"]
HEADING = ["place", "libc", "Python", "program", *STEPS]


def candidates(version, root, home=None, path=None):
    """Returns paths at which a version of Python may be."""
    name = f"python{version}"
    found = []
    if not root:
        home = home or Path.home()
        pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions"
        uv = home / ".local/share/uv/python"
        for directory, pattern in ((pyenv, f"{version}.*"), (uv, f"cpython-{version}.*")):
            found += [str(one / "bin" / name) for one in sorted(directory.glob(pattern))]
        found += [here] if (here := shutil.which(name, path=path)) else []
    number = version.replace(".", "")
    found.append(f"/opt/python/cp{number}-cp{number}/bin/{name}")
    return [*found, f"/usr/local/bin/{name}", f"/usr/bin/{name}"]


def find_python(place, version):
    """Returns the path and the full version of a Python that starts, if there is one."""
    for python in candidates(version, place.root):
        command = place.command(python, "-c", "import platform; print(platform.python_version())")
        try:
            done = subprocess.run(
                command, env=place.environment, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            continue
        # Shims of pyenv exist for versions that are not selected, and fail.
        if done.returncode == 0 and done.stdout.startswith(f"{version}."):
            return python, done.stdout.strip()
    return None


def libc(root):
    """Returns the C library of a root file system, with the version that is in its file."""
    for library in (path for name in LIBRARIES for path in sorted(root.glob(f"{name}/libc.so.6"))):
        if found := re.search(rb"GNU C Library .*version (\d+\.\d+)", library.read_bytes()):
            return f"glibc {found[1].decode()}"
    return "musl" if any(root.glob("lib/ld-musl-*.so.1")) else "unknown"


class Matrix:
    """The rows that have been tried, printed as they come."""

    def __init__(self, wheels, program):
        self.wheels = wheels
        self.program = program
        self.failures = []
        print_row(HEADING)

    def directory(self, root=None):
        """Returns a new directory in which nothing is installed."""
        if root:
            (root / "tmp").mkdir(exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="matyan-", dir=root and root / "tmp")

    def row(self, names, make):
        """Tries one installation, and prints its times or its failure."""
        try:
            times = make()
        except Exception as error:  # noqa: BLE001 # The other rows are tried too.
            self.failures.append(f"{' · '.join(names)}\n{error}")
            print_row([*names, "failed"])
        else:
            print_row([*names, *(f"{times[step]:.1f} s" for step in STEPS)])

    def wheel(self, names, root, python):
        """Tries the wheels with a Python of a place."""
        with self.directory(root) as directory:
            place = Place(Path(directory), root)
            self.row(names, lambda: from_nothing_to_a_chart(place, python, self.wheels))

    def standalone(self, names, root, python, image=None):
        """Tries a program in a place. Its client is on this machine."""
        with self.directory(root) as directory, self.directory() as clients:
            servers = Place(Path(directory), root)
            program = image or servers.inside(Path(shutil.copy2(self.program, directory)))
            place = Place(Path(clients))
            self.row(
                names,
                lambda: from_nothing_to_a_chart(place, python, self.wheels, (program, servers)),
            )

    def place(self, root, client):
        """Tries all rows of a place. `client` is the Python for programs, and its version."""
        name = str(root) if root else "this machine"
        library = libc(root or Path("/"))
        with self.directory(root) as directory:
            place = Place(Path(directory), root)
            pythons = {version: find_python(place, version) for version in VERSIONS}
        for version, found in pythons.items():
            if found:
                python, full = found
                self.wheel([name, library, full, "wheel"], root, python)
            else:
                print_row([name, library, version, "wheel", "not found"])
        python, full = client
        if self.program:
            self.standalone([name, library, full, "tarball"], root, python)
        if root and (root / IMAGE_PROGRAM).exists():
            names = [name, library, full, "image"]
            self.standalone(names, root, python, image=f"/{IMAGE_PROGRAM}")


def print_row(cells):
    widths = [28, 12, 8, 8, *(13 for _ in STEPS)]
    line = "".join(cell.ljust(width - 1) + " " for cell, width in zip(cells, widths, strict=False))
    print(line.rstrip(), flush=True)


def unpacked(tarball, directory):
    """Unpacks a tarball, and returns the path of its program."""
    with tarfile.open(tarball) as archive:
        archive.extractall(directory, filter="data")
    (program,) = Path(directory).glob("*/matyan")
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True, help="directory of both wheels")
    parser.add_argument("--tarball", type=Path, help="tarball of the program")
    parser.add_argument(
        "--root", type=Path, action="append", default=[], help="root file system to install into"
    )
    arguments = parser.parse_args()
    client = sys.executable, ".".join(map(str, sys.version_info[:3]))
    with tempfile.TemporaryDirectory() as directory:
        program = arguments.tarball and unpacked(arguments.tarball, directory)
        matrix = Matrix(arguments.wheels.resolve(), program)
        for root in [None, *arguments.root]:
            matrix.place(root and root.resolve(), client)
    print(*("", *matrix.failures), sep="\n\n")
    return 1 if matrix.failures else 0


if __name__ == "__main__":
    sys.exit(main())
