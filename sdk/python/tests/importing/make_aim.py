"""Makes a repository of Aim with its own package: `python make_aim.py DIRECTORY`.

A database of RocksDB is not read without the package, so tests make it when they run.

Needs aim, numpy, and plotly.
"""

import json
import sys
from pathlib import Path

import aim
import numpy as np
import plotly.graph_objects as go


def make(directory):
    """Writes two runs. Returns what was logged, by hash."""
    repo = aim.Repo(str(directory), init=True)
    return dict([_first(repo, directory), _second(repo)])


def _open(repo, **given):
    return aim.Run(repo=repo, system_tracking_interval=None, **given)


def _first(repo, directory):
    run = _open(repo, experiment="tuning", capture_terminal_logs=False)
    run.name = "first"
    run.description = "A description"
    run.add_tag("good one")
    run["hparams"] = {"lr": 0.1, "net": {"sizes": [1, 2]}, "none": None, "text": "ä"}
    run["dotted.key"] = True
    points = {}

    def track(value, name, step, epoch, **context):
        run.track(value, name=name, step=step, epoch=epoch, context=context)
        key = f"{name} {json.dumps(context, separators=(',', ':'))}"
        points.setdefault(key, []).append([step, repr(float(value))])

    for step in range(50):
        track(1 / (step + 1), "loss", 3 * step, step // 10, subset="train")
        track(step, "loss", step, step // 10, subset="val")
    for step, value in enumerate([float("nan"), float("inf"), -1e-300]):
        track(value, "odd", step, None)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = aim.Image(pixels, caption="one")
    run.track(image, name="image", step=3, context={"subset": "val"})
    run.track([aim.Text("a"), aim.Text("b ä")], name="texts", step=1)
    run.track(aim.Distribution(np.arange(10.0), bin_count=5), name="weights", step=2)
    audio = aim.Audio(np.arange(100, dtype=np.int16), rate=8000, format="wav", caption="tone")
    run.track(audio, name="tone", step=4)
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    run.track(aim.Figure(figure), name="figure", step=5)
    run.log_warning("be careful", reason="test")
    file = directory / "weights.txt"
    file.write_text("content")
    run.set_artifacts_uri((directory / "artifacts").as_uri())
    run.log_artifact(str(file), name="sub/weights.txt", block=True)
    created = run.creation_time
    content = {"image": bytes(image.storage["data"]).hex(), "tone": audio.get().read().hex()}
    run.close()
    return run.hash, {
        "points": points,
        "content": content,
        "figure": figure.to_dict(),
        "created": created,
    }


def _second(repo):
    run = _open(repo, capture_terminal_logs=True)
    print("a line of the script")
    run.track(1, name="epoch_only", step=0, epoch=7)
    run.archived = True
    run.close()
    return run.hash, {"points": {"epoch_only {}": [[0, "1.0"]]}}


if __name__ == "__main__":
    make(Path(sys.argv[1]))
