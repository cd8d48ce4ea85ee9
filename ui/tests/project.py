"""A project for the tests of the UI: runs of several kinds, and one that stays active until the input ends.

Usage: project.py QUERY INGEST       logs all of them
       project.py QUERY INGEST fill  logs the runs that end, and prints their ids
       project.py QUERY INGEST IDS   logs the active run in a copy of a filled project, whose ids were printed
"""

from __future__ import annotations

import io
import json
import math
import random
import struct
import sys
import tempfile
import wave
import zlib
from pathlib import Path
from typing import Any

from matyan_client import Audio, Distribution, Figure, Html, Image, PointCloud, Run, Text

RUNS = 60
STEPS = 300
EXPERIMENTS = ["baseline", "augmented", "distilled"]


def main() -> None:
    query, ingest, *part = sys.argv[1:4]
    runs = json.loads(part[0]) if part and part[0] != "fill" else fill(query, ingest)
    print(json.dumps(runs), flush=True)
    if part != ["fill"]:
        follow(query, ingest, runs)


def opened(run_hash: str, query: str, ingest: str, number: int) -> Run:
    return Run(
        run_hash, repo=query, frontier_url=ingest, experiment=EXPERIMENTS[number % 3], capture_terminal_logs=False
    )


def fill(query: str, ingest: str) -> dict[str, Any]:
    """Logs the runs that end. Returns the ids of all runs."""
    dice = random.Random(7)
    hashes = []

    def new_hash() -> str:
        hashes.append(f"{dice.getrandbits(96):024x}")
        return hashes[-1]

    def open_run(number: int) -> Run:
        return opened(new_hash(), query, ingest, number)

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

    epochs = open_run(1)
    epochs.name = "five epochs"
    for step in range(100):
        epochs.track(1 - math.exp(-step / 30), name="accuracy", step=step, epoch=step // 20)
    epochs.close()

    studio = open_run(2)
    studio.name = "studio"
    studio.description = "Every kind of thing that a run can log."
    studio["prompt"] = "Draw a fox that jumps over a dog. " * 7
    log_media(studio)
    log_text(studio)
    studio["__system_params"] = {
        "executable": "/usr/bin/python3", "arguments": ["train.py", "--lr", "0.01"],
        "packages": {"numpy": "2.3.1", "torch": "2.9.0"}, "env_variables": {"HOME": "/home/jane", "CUDA_VISIBLE_DEVICES": "0"},
        "git_info": {
            "branch": "trunk", "remote_origin_url": "https://example.com/jane/vae.git",
            "commit": {"hash": "3cca543", "timestamp": "2026-11-20T09:30:00+01:00", "author": "Jane Doe"},
        },
    }
    for step in range(40):
        studio.track(40 + 30 * math.sin(step / 5), name="__system__cpu", step=step)
        studio.track(55 + step / 4, name="__system__memory_percent", step=step)
        studio.track(math.exp(-step / 9), name="loss", step=step)
    studio.close()

    ids = {"strange": strange, "wide": wide, "studio": studio, "spike": spike, "epochs": epochs}
    return {**{name: run.hash for name, run in ids.items()}, "live": new_hash(), "hashes": hashes}


def follow(query: str, ingest: str, runs: dict[str, Any]) -> None:
    """Logs what the input says, most of it in the active run."""
    hashes = runs["hashes"]
    dice = random.Random(runs["live"])
    live = opened(runs["live"], query, ingest, 0)
    live.name = "live run"
    live["hparams"] = {"lr": 0.01, "batch_size": 32, "optimizer": "adam"}
    live.track(1.0, name="loss", step=0, context={"subset": "train"})
    live.flush()
    print("live", flush=True)
    # Each line of the input is a value to track, the name of a run to start, a branch of the first run, or a number of large images to track.
    started = []
    for step, line in enumerate(sys.stdin, start=1):
        if line.startswith("branch"):
            branch = Run(repo=query, frontier_url=ingest, fork_from=hashes[0], fork_step=99, capture_terminal_logs=False)
            branch.name = "branch of a sweep"
            branch.track(0.5, name="loss", step=100, context={"subset": "train"})
            branch.close()
            print(branch.hash, flush=True)
            continue
        if line.startswith("start "):
            late = opened(f"{dice.getrandbits(96):024x}", query, ingest, step)
            started.append(late)
            late.name = line.removeprefix("start ").strip()
            late.track(1.0, name="loss", step=0)
            late.flush()
            print(late.hash, flush=True)
            continue
        if line.startswith("images "):
            live.track([Image(noise(900, 1200)) for _ in range(int(line.removeprefix("images ")))], name="noise", step=step)
            live.flush()
            print(step, flush=True)
            continue
        live.track(float(line), name="loss", step=step, context={"subset": "train"})
        live._append_terminal_line(f"point {step}", step)
        live.flush()
        print(step, flush=True)
    for run in [live, *started]:
        run.close()


def log_media(run: Run) -> None:
    for step in range(0, 50, 5):
        sharp = step / 45
        for subset in ("train", "val"):
            images = [Image(picture(number, sharp), caption=f"sample {number} at step {step}") for number in range(4)]
            run.track(images, name="reconstructions", step=step, context={"subset": subset})
        run.track(Text(f"Step {step}: the <b>quick</b> brown fox " + "jumps " * (step // 5)), name="generated", step=step)
        run.track(Distribution([math.tanh(random.gauss(0, 0.2 + sharp)) for _ in range(2_000)]), name="weights", step=step)
    log_figures(run)
    attack = "<script>try { parent.document.title = 'hacked' } catch (_) {} parent.postMessage('hacked', '*'); fetch('/api/v1/rest/projects/')" \
        ".catch(() => document.querySelector('b').textContent = 'refused')</script>"
    for step in (0, 40):
        run.track(Html(f"<h1>Step {step}</h1><b>waiting</b>{attack}", caption="predictions"), name="page", step=step)
        ball = [(math.cos(at) * math.sin(at / 9), math.sin(at) * math.sin(at / 9), math.cos(at / 9), 255, at % 256, step) for at in range(900)]
        run.track(PointCloud(json.dumps(ball).encode(), "a ball", format="pts.json"), name="cloud", step=step)
    for step in (0, 20, 40):
        run.track(Audio(tone(220 * (1 + step / 20)), format="wav", caption=f"tone {step}"), name="speech", step=step)


def log_figures(run: Run) -> None:
    classes = ["cat", "dog", "bird", "fish"]
    for step in range(0, 50, 10):
        counts = [[int(20 + step * 2 if row == column else random.uniform(0, 30 - step / 2)) for column in range(4)] for row in range(4)]
        run.track(Figure({
            "data": [{"type": "heatmap", "x": classes, "y": classes, "z": counts, "colorscale": "Blues"}],
            "layout": {"title": {"text": f"Confusion, step {step}"}, "width": 300, "height": 900},
        }), name="confusion", step=step)
    curve = [index / 40 for index in range(41)]
    run.track(Figure({
        "data": [
            {"type": "scatter", "name": name, "x": curve, "y": [place ** power for place in curve]}
            for name, power in (("resnet50", 0.2), ("vit-small", 0.35), ("baseline", 0.8))
        ],
        "layout": {"title": {"text": "ROC"}, "xaxis": {"title": {"text": "false positives"}}, "yaxis": {"title": {"text": "true positives"}}},
    }), name="roc", step=0)
    run.track(Figure({"data": [{"type": "choropleth", "locations": ["FRA", "DEU"], "z": [1, 2]}]}), name="sites", step=0)
    # Whatever can run in the frame must not reach the page around it.
    attack = "try { parent.document.title = 'hacked' } catch (_) {} parent.postMessage('hacked', '*')"
    run.track(Figure({
        "data": [{
            "type": "bar", "x": ["<img src=x onerror=\"" + attack + "\">", "b"], "y": [2**60, 1],
            "text": f"<script>{attack}</script>", "hovertemplate": f"<a href=\"javascript:{attack}\">hover</a>",
        }],
        "layout": {"title": {"text": f"<script>{attack}</script><a href=\"javascript:{attack}\">a hostile title</a>"}},
    }), name="hostile", step=0)
    run.track(Figure({"data": "nothing", "layout": {}}), name="broken", step=0)


def log_text(run: Run) -> None:
    for number in range(3_000):
        level = "\x1b[31;1mERROR\x1b[0m" if number % 97 == 96 else "\x1b[32minfo\x1b[0m"
        run._append_terminal_line(f"{level} epoch {number // 100} batch {number % 100}: \x1b[38;5;208mloss\x1b[0m {math.exp(-number / 900):.5f}", number)
    for number in range(200):
        log = [run.log_debug, run.log_info, run.log_info, run.log_warning, run.log_error][number % 5]
        log(f"record {number}: <i>nothing</i> happened", batch=number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps({"lr": 0.01, "layers": [64, 64], "name": "<img src=x onerror=alert(1)>"}))
        (folder / "table.csv").write_text("step,loss,note\n" + "".join(f'{row},{math.exp(-row / 50)},"a, b"\n' for row in range(500)))
        for step, labels in ((1, ["cat", "dog"]), (2, ["cat", "<b>owl</b>", "fish"])):
            rows = [[number, label] for number, label in enumerate(labels)]
            (folder / f"predictions_{step}.table.json").write_text(json.dumps({"columns": ["id", "label"], "data": rows}))
        (folder / "readme.md").write_text("# A model\n\n<script>alert(1)</script>\n\n```chart\nmetric: loss\n```\n")
        (folder / "evil.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
        (folder / "weights.bin").write_bytes(bytes(range(256)) * 40)
        (folder / "final.png").write_bytes(picture(1, 1.0))
        (folder / "change.diff").write_text("--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n-lr = 0.1\n+lr = 0.01\n epochs = 9\n")
        for file in sorted(folder.iterdir()):
            if file.suffix == ".diff":
                run.log_artifact(file, name="git-diff.patch")
            run.log_artifact(file, name=file.name if file.suffix in {".json", ".md"} else f"outputs/final/{file.name}")
        run.flush()


def picture(number: int, sharp: float, size: int = 64) -> bytes:
    """A PNG of a ring that becomes sharper."""
    rows = bytearray()
    for y in range(size):
        rows.append(0)
        for x in range(size):
            distance = abs(math.hypot(x - size / 2, y - size / 2) - 8 - 5 * number)
            light = math.exp(-distance / (1 + 12 * (1 - sharp)))
            rows += bytes((int(40 + 200 * light), int(60 + 40 * number * light), int(90 + 100 * (1 - light))))
    return png(size, size, rows)


def noise(width: int, height: int) -> bytes:
    """A PNG that cannot be compressed."""
    return png(width, height, b"".join(b"\0" + random.randbytes(3 * width) for _ in range(height)))


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")


def tone(hertz: float, rate: int = 16_000) -> bytes:
    samples = (int(12_000 * math.sin(2 * math.pi * hertz * at / rate) * (1 - at / rate)) for at in range(rate))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()


def log_metrics(run: Run, dice: random.Random) -> None:
    pace = dice.uniform(15, 70)
    noise = dice.uniform(0.01, 0.06)
    floor = dice.uniform(0.05, 0.3)
    for step in range(STEPS):
        for subset, shift in (("train", 0.0), ("val", 0.1)):
            loss = floor + math.exp(-step / pace) + shift + abs(dice.gauss(0, noise))
            run.track(loss, name="loss", step=step, context={"subset": subset})
            run.track(max(0.0, 1 - loss / 2), name="accuracy", step=step, context={"subset": subset})
        run.track(1e-3 * 0.5 * (1 + math.cos(step / STEPS * math.pi)), name="lr", step=step)
        run.track(abs(dice.gauss(1, 0.4)) * math.exp(-step / 200), name="grad_norm", step=step)


if __name__ == "__main__":
    main()
