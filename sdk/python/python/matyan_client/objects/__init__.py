"""Objects that `Run.track` accepts next to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

__all__ = ["Audio", "Distribution", "Figure", "Html", "Image", "PointCloud", "Table", "Text"]

if _TYPE_CHECKING:
    from .audio import Audio
    from .distribution import Distribution
    from .figure import Figure
    from .html import Html
    from .image import Image
    from .pointcloud import PointCloud
    from .table import Table
    from .text import Text
else:
    # A type is imported when it is used, from the module with its name in lower case.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(__import__(f"{__name__}.{name.lower()}", fromlist=[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
