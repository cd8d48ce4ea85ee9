"""A project of fifty runs with objects of every kind, logged with the published Python client, as by a user."""

from __future__ import annotations

import math
import random
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy
import plotly.graph_objects as plotly
from matyan_client import Audio, Distribution, Figure, Image, Run, Text

RUNS = 50
STEPS = 40
EXPERIMENTS = ["baseline", "augmented", "distilled"]
OPTIMIZERS = ["adam", "sgd", "lion"]
ARTIFACTS = {"model.txt": b"weights", "config.json": b'{"a": 1}', "weights.bin": bytes(range(256)) * 2_000}


@dataclass
class Project:
    """Hashes and names of the logged runs, in the order of logging."""

    hashes: list[str]
    names: list[str]


def log_project(query: str, ingest: str, folder: Path) -> Project:
    dice = random.Random(7)
    project = Project([], [])
    for number in range(RUNS):
        run = Run(
            uuid.UUID(int=dice.getrandbits(128)).hex, repo=query, frontier_url=ingest,
            experiment=EXPERIMENTS[number % 3], log_system_params=number == 0, capture_terminal_logs=number == 0,
        )
        run.name = f"run {number:02}"
        run["hparams"] = {
            "lr": 10 ** -dice.uniform(1, 4),
            "batch_size": 2 ** dice.randint(4, 8),
            "optimizer": OPTIMIZERS[number % 3],
            "model": {"layers": dice.randint(2, 12), "dropout": dice.choice([0.0, 0.1, 0.5])},
        }
        if number % 10 == 0:
            run.add_tag("best")
        if number % 7 == 0:
            run.add_tag("wip")
        log_metrics(run, dice)
        # Large objects on some of the runs only, enough for several on every page.
        if number % 5 == 0:
            log_objects(run, number)
        if number == 0:
            log_texts(run, folder)
            log_system(run)
        run.close()
        project.hashes.append(run.hash)
        project.names.append(f"run {number:02}")
    return project


def log_metrics(run: Run, dice: random.Random) -> None:
    pace = dice.uniform(5, 20)
    noise = dice.uniform(0.01, 0.1)
    for step in range(STEPS):
        for subset, shift in (("train", 0.0), ("val", 0.1)):
            loss = math.exp(-step / pace) + shift + dice.gauss(0, noise)
            run.track(loss, name="loss", step=step, epoch=step // 10, context={"subset": subset})
            run.track(1 - loss / 2, name="accuracy", step=step, epoch=step // 10, context={"subset": subset})
    run.track(float("nan"), name="gradient", step=0)
    run.track(1.0, name="gradient", step=1)


def log_system(run: Run) -> None:
    """System metrics under the names that the client uses, with constant values."""
    for step in range(STEPS):
        wave = math.sin(step / 5)
        for name, percent in [
            ("__system__cpu", 60 + 30 * wave),
            ("__system__p_memory_percent", 2 + step / 100),
            ("__system__memory_percent", 40 + wave),
            ("__system__disk_percent", 71.5),
        ]:
            run.track(percent, name=name, step=step)
        run.track(90 + 5 * wave, name="__system__gpu", step=step, context={"gpu": 0})


def log_objects(run: Run, number: int) -> None:
    for step in range(3):
        pixels = numpy.zeros((48, 48, 3), dtype=numpy.uint8)
        pixels[..., number % 3] = numpy.linspace(60, 255, 48, dtype=numpy.uint8)
        pixels[: 12 * (step + 1), :, :] //= 2
        run.track(Image(pixels, caption=f"image at {step}"), name="samples", step=step, context={"subset": "val"})
        run.track(Text(f"text of run {number} at step {step}"), name="captions", step=step)
        run.track(tone(step), name="tones", step=step)
        run.track(weights(number, step), name="weights", step=step, context={"layer": "first"})
        bars = plotly.Figure(plotly.Bar(x=["a", "b", "c"], y=[number, step, 3]))
        bars.update_layout(title=f"bars {number} {step}")
        run.track(Figure(bars), name="bars", step=step)


def tone(step: int) -> Audio:
    """Half a second of sound."""
    wave = numpy.sin(numpy.arange(4_000) * (440 + 110 * step) * 2 * math.pi / 8_000)
    return Audio((wave * 20_000).astype(numpy.int16), rate=8_000, caption=f"tone {step}")


def weights(number: int, step: int) -> Distribution:
    return Distribution(numpy.random.default_rng(number * 10 + step).normal(step, 1, 500).tolist(), bin_count=32)


def log_texts(run: Run, folder: Path) -> None:
    """Terminal lines, log records and artifacts, for the tabs of a run's page."""
    for epoch in range(30):
        print(f"epoch {epoch}/30 of the logged run")  # noqa: T201
    run.log_info("learning begins", rate=0.1)
    run.log_warning("the loss is not finite")
    run.log_error("out of memory")
    for name, content in ARTIFACTS.items():
        (folder / name).write_bytes(content)
        run.log_artifact(str(folder / name))
