"""A demo that trains a few small networks and logs them: `python -m matyan_client.demo`."""

from __future__ import annotations

import argparse
import math
import random
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import Distribution, Image, Run, Text, errors
from .config import SETTINGS
from .transport.http import HttpTransport

_EXPERIMENT = "two moons"
_SAMPLES = 160
_EPOCHS = 60
_IMAGE_INTERVAL = 20
_IMAGE_SIDE = 96
# The picture has a margin around the moons.
_IMAGE_RANGE = (-1.8, 2.8, -1.4, 1.9)
_STATUS_TIMEOUT = 5.0


class Settings(NamedTuple):
    """Hyperparameters of a run."""

    learning_rate: float
    units: int
    noise: float


_SWEEP = (
    Settings(0.02, 4, 0.1),
    Settings(0.1, 4, 0.1),
    Settings(0.1, 8, 0.2),
    Settings(0.5, 8, 0.1),
    Settings(3.0, 8, 0.1),
)
_LIVE = Settings(0.3, 12, 0.15)

Sample = tuple[float, float, int]


class Network:
    """A classifier of points with one hidden layer."""

    def __init__(self, units: int, source: random.Random) -> None:
        self.hidden = [
            [source.gauss(0, 1), source.gauss(0, 1), source.gauss(0, 0.5)] for _ in range(units)
        ]
        self.output = [source.gauss(0, 0.5) for _ in range(units)]
        self.bias = 0.0

    def probability(self, x: float, y: float) -> float:
        """Returns the probability that a point belongs to the second moon."""
        return _sigmoid(self._logit(self._activations(x, y)))

    def train(self, sample: Sample, rate: float) -> float:
        """Takes one step of gradient descent, and returns the loss before it."""
        x, y, label = sample
        activations = self._activations(x, y)
        probability = _sigmoid(self._logit(activations))
        error = probability - label
        for unit, activation in enumerate(activations):
            slope = error * self.output[unit] * (1 - activation * activation)
            self.output[unit] -= rate * error * activation
            weights = self.hidden[unit]
            weights[0] -= rate * slope * x
            weights[1] -= rate * slope * y
            weights[2] -= rate * slope
        self.bias -= rate * error
        return _loss(probability, label)

    def weights(self) -> list[float]:
        """Returns the weights of the hidden layer."""
        return [weight for unit in self.hidden for weight in unit]

    def _activations(self, x: float, y: float) -> list[float]:
        return [math.tanh(unit[0] * x + unit[1] * y + unit[2]) for unit in self.hidden]

    def _logit(self, activations: Sequence[float]) -> float:
        return self.bias + sum(map(float.__mul__, self.output, activations))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo, and returns its exit status."""
    options = _parser().parse_args(arguments)
    url = (options.repo or SETTINGS.backend_url).rstrip("/")
    try:
        HttpTransport(url, timeout=_STATUS_TIMEOUT).read_version()
    except errors.ServerError as error:
        print(
            f"demo: no Matyan server answers at {url}: {error}; start one with `matyan up`, "
            "or pass --repo URL",
            file=sys.stderr,
        )
        return 1
    print(f"Training {len(_SWEEP) + 1} small networks; watch them at {url}/runs")
    for settings in _SWEEP:
        _train(settings, url, 0.0)
    _train(_LIVE, url, options.seconds)
    print(f"Done. Compare the runs at {url}/runs, or search them:")
    print(f"  matyan runs search \"run.experiment == '{_EXPERIMENT}' and run.hparams.units > 4\"")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m matyan_client.demo",
        description="Trains six small networks in pure Python, and logs params, metrics, images, "
        "distributions and texts. The last run takes its time, so that its charts move.",
    )
    parser.add_argument("--repo", metavar="URL", help="server; default: MATYAN_BACKEND_URL")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="time that the last run takes; default: %(default)s",
    )
    return parser


def _train(settings: Settings, url: str, seconds: float) -> None:
    source = random.Random(7)  # noqa: S311 - the data is no secret
    samples = list(_moons(settings.noise, source))
    training = samples[: _SAMPLES * 3 // 4]
    validation = samples[_SAMPLES * 3 // 4 :]
    network = Network(settings.units, source)
    with Run(repo=url, experiment=_EXPERIMENT, capture_terminal_logs=False) as run:
        run.name = f"rate {settings.learning_rate:g}, {settings.units} units"
        run["hparams"] = settings._asdict()
        for epoch in range(_EPOCHS):
            source.shuffle(training)
            losses = [network.train(sample, settings.learning_rate) for sample in training]
            run.track(
                sum(losses) / len(losses), name="loss", step=epoch, context={"subset": "train"}
            )
            _validate(run, network, validation, epoch)
            if epoch % _IMAGE_INTERVAL == 0 or epoch == _EPOCHS - 1:
                _describe(run, network, samples, epoch)
            time.sleep(seconds / _EPOCHS)


def _validate(run: Run, network: Network, samples: Sequence[Sample], epoch: int) -> None:
    probabilities = [network.probability(x, y) for x, y, _ in samples]
    labels = [label for _, _, label in samples]
    correct = sum(
        (probability > 0.5) == bool(label)
        for probability, label in zip(probabilities, labels, strict=True)
    )
    loss = sum(map(_loss, probabilities, labels)) / len(samples)
    context = {"subset": "validation"}
    run.track(loss, name="loss", step=epoch, context=context)
    run.track(correct / len(samples), name="accuracy", step=epoch, context=context)


def _describe(run: Run, network: Network, samples: Sequence[Sample], epoch: int) -> None:
    picture = _picture(network, samples)
    run.track(Image(picture, caption=f"epoch {epoch}"), name="decision", step=epoch)
    run.track(Distribution(network.weights(), bin_count=16), name="weights", step=epoch)
    unsure = min(samples, key=lambda sample: abs(network.probability(*sample[:2]) - 0.5))
    text = f"least certain: ({unsure[0]:.2f}, {unsure[1]:.2f}), which is in moon {unsure[2]}"
    run.track(Text(text), name="samples", step=epoch)


def _moons(noise: float, source: random.Random) -> Iterator[Sample]:
    """Yields points of two half circles that reach into each other."""
    for index in range(_SAMPLES):
        angle = source.uniform(0, math.pi)
        x = math.cos(angle)
        y = math.sin(angle)
        label = index % 2
        if label:
            x = 1 - x
            y = 0.5 - y
        yield x + source.gauss(0, noise), y + source.gauss(0, noise), label


def _picture(network: Network, samples: Sequence[Sample]) -> bytes:
    """Returns a PNG with the color of each place by its probability, and the samples on top."""
    left, right, bottom, top = _IMAGE_RANGE
    across = (right - left) / _IMAGE_SIDE
    down = (top - bottom) / _IMAGE_SIDE
    rows = [bytearray() for _ in range(_IMAGE_SIDE)]
    for number, row in enumerate(rows):
        for column in range(_IMAGE_SIDE):
            probability = network.probability(left + column * across, top - number * down)
            row.extend((int(60 + 160 * probability), 120, int(220 - 160 * probability)))
    for x, y, label in samples:
        column = int((x - left) / across)
        number = int((top - y) / down)
        if 0 <= column < _IMAGE_SIDE and 0 <= number < _IMAGE_SIDE:
            rows[number][column * 3 : column * 3 + 3] = b"\xff\xff\xff" if label else b"\0\0\0"
    return _png(rows)


def _png(rows: Sequence[bytes | bytearray]) -> bytes:
    """Returns rows of RGB pixels as a PNG file. No library for images is needed."""
    size = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", size), (b"IDAT", pixels), (b"IEND", b""))
    )


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))


def _loss(probability: float, label: int) -> float:
    return -math.log(max(1e-9, probability if label else 1 - probability))


if __name__ == "__main__":
    sys.exit(main())
