"""Objects that `Run.track` accepts next to numbers."""

from .audio import Audio
from .distribution import Distribution
from .figure import Figure
from .image import Image
from .text import Text

__all__ = ["Audio", "Distribution", "Figure", "Image", "Text"]
