"""Tracked text."""

from __future__ import annotations

from matyan_client import values

_SHOWN_CHARACTERS = 60


class Text:
    """A text.

    Usage::

        run.track(Text("prediction: cat"), name="predictions", step=0)
    """

    def __init__(self, text: object) -> None:
        self._data = values.text(str(text))

    @property
    def data(self) -> str:
        """The text."""
        return self._data

    def json(self) -> dict[str, object]:
        """Returns the form in which the text is stored."""
        return {"type": "text", "data": self._data}

    def __repr__(self) -> str:
        shown = self._data[:_SHOWN_CHARACTERS]
        if len(self._data) > _SHOWN_CHARACTERS:
            shown += "..."
        return f"Text({shown!r})"
