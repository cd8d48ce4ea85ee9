"""Makes offline runs of W&B with its own package: `python make_wandb.py DIRECTORY`.

The package has no reader of its files, so what is expected is what was logged.

Needs wandb, numpy, pillow, plotly, and soundfile.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

# Enough for several blocks of the log.
_ROWS = 90


def make(directory):
    """Writes a run that finished, in two parts, and one that failed."""
    directory = directory.resolve()
    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(directory / "data"),
        "WANDB_DIR": str(directory),
        "WANDB_DISABLE_GIT": "true",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_X_DISABLE_META": "true",
    }
    expected = {"first": _first(directory), "second": _second()}
    for logs in (directory / "wandb").glob("*/logs"):
        shutil.rmtree(logs)
    for link in [*(directory / "wandb").rglob("*")]:
        if link.is_symlink():
            content = link.read_bytes() if link.is_file() else None
            link.unlink()
            # Links at the top are to the newest run and its logs.
            if content is not None and link.parent.name == "files":
                link.write_bytes(content)
    (directory / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def _settings(**given):
    import wandb  # noqa: PLC0415 - reads the environment

    return wandb.Settings(x_disable_stats=True, x_disable_machine_info=True, **given)


def _first(directory):
    import wandb  # noqa: PLC0415 - reads the environment

    run = wandb.init(
        project="proj",
        id="first",
        name="näme",
        notes="some notes",
        tags=["a", "b c"],
        group="g",
        job_type="train",
        config={"lr": 0.1, "net": {"depth": 3, "sizes": [1, 2]}, "dotted.key": "x"},
        settings=_settings(console="off"),
    )
    points = {}

    def log(values, step):
        run.log(values, step=step)
        for name, value in values.items():
            points.setdefault(name, []).append([step, repr(float(value))])

    for step in range(_ROWS):
        log({"loss": 1 / (step + 1), "acc": step % 7}, 3 * step)
    log({"odd": float("nan"), "flag": True, "big": 2**40}, 300)
    log({"odd": float("inf")}, 301)
    run.log({"nested": {"a": 1.5, "deep": {"b": 2}}}, step=302)
    points["nested.a"] = [[302, "1.5"]]
    points["nested.deep.b"] = [[302, "2.0"]]
    run.log({"note": "ein Text ä€"}, step=303)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    images = [wandb.Image(pixels, caption="one"), wandb.Image(pixels + 90, caption="two")]
    run.log({"image": images[0], "pair": images}, step=304)
    run.log({"weights": wandb.Histogram(np.arange(10.0), num_bins=5)}, step=305)
    sound = np.sin(np.arange(100) / 4)
    run.log({"tone": wandb.Audio(sound, sample_rate=8000, caption="sine")}, step=306)
    run.log({"figure": wandb.Plotly(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])))}, step=307)
    table = wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
    run.log({"table": table}, step=308)
    run.summary["best"] = 0.25
    run.config.update({"later": 5})
    file = directory / "weights.txt"
    file.write_text("content")
    artifact = wandb.Artifact("model", "model")
    artifact.add_file(str(file), name="sub/weights.txt")
    run.log_artifact(artifact)
    run.save(str(file), base_path=str(directory))
    run.finish()
    files = {
        found.name.split("_")[0]: found.read_bytes().hex()
        for found in directory.rglob("files/media/**/*")
        if found.is_file() and "pair" not in found.name
    }
    return {"points": points, "files": files}


def _second():
    import wandb  # noqa: PLC0415 - reads the environment

    run = wandb.init(project="proj", id="second", settings=_settings(console="wrap"))
    print("first line\n10%\r100%")
    print("last ä", end="", flush=True)
    # Output is collected at intervals.
    time.sleep(1)
    run.log({"loss": 2.5})
    run.finish(exit_code=3)
    return {"points": {"loss": [[0, "2.5"]]}, "files": {}}


if __name__ == "__main__":
    make(Path(sys.argv[1]))
