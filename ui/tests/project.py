"""A project for the tests of the UI: runs of several kinds, and one that stays active until the input ends."""

from __future__ import annotations

import json
import math
import random
import sys

from matyan_client import Run

RUNS = 60
STEPS = 300
EXPERIMENTS = ["baseline", "augmented", "distilled"]


def main() -> None:
    query, ingest = sys.argv[1:3]
    dice = random.Random(7)
    hashes = []

    def open_run(number: int) -> Run:
        run = Run(
            f"{dice.getrandbits(96):024x}", repo=query, frontier_url=ingest, experiment=EXPERIMENTS[number % 3],
            capture_terminal_logs=False,
        )
        hashes.append(run.hash)
        return run

    for number in range(RUNS):
        run = open_run(number)
        run.name = f"resnet50 sweep {number:02}" if number % 4 else f"vit-small / trial {number:02}"
        run["hparams"] = {
            "lr": 10 ** -dice.uniform(1, 4), "batch_size": 2 ** dice.randint(4, 8), "optimizer": dice.choice(["adam", "sgd", "lion"]),
            "model": {"layers": dice.randint(2, 12), "dropout": dice.choice([0.0, 0.1, 0.5])},
        }
        if number % 10 == 0:
            run.add_tag("best")
        if number % 7 == 0:
            run.add_tag("needs review")
        log_metrics(run, dice)
        run.close()

    strange = open_run(0)
    strange.name = "<script>alert(1)</script> \u202e ünïcödé 名前 🙂"
    strange["hparams"] = {"a.b": {"c\\d": 2**80}, "__proto__": 1, "none": None, "list": [1, 2.5, "x"], "nan": math.nan}
    for step in range(60):
        strange.track([math.nan, math.inf, -math.inf, 1.0 + step][step % 4 if step % 5 == 0 else 3], name="odd values", step=step)
        strange.track(10 ** (-step / 10), name="decades", step=step)
    strange.close()

    wide = open_run(1)
    wide.name = "thousand series"
    for series in range(1000):
        for step in range(20):
            wide.track(math.sin(step / 3 + series), name=f"layer{series // 10}/weight{series % 10}", step=step)
    wide.close()

    spike = open_run(2)
    spike.name = "one spike"
    for step in range(100_000):
        spike.track(100.0 if step == 54_321 else math.sin(step / 9_000) * 0.1, name="signal", step=step)
    spike.close()

    live = open_run(0)
    live.name = "live run"
    live["hparams"] = {"lr": 0.01, "batch_size": 32, "optimizer": "adam"}
    live.track(1.0, name="loss", step=0, context={"subset": "train"})
    live.flush()
    print(json.dumps({"hashes": hashes, "strange": strange.hash, "wide": wide.hash, "spike": spike.hash, "live": live.hash}), flush=True)
    # Each line of the input is a value to track.
    for step, line in enumerate(sys.stdin, start=1):
        live.track(float(line), name="loss", step=step, context={"subset": "train"})
        live.flush()
        print(step, flush=True)
    live.close()


def log_metrics(run: Run, dice: random.Random) -> None:
    pace, noise, floor = dice.uniform(15, 70), dice.uniform(0.01, 0.06), dice.uniform(0.05, 0.3)
    for step in range(STEPS):
        for subset, shift in (("train", 0.0), ("val", 0.1)):
            loss = floor + math.exp(-step / pace) + shift + abs(dice.gauss(0, noise))
            run.track(loss, name="loss", step=step, context={"subset": subset})
            run.track(max(0.0, 1 - loss / 2), name="accuracy", step=step, context={"subset": subset})
        run.track(1e-3 * 0.5 * (1 + math.cos(step / STEPS * math.pi)), name="lr", step=step)
        run.track(abs(dice.gauss(1, 0.4)) * math.exp(-step / 200), name="grad_norm", step=step)


if __name__ == "__main__":
    main()
