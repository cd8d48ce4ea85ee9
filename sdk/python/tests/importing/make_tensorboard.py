"""Makes the event files of the tests with TensorBoard's own packages, and reads them with its own
reader: `python make_tensorboard.py DIRECTORY`.

Needs tensorboard, tensorboardX, numpy, pillow, and soundfile.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import soundfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.audio import metadata as audio_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

_START = 1_700_000_000.0


def make(directory):
    """Writes two runs, one by tensorboardX and one by TensorBoard."""
    _by_tensorboardx(directory / "logs" / "x")
    _by_tensorboard(directory / "logs" / "nested" / "tensors")
    expected = {}
    for run in ("x", "nested/tensors"):
        expected[run] = _read(directory / "logs" / run)
    (directory / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def _by_tensorboardx(path):
    rng = np.random.default_rng(3)
    with SummaryWriter(str(path)) as writer:
        for step in range(40):
            time = _START + step / 8
            writer.add_scalar("loss/train", 1 / (step + 1), step * 10, walltime=time)
            writer.add_scalar("accuracy", step / 40, step, walltime=time)
        writer.add_scalar("odd", float("nan"), 1, walltime=_START)
        writer.add_scalar("odd", float("-inf"), 2, walltime=_START)
        # Of two points with the same step, the later one counts.
        writer.add_scalar("odd", 2.5, 2, walltime=_START + 1)
        writer.add_text("note", "first *text*", 0, walltime=_START)
        writer.add_text("note", "zweiter Text: ä€", 5, walltime=_START)
        writer.add_histogram("weights", rng.normal(size=500), 3, walltime=_START)
        pixels = rng.integers(0, 255, (3, 6, 8), dtype=np.uint8)
        writer.add_image("sample", pixels, 7, walltime=_START)
        sound = np.sin(np.arange(200) / 8).astype(np.float32)[:, np.newaxis]
        writer.add_audio("tone", sound, 2, sample_rate=8000, walltime=_START)
        writer.file_writer.add_summary(
            _hparams(
                {"lr": 0.01, "layers": 3, "model/name": "net", "bias": True, "sizes": "[1, 2]"}
            ),
            0,
        )


def _hparams(values):
    _, start, _ = hparams(values, {"accuracy": 0.9})
    return start


def _by_tensorboard(path):
    writer = EventFileWriter(str(path))

    def add(tag, proto, step, plugin=None, metadata=None):
        value = summary_pb2.Summary.Value(tag=tag, tensor=proto)
        if metadata is not None:
            value.metadata.CopyFrom(metadata)
        elif plugin:
            value.metadata.plugin_data.plugin_name = plugin
        summary = summary_pb2.Summary(value=[value])
        event = event_pb2.Event(wall_time=_START + step, step=step, summary=summary)
        writer.add_event(event)

    def tensor(value, dtype):
        return tensor_util.make_tensor_proto(
            np.asarray(value, dtype),
        )

    for step in range(5):
        add("epoch_loss", tensor(step / 3, np.float32), step, "scalars" if step == 0 else None)
        add("double", tensor(step / 3, np.float64), step, "scalars")
        add("half", tensor(step / 4, np.float16), step, "scalars")
        add("count", tensor(step * 10**12, np.int64), step, "scalars")
    text = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        string_val=[b"one", b"two"],
        tensor_shape=tensor_util.make_tensor_proto(np.zeros(2)).tensor_shape,
    )
    add("words", text, 1, metadata=text_metadata.create_summary_metadata("words", ""))
    counts = np.array([[0, 1, 5], [1, 2, 7], [2, 3, 1]], np.float64)
    metadata = histogram_metadata.create_summary_metadata("h", "")
    add("bins", tensor_util.make_tensor_proto(counts), 4, metadata=metadata)
    audio = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[_wav(), b"a label"])
    for size in (1, 2):
        audio.tensor_shape.dim.add(size=size)
    metadata = audio_metadata.create_summary_metadata("audio", "", audio_metadata.Encoding.WAV)
    add("audio", audio, 0, metadata=metadata)
    images = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, string_val=[b"4", b"2", _png(0), _png(90)]
    )
    images.tensor_shape.dim.add(size=4)
    add("images", images, 2, "images")
    add("curve", tensor(np.zeros((6, 4)), np.float32), 2, "pr_curves")
    writer.close()


def _wav():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(50), 8000, format="WAV")
    return buffer.getvalue()


def _png(shade):
    buffer = io.BytesIO()
    PIL.Image.new("L", (4, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


def _read(path):
    """Returns what TensorBoard itself reads, in a form that tests compare."""
    unlimited = dict.fromkeys(
        ("scalars", "images", "audio", "histograms", "compressedHistograms", "tensors"), 0
    )
    accumulator = EventAccumulator(str(path), size_guidance=unlimited).Reload()
    tags = accumulator.Tags()
    found = {"scalars": {}, "images": {}, "audio": {}, "texts": {}, "histograms": {}}
    for tag in tags["scalars"]:
        found["scalars"][tag] = [
            [event.step, repr(float(event.value)), event.wall_time]
            for event in accumulator.Scalars(tag)
        ]
    for tag in tags["images"]:
        found["images"][tag] = [
            [event.step, event.encoded_image_string.hex()] for event in accumulator.Images(tag)
        ]
    for tag in tags["audio"]:
        found["audio"][tag] = [
            [event.step, event.encoded_audio_string.hex()] for event in accumulator.Audio(tag)
        ]
    for tag in tags["histograms"]:
        found["histograms"][tag] = [
            [
                event.step,
                event.histogram_value.min,
                event.histogram_value.max,
                sum(event.histogram_value.bucket),
            ]
            for event in accumulator.Histograms(tag)
        ]
    for tag in tags["tensors"]:
        plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        for event in accumulator.Tensors(tag):
            array = tensor_util.make_ndarray(event.tensor_proto)
            if plugin == "scalars":
                point = [event.step, repr(float(array)), event.wall_time]
                found["scalars"].setdefault(tag, []).append(point)
            elif plugin == "text":
                text = "\n".join(element.decode() for element in array.ravel())
                found["texts"].setdefault(tag, []).append([event.step, text])
            elif plugin == "histograms":
                low = array[0][0]
                high = array[-1][1]
                total = array[:, 2].sum()
                row = [event.step, float(low), float(high), float(total)]
                found["histograms"].setdefault(tag, []).append(row)
            elif plugin == "images":
                for content in array[2:]:
                    found["images"].setdefault(tag, []).append([event.step, content.hex()])
            elif plugin == "audio":
                found["audio"].setdefault(tag, []).append([event.step, array[0][0].hex()])
    return found


if __name__ == "__main__":
    make(Path(sys.argv[1]))
