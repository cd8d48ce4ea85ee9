"""Tracked audio."""

from __future__ import annotations

import base64
import io
import os
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matyan_client import values

from . import _arrays, _headers
from ._media import Encoded, Media, Samples, encoded, file_content

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DEFAULT_RATE = 22050
# The largest that the header of a WAV file has space for.
_MAX_RATE = 2**32 - 1
# Frames that are scaled at a time, so that they stay in the caches of the processor.
_FRAMES = 16_384
# An array with more columns than this has the channels first.
_MAX_CHANNELS = 64


class Audio:
    """A recording.

    Accepts the bytes, the path, or a binary stream of a file, which are stored unchanged, and
    arrays and tensors of samples. Arrays have the shape (frames,) or (frames, channels), tensors of
    torch (channels, frames). They are stored as WAV with 16 bits, scaled to the largest sample
    unless they already have 16 bits.

    `rate` is the number of frames per second of an array, 22050 by default.

    Usage::

        run.track(Audio("recording.wav", caption="sample"), name="audio", step=0)
    """

    def __init__(
        self,
        data: Any,
        format_: str = "",
        caption: str = "",
        rate: int | None = None,
        *,
        format: str = "",  # noqa: A002 - the name in Aim
    ) -> None:
        self._caption = values.text(str(caption))
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, Real)):
            raise TypeError(f"`rate`: expected a number, not {type(rate).__name__}")
        if rate is not None and not 1 <= rate <= _MAX_RATE:
            raise ValueError(f"`rate`: expected 1 to {_MAX_RATE} frames per second, found {rate}")
        self._rate = rate
        wanted = format_ or format
        if isinstance(data, (bytes, bytearray, memoryview)):
            self._media: Media = _from_bytes(bytes(data), wanted)
        elif isinstance(data, (str, os.PathLike)):
            path = Path(data)
            self._media = _from_bytes(file_content("data", path), wanted or path.suffix.lstrip("."))
        elif values.is_array(data):
            self._media = _samples(data, _DEFAULT_RATE if rate is None else rate)
        elif hasattr(data, "read"):
            content = data.read()
            if not isinstance(content, bytes):
                raise TypeError("`data`: open the stream in binary mode, it returns text")
            self._media = _from_bytes(content, wanted)
        else:
            raise TypeError(
                f"`data`: expected bytes, a path, a stream, or an array, not {type(data).__name__}"
            )

    @property
    def caption(self) -> str:
        """Text that is shown with the recording."""
        return self._caption

    @property
    def format(self) -> str:
        """Format of the file, such as `wav` or `mp3`."""
        return self._media.format if isinstance(self._media, Encoded) else "wav"

    @property
    def rate(self) -> int | None:
        """Frames per second, if given."""
        return self._rate

    def json(self) -> dict[str, object]:
        """Returns the form that clients of Matyan 0.3 send, with the file as base64."""
        data = base64.b64encode(encoded(self._media).data).decode("ascii")
        return {"type": "audio", "data": data, **self._attributes()}

    def to_numpy(self) -> tuple[int, NDArray[np.generic]]:
        """Returns the rate and the samples of a WAV file with up to 32 bits."""
        import wave  # noqa: PLC0415 - rarely needed

        import numpy as np  # noqa: PLC0415 - optional, and slow to import

        if self.format != "wav":
            raise ValueError(f"Only WAV can be decoded, not {self.format!r}")
        with wave.open(io.BytesIO(encoded(self._media).data)) as file:
            dtypes = {1: "u1", 2: "<i2", 4: "<i4"}
            if file.getsampwidth() not in dtypes:
                raise ValueError(f"Samples of {file.getsampwidth() * 8} bits cannot be decoded")
            frames = file.readframes(file.getnframes())
            samples = np.frombuffer(frames, dtypes[file.getsampwidth()])
            if file.getnchannels() > 1:
                samples = samples.reshape(-1, file.getnchannels())
            return file.getframerate(), samples

    def _attributes(self) -> dict[str, object]:
        return {"format": self.format, "caption": self._caption, "rate": self._rate}

    def _payload(self) -> tuple[dict[str, object], Media]:
        """Returns the values to store with the series, and the content to store as a file."""
        return {"type": "audio", **self._attributes()}, self._media

    def __repr__(self) -> str:
        size = len(self._media.data)
        return f"Audio(format={self.format!r}, size={size}, caption={self._caption!r})"


def _from_bytes(data: bytes, wanted: str) -> Encoded:
    return Encoded(data, wanted.lower() or _headers.audio_format(data) or "")


def _samples(data: Any, rate: int) -> Samples:
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    array = _arrays.to_numpy(data)
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise TypeError(
            "`data`: expected the shape (frames,) or (frames, channels), found "
            f"{tuple(array.shape)}"
        )
    if array.shape[1] > _MAX_CHANNELS or (
        _arrays.is_torch(data) and array.shape[0] < array.shape[1]
    ):
        array = array.T
    if array.shape[1] > _MAX_CHANNELS:
        raise TypeError(
            f"`data`: expected at most 64 channels, found the shape {tuple(array.shape)}"
        )
    if array.dtype != np.int16:
        array = _scaled(array)
    return Samples(array.astype("<i2", copy=False).tobytes(), array.shape[1], int(rate))


def _scaled(array: NDArray[Any]) -> NDArray[np.int16]:
    """Returns samples such that the loudest sample has the largest value."""
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    parts = [array[start : start + _FRAMES] for start in range(0, len(array), _FRAMES)]
    peak = max((np.abs(_finite(part)).max(initial=0.0) for part in parts), default=0.0)
    scaled = np.zeros(array.shape, np.int16)
    if peak > 0:
        for start, part in zip(range(0, len(array), _FRAMES), parts, strict=True):
            scaled[start : start + _FRAMES] = _finite(part) / peak * 32767
    return scaled


def _finite(array: NDArray[Any]) -> NDArray[np.float64]:
    """Returns a copy of samples in which samples that are no number are silent."""
    import numpy as np  # noqa: PLC0415 - optional, and slow to import

    floats = array.astype(np.float64)
    if array.dtype.kind == "f":
        floats[~np.isfinite(floats)] = 0.0
    return floats
