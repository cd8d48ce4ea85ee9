"""Tracked HTML pages."""

from __future__ import annotations

import base64
import os
from typing import Any

from matyan_client import values

from ._media import Encoded, Media, file_content

_SHOWN_CHARACTERS = 60


class Html:
    """An HTML page.

    Accepts the text of the page, its UTF-8 bytes, a `pathlib.Path`, and a stream. A text that ends
    with `.html` or `.htm` is the path of a file.

    The web UI shows the page in a frame without rights: its own scripts and styles work, and it
    loads nothing, so images, styles and scripts must be parts of the page.

    Usage::

        run.track(Html("<b>cat</b> 0.93"), name="predictions", step=0)
        run.track(Html("report.html"), name="report")
    """

    def __init__(self, data: Any, caption: str = "") -> None:
        self._caption = values.text(str(caption))
        if hasattr(data, "read"):
            data = data.read()
        if isinstance(data, (bytes, bytearray, memoryview)):
            content = bytes(data)
        elif isinstance(data, os.PathLike) or _is_path(data):
            content = file_content("data", data)
        elif isinstance(data, str):
            content = values.text(data).encode()
        else:
            raise TypeError(
                f"`data`: expected a text, bytes, a path, or a stream, not {type(data).__name__}"
            )
        self._media = Encoded(content, "html")

    @property
    def caption(self) -> str:
        """Text that is shown with the page."""
        return self._caption

    @property
    def data(self) -> str:
        """The text of the page."""
        return self._media.data.decode(errors="replace")

    def json(self) -> dict[str, object]:
        """Returns the page as one value, with the file as base64."""
        data = base64.b64encode(self._media.data).decode("ascii")
        return {"type": "html", "data": data, "caption": self._caption}

    def _payload(self) -> tuple[dict[str, object], Media]:
        """Returns the values to store with the series, and the content to store as a file."""
        return {"type": "html", "caption": self._caption}, self._media

    def __repr__(self) -> str:
        shown = self.data[:_SHOWN_CHARACTERS]
        if len(self.data) > _SHOWN_CHARACTERS:
            shown += "..."
        return f"Html({shown!r})"


def _is_path(data: Any) -> bool:
    return isinstance(data, str) and data.lower().endswith((".html", ".htm")) and "\n" not in data
