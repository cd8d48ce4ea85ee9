"""A project to judge the web UI by: a sweep that one param decides, ablations, long and wide runs, live ones.

    python ui/tests/sweep.py http://127.0.0.1:53800 [--live 3]

The quality of each run is computed from its params, so it is known what a good tool finds: the learning rate
decides, with the best value near 1.6e-4, then the data set, the scheduler and the rank. Without warmup, the
largest rates diverge. Seeds and ids mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import struct
import time
import zlib
from typing import Any

from matyan_client import Distribution, Image, Run, Text

BEST_RATE = 1.6e-4
DATASETS = {"alpaca-52k": 0.06, "oasst": 0.0, "dolly-15k": 0.11}
SCHEDULERS = {"cosine": 0.0, "linear": 0.015, "constant": 0.04}
RANKS = {8: 0.03, 16: 0.01, 64: 0.0}
SWEEP = 42
ABLATIONS = 13
STEPS = 400
LONG_STEPS = 100_000
WIDE_SERIES = 2_000


class OutOfMemoryError(RuntimeError):
    """The error of some runs of the sweep."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("--live", type=int, default=0, help="runs that log each second until Ctrl-C")
    options = parser.parse_args()
    dice = random.Random(11)
    for number in range(SWEEP):
        with contextlib.suppress(OutOfMemoryError):
            fine_tune(options.server, dice, number)
    for number in range(ABLATIONS):
        ablate(options.server, dice, number)
    for number in range(3):
        pretrain(options.server, dice, f"pretrain {number}", STEPS * 5)
    pretrain(options.server, dice, "pretrain long", LONG_STEPS)
    wide(options.server)
    if options.live:
        follow(options.server, dice, options.live)


def opened(server: str, experiment: str) -> Run:
    return Run(repo=server, experiment=experiment, capture_terminal_logs=False)


def drawn(dice: random.Random) -> dict[str, Any]:
    return {
        "optimizer": {
            "name": dice.choice(["adamw", "lion"]),
            "lr": 10 ** dice.uniform(-5, -2.3),
            "weight_decay": dice.choice([0.0, 0.01, 0.1]),
            "scheduler": dice.choice(list(SCHEDULERS)),
            "warmup_ratio": dice.choice([0.0, 0.03, 0.1]),
        },
        "model": {"name": "llama3-8b", "rank": dice.choice(list(RANKS))},
        "data": {"name": dice.choice(list(DATASETS))},
        "seed": dice.randrange(1_000),
        "job_id": dice.randrange(800_000, 900_000),
    }


def loss_of(params: dict[str, Any]) -> float:
    """Returns the loss at the end, which the params decide."""
    optimizer = params["optimizer"]
    distance = math.log10(optimizer["lr"] / BEST_RATE)
    return (
        1.0 + 0.35 * distance**2 + DATASETS[params["data"]["name"]] + SCHEDULERS[optimizer["scheduler"]]
        + RANKS[params["model"]["rank"]]
    )


def is_diverging(params: dict[str, Any]) -> bool:
    return params["optimizer"]["lr"] > 2e-3 and params["optimizer"]["warmup_ratio"] == 0


def fine_tune(server: str, dice: random.Random, number: int) -> None:
    params = drawn(dice)
    with opened(server, "llama3-8b-sft-sweep") as run:
        run["hparams"] = params
        run["env"] = {"host": f"node-{number % 4}", "cuda": "12.4"}
        end = 9.0 if is_diverging(params) else loss_of(params)
        for step in range(STEPS):
            progress = step / STEPS
            loss = end + (3.2 - end) * math.exp(-6 * progress) + dice.gauss(0, 0.03)
            loss *= 4 if step == 250 and number % 5 == 0 else 1
            is_lost = is_diverging(params) and step > STEPS - 20
            run.track(math.nan if is_lost else loss, name="train/loss", step=step)
            run.track(params["optimizer"]["lr"] * (1 - progress), name="train/lr", step=step)
            run.track(step * 4096, name="train/tokens_seen", step=step)
            run.track(abs(dice.gauss(1, 0.3)), name="train/grad_norm", step=step)
            for device in range(8):
                for reading, usual in (("utilization", 92), ("memory", 71), ("power", 640), ("temperature", 63)):
                    if step % 20 == 0:
                        run.track(dice.gauss(usual, 2), name=f"system/gpu.{device}.{reading}", step=step)
            if step % 20 == 19:
                run.track(loss + 0.05, name="val/loss", step=step)
                run.track(max(0.0, 0.72 - 0.2 * (end - 1) + dice.gauss(0, 0.004)), name="val/mmlu", step=step)
                run.track(max(0.0, 0.58 - 0.3 * (end - 1) + dice.gauss(0, 0.006)), name="val/gsm8k", step=step)
        log_media(run, dice)
        if number % 14 == 13:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def log_media(run: Run, dice: random.Random) -> None:
    for step in (0, 200, 399):
        for layer in (0, 2, 16):
            run.track(Image(picture(dice, layer + step)), name="attention", step=step, context={"layer": layer})
        run.track([Image(picture(dice, at), caption=f"sample {at}") for at in range(6)], name="samples", step=step)
        run.track(Text(f"Step {step}: the answer is {42 + step}."), name="completions", step=step)
        run.track(Distribution([dice.gauss(0, 0.1 + step / 400) for _ in range(500)]), name="weights", step=step)


def picture(dice: random.Random, seed: int, size: int = 48) -> bytes:
    """Returns a PNG file with colored stripes."""
    colors = [bytes(dice.randrange(256) for _ in range(3)) for _ in range(1 + seed % 7)]
    row = b"".join(colors[x * len(colors) // size] for x in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"".join(b"\0" + row for _ in range(size)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def ablate(server: str, dice: random.Random, number: int) -> None:
    with opened(server, "dpo-ablation") as run:
        beta = dice.choice([0.01, 0.1, 0.5])
        run["hparams"] = {"beta": beta, "loss": dice.choice(["sigmoid", "ipo"]), "seed": number}
        for step in range(0, STEPS, 4):
            rate = 0.5 + 0.3 * (1 - math.exp(-step / 120)) - abs(math.log10(beta / 0.1)) * 0.05
            run.track(rate + dice.gauss(0, 0.01), name="win_rate", step=step, context={"judge": "gpt"})
            run.track(0.69 * math.exp(-step / 500), name="loss", step=step, context={"subset": "train"})


def pretrain(server: str, dice: random.Random, name: str, steps: int) -> None:
    with opened(server, "pretraining") as run:
        run.name = name
        run["hparams"] = {"model": {"layers": 24}, "tokens": steps * 2**19}
        for step in range(steps):
            loss = 2.1 + 8 * (step + 20) ** -0.4 + dice.gauss(0, 0.02)
            # Two spikes of one step each.
            run.track(loss + 3 * (step in (steps // 3, steps * 3 // 4)), name="train/loss", step=step)


def wide(server: str) -> None:
    with opened(server, "pretraining") as run:
        run.name = "all layers"
        for series in range(WIDE_SERIES):
            layer, part = divmod(series, 5)
            name = f"layer{layer}/" + ("grad_norm", "weight_norm", "bias", "activation", "update")[part]
            for step in range(0, 100, 5):
                run.track(math.sin(step / 20 + layer / 9) * (part + 1), name=name, step=step)


def follow(server: str, dice: random.Random, count: int) -> None:
    runs = [opened(server, "live") for _ in range(count)]
    try:
        for step in range(10**9):
            for number, run in enumerate(runs):
                run.track(1 / (1 + step / 50) + dice.gauss(0, 0.02) + number / 10, name="train/loss", step=step)
                print(f"step {step}", flush=True)
            time.sleep(1)
    except KeyboardInterrupt:
        for run in runs:
            run.close()


if __name__ == "__main__":
    main()
