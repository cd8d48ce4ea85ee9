"""Paths of artifacts that are stored under a name. Different names have different paths."""

from __future__ import annotations

import re

# Characters that a path cannot start or end with, or that are invisible there.
_EDGES = re.compile(r"\A[/. ]+|[/. ]+\Z")
# Segments that are empty, or stand for another folder.
_SEGMENTS = re.compile(r"(?<=/)(?:\.{1,2}(?=/)|/)")


def escaped(text: str, allowed: str = "") -> str:
    """Returns text with characters that are unusual in paths as `%3A`, for example.

    Letters, digits, `_`, `-`, `.`, `/` and the characters in `allowed` stay.
    """
    return quoted(re.compile(rf"[^\w./{re.escape(allowed)}-]"), text)


def inside_folder(path: str) -> str:
    """Returns an escaped path whose segments are names, so that it stays in its folder."""
    return quoted(_EDGES, quoted(_SEGMENTS, path))


def quoted(pattern: re.Pattern[str], text: str) -> str:
    """Escapes what a pattern finds in a text, such as a colon as `%3A`."""

    def quote(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))

    return pattern.sub(quote, text)
