"""Reader of the flat YAML files that MLflow writes: names with scalars, and nothing else."""

from __future__ import annotations

from .literals import evaluated


def flat_yaml(text: str) -> dict[str, str]:
    """Returns the scalars of a file as text. Long scalars continue on indented lines."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith((" ", "\t")) and lines:
            lines[-1] += " " + line.strip()
        elif line.strip() and not line.startswith("#"):
            lines.append(line.rstrip())
    scalars = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            scalars[name.strip()] = _scalar(value.strip())
    return scalars


def _scalar(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            # The escapes of YAML that PyYAML writes are the escapes of Python.
            return str(evaluated(text))
        except ValueError:
            return text[1:-1]
    return "" if text in ("null", "~") else text
