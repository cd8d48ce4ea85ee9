"""Tracked images."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from matyan_client import values

from . import _arrays, _headers
from ._media import Encoded, Media, Pixels, encoded, file_content

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

_MAX_CHANNELS = 4
# Of image files without a header that this module knows.
_OTHER_SUFFIXES = frozenset({"svg", "avif", "heic", "heif", "ico", "jp2", "jxl", "exr", "tga"})
_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


class Image:
    """An image.

    Accepts the bytes or the path of a file, which are stored unchanged, images of Pillow, figures
    of matplotlib, and arrays and tensors of numpy, torch, TensorFlow, or jax. Arrays have the
    shape (height, width), (height, width, channels), or (channels, height, width). Floats are
    colors from 0 to 1, or from 0 to 255 if any is larger than 1.

    `format_`, or `format`, is the format in which pixels are encoded, `PNG` by default. PNG is
    encoded in the background. Other formats are encoded by Pillow at the call, with `quality` and
    `optimize`.

    Usage::

        run.track(Image(pixels, caption="epoch 5"), name="samples", step=5)
    """

    def __init__(
        self,
        image: Any,
        caption: str = "",
        format_: str | None = None,
        quality: int = 90,
        optimize: bool = False,
        *,
        format: str | None = None,  # noqa: A002 - the name in Aim
    ) -> None:
        self._caption = values.text(str(caption))
        self._width: int | None = None
        self._height: int | None = None
        wanted = format_ or format
        if isinstance(image, (bytes, bytearray, memoryview)):
            self._media: Media = self._from_bytes(bytes(image), wanted)
        elif isinstance(image, (str, os.PathLike)):
            self._media = self._from_file(image, wanted)
        elif hasattr(image, "getbands"):
            self._media = self._from_pillow(image, wanted, quality, optimize)
        elif hasattr(image, "savefig"):
            self._media = self._from_matplotlib(image, wanted)
        elif values.is_array(image):
            pixels = _pixels(image)
            self._width = pixels.width
            self._height = pixels.height
            self._media = pixels
            if not _is_png(wanted):
                self._media = self._from_pillow(_pillow(pixels), wanted, quality, optimize)
        else:
            raise TypeError(
                "`image`: expected bytes, a path, an array, an image of Pillow, or a figure of "
                f"matplotlib, not {type(image).__name__}"
            )

    @property
    def caption(self) -> str:
        """Text that is shown with the image."""
        return self._caption

    @property
    def format(self) -> str:
        """Format of the image file, such as `PNG` or `JPEG`."""
        return self._media.format if isinstance(self._media, Encoded) else "PNG"

    @property
    def width(self) -> int | None:
        """Width in pixels, or None for a file whose format is not known."""
        return self._width

    @property
    def height(self) -> int | None:
        """Height in pixels, or None for a file whose format is not known."""
        return self._height

    @property
    def size(self) -> int:
        """Length of the image file in bytes."""
        return len(self._encoded().data)

    def json(self) -> dict[str, object]:
        """Returns the form that clients of Matyan 0.3 send, with the image file as base64."""
        data = base64.b64encode(self._encoded().data).decode("ascii")
        return {"type": "image", "data": data, **self._attributes()}

    def to_pil_image(self) -> PIL.Image.Image:
        """Returns the image as an image of Pillow."""
        if isinstance(self._media, Pixels):
            return _pillow(self._media)
        image: PIL.Image.Image = _pillow_module().open(io.BytesIO(self._encoded().data))
        image.load()
        return image

    def to_numpy(self) -> NDArray[np.uint8]:
        """Returns the pixels by row, column, and, unless the image is gray, channel."""
        import numpy as np  # noqa: PLC0415 - optional, and slow to import

        return cast("NDArray[np.uint8]", np.asarray(self.to_pil_image()))

    def _attributes(self) -> dict[str, object]:
        return {
            "format": self.format,
            "caption": self._caption,
            "width": self._width,
            "height": self._height,
        }

    def _payload(self) -> tuple[dict[str, object], Media]:
        """Returns the values to store with the series, and the content to store as a file."""
        return {"type": "image", **self._attributes()}, self._media

    def _encoded(self) -> Encoded:
        # The result replaces the pixels: a caller that needed the bytes once will need them later,
        # too.
        media = encoded(self._media)
        self._media = media
        return media

    def _from_bytes(self, data: bytes, wanted: str | None) -> Encoded:
        header = _headers.image_header(data)
        if header is None:
            return Encoded(data, _format_name(wanted))
        self._width = header.width
        self._height = header.height
        return Encoded(data, header.format)

    def _from_file(self, path: str | os.PathLike[str], wanted: str | None) -> Encoded:
        data = file_content("image", path)
        suffix = Path(path).suffix.lstrip(".").lower()
        if wanted is None and _headers.image_header(data) is None:
            if suffix not in _OTHER_SUFFIXES:
                raise ValueError(
                    f"`image`: {os.fspath(path)!r} is not an image in PNG, JPEG, GIF, BMP, WebP, "
                    "or TIFF; give `format` to store a file in another format"
                )
            wanted = suffix
        return self._from_bytes(data, wanted)

    def _from_pillow(
        self, image: PIL.Image.Image, wanted: str | None, quality: int, optimize: bool
    ) -> Media:
        self._width, self._height = image.size
        name = _format_name(wanted)
        if name == "PNG":
            image = _without_palette(image)
            if image.mode in _MODES:
                return Pixels(image.tobytes(), *image.size, _MODES[image.mode])
        _check_format(name)
        if name == "JPEG":
            image = _without_alpha(image)
        buffer = io.BytesIO()
        image.save(buffer, format=name, quality=quality, optimize=optimize)
        return Encoded(buffer.getvalue(), name)

    def _from_matplotlib(self, figure: Any, wanted: str | None) -> Encoded:
        name = _format_name(wanted).lower()
        known = figure.canvas.get_supported_filetypes()
        if name not in known:
            raise ValueError(f"`format`: matplotlib writes no {name!r}, but {', '.join(known)}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=name)
        return self._from_bytes(buffer.getvalue(), wanted)

    def __repr__(self) -> str:
        size = f"{self._width}x{self._height}"
        return f"Image(format={self.format!r}, size={size}, caption={self._caption!r})"


def _format_name(wanted: str | None) -> str:
    """Returns the name of a format as Pillow uses it."""
    name = (wanted or "PNG").upper().lstrip(".")
    return "JPEG" if name == "JPG" else name


def _is_png(wanted: str | None) -> bool:
    return _format_name(wanted) == "PNG"


def _pixels(image: Any) -> Pixels:
    """Returns the pixels of an array or tensor. The values are copied."""
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    array = _arrays.to_numpy(image)
    # A batch that contains a single image.
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    elif array.ndim == 3:
        first = array.shape[0] <= _MAX_CHANNELS
        last = array.shape[2] <= _MAX_CHANNELS
        if first and (_arrays.is_torch(image) or not last):
            array = np.moveaxis(array, 0, 2)
    else:
        raise TypeError(
            f"`image`: expected the shape (height, width), (height, width, channels), or "
            f"(channels, height, width), found {tuple(array.shape)}"
        )
    height, width, channels = array.shape
    if not 1 <= channels <= _MAX_CHANNELS or height == 0 or width == 0:
        raise TypeError(f"`image`: expected 1 to 4 channels, found the shape {tuple(array.shape)}")
    return Pixels(_bytes_of_colors(array), width, height, channels)


def _bytes_of_colors(array: NDArray[Any]) -> bytes:
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float32), posinf=np.inf, neginf=-np.inf)
        scale = 255.0 if array.max() <= 1.0 else 1.0
        array = (array * scale).clip(0, 255).round().astype(np.uint8)
    elif array.dtype != np.uint8:
        array = array.clip(0, 255).astype(np.uint8)
    return array.tobytes()


def _pillow_module() -> Any:
    try:
        import PIL.Image  # noqa: PLC0415 - optional
    except ImportError:
        raise ImportError(
            "Pillow is required for this image format; install `matyan-client[image]`"
        ) from None
    return PIL.Image


def _pillow(pixels: Pixels) -> PIL.Image.Image:
    mode = next(mode for mode, channels in _MODES.items() if channels == pixels.channels)
    image = _pillow_module().frombytes(mode, (pixels.width, pixels.height), pixels.data)
    return cast("PIL.Image.Image", image)


def _check_format(name: str) -> None:
    """Raises `ValueError` for a format that Pillow cannot write."""
    module = _pillow_module()
    module.init()
    if name not in module.SAVE:
        known = ", ".join(sorted(module.SAVE))
        raise ValueError(f"`format`: Pillow writes no {name!r}, but {known}")


def _without_palette(image: PIL.Image.Image) -> PIL.Image.Image:
    """Returns an image with a palette, or of two colors, with a value for each channel."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        has_alpha = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if has_alpha else "RGB")
    return image


def _without_alpha(image: PIL.Image.Image) -> PIL.Image.Image:
    """Returns the image on a white ground, because JPEG has no transparency."""
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    ground = _pillow_module().new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return cast("PIL.Image.Image", ground.convert("RGB"))
