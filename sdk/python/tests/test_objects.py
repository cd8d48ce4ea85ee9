"""The tracked types."""

import base64
import io
import json
import math
import struct
import wave

import pytest

from matyan_client.objects import (
    Audio,
    Distribution,
    Figure,
    Html,
    Image,
    PointCloud,
    Table,
    Text,
)
from matyan_client.objects._media import Encoded, Pixels, Samples

np = pytest.importorskip("numpy")
pillow = pytest.importorskip("PIL.Image")


class Tensor:
    """The part of a tensor of torch that is used, without torch."""

    def __init__(self, array, *, half=False):
        self._array = np.asarray(array)
        self._half = half

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)

    def tolist(self):
        return self._array.tolist()

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return Tensor(self._array)

    def numpy(self):
        if self._half:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._array


def file(image, format_name):
    buffer = io.BytesIO()
    image.save(buffer, format=format_name)
    return buffer.getvalue()


def decoded(image):
    return pillow.open(io.BytesIO(base64.b64decode(image.json()["data"])))


def test_html(tmp_path):
    file = tmp_path / "report.html"
    file.write_bytes("<p>ä".encode())
    pages = [Html("<p>ä", caption="c"), Html("<p>ä".encode()), Html(file), Html(str(file))]
    pages += [Html(io.StringIO("<p>ä")), Html(io.BytesIO("<p>ä".encode()))]
    assert {page.data for page in pages} == {"<p>ä"}
    stored, media = pages[0]._payload()
    assert stored == {"type": "html", "caption": "c"}
    assert media == Encoded("<p>ä".encode(), "html")
    with pytest.raises(FileNotFoundError, match=r"`data`: cannot read 'missing\.html'"):
        Html("missing.html")
    with pytest.raises(TypeError, match="`data`: expected a text"):
        Html(5)


def test_point_clouds(tmp_path):
    colored = PointCloud(np.array([[1, 2, 3, 0, 127.6, 300], [4, 5, 6, -1, math.nan, 2]]), "c")
    stored, media = colored._payload()
    assert stored == {"type": "point_cloud", "format": "ply", "caption": "c", "point_count": 2}
    header, _, content = media.data.partition(b"end_header\n")
    assert header.decode().split("\n") == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 2",
        *("property float x", "property float y", "property float z"),
        *("property uchar red", "property uchar green", "property uchar blue"),
        "",
    ]
    assert struct.unpack("<3f3B3f3B", content) == (1, 2, 3, 0, 128, 255, 4, 5, 6, 0, 0, 2)
    labeled = PointCloud([[1, 2, 3, 4]])._payload()[1].data
    assert b"property uchar label\nend_header\n" in labeled
    assert labeled.endswith(struct.pack("<3fB", 1, 2, 3, 4))
    assert PointCloud(Tensor(np.zeros((5, 3)))).point_count == 5
    for name in ("scan.ply", "scan.PTS.JSON"):
        (tmp_path / name).write_bytes(b"[]")
        file = PointCloud(tmp_path / name)
        assert (file.format, file.point_count) == (name[5:].lower(), None)
    for wrong in (np.zeros((3, 5)), np.zeros(3), [["a", "b", "c"]], 5):
        with pytest.raises(TypeError, match="`data`: expected"):
            PointCloud(wrong)
    with pytest.raises(ValueError, match=r"`format`: expected ply or pts\.json, found 'a\.obj'"):
        PointCloud("a.obj")


def test_text():
    assert Text("hello").json() == {"type": "text", "data": "hello"}
    assert Text(12).data == "12"
    assert Text("a\udc80").data == "a\ufffd"
    assert repr(Text("x" * 61)) == f"Text('{'x' * 60}...')"


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pixels_are_stored_as_png(mode):
    original = pillow.effect_noise((7, 5), 50).convert(mode)
    image = Image(original, caption="noise")
    assert isinstance(image._payload()[1], Pixels)
    assert image.json() | {"data": ""} == {
        "type": "image",
        "data": "",
        "format": "PNG",
        "caption": "noise",
        "width": 7,
        "height": 5,
    }
    assert decoded(image).mode == mode
    assert decoded(image).tobytes() == original.tobytes()
    assert image.size == len(base64.b64decode(image.json()["data"]))
    assert image.to_pil_image().tobytes() == original.tobytes()


@pytest.mark.parametrize(
    ("mode", "wanted"), [("1", "L"), ("P", "RGB"), ("PA", "RGBA"), ("RGB", "RGB")]
)
def test_pixels_with_a_palette_are_stored_without_it(mode, wanted):
    original = pillow.effect_noise((7, 5), 50).convert("RGB").convert(mode.replace("A", ""))
    original = original.convert(mode)
    # Otherwise the caller would wait for the encoding.
    image = Image(original, optimize=True)
    assert isinstance(image._payload()[1], Pixels)
    assert decoded(image).tobytes() == original.convert(wanted).tobytes()


def test_a_transparent_color_of_a_palette_is_kept():
    original = pillow.new("P", (3, 2))
    original.info["transparency"] = 0
    assert decoded(Image(original)).getpixel((0, 0))[3] == 0


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Image(np.zeros((2, 2)), format="xyz"), ValueError, "`format`: Pillow .*'XYZ'"),
        (lambda: Image("no.png"), FileNotFoundError, "`image`: cannot read 'no.png': No such"),
        (lambda: Image("a\0"), ValueError, r"`image`: cannot read 'a\\x00': embedded"),
        (lambda: Audio("no.wav"), FileNotFoundError, "`data`: cannot read 'no.wav': No such"),
        (lambda: Audio(np.zeros(2), rate=0), ValueError, "`rate`: expected 1 to .*, found 0"),
        (lambda: Audio(np.zeros(2), rate="fast"), TypeError, "`rate`: expected a number, not str"),
    ],
)
def test_a_wrong_argument_is_named(make, error, text):
    with pytest.raises(error, match=f"^{text}"):
        make()


def test_a_format_that_matplotlib_does_not_write_is_named():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    with pytest.raises(ValueError, match=r"^`format`: matplotlib writes no 'xyz', but "):
        Image(figure, format="xyz")


def test_long_clips_are_scaled_to_their_loudest_sample():
    samples = np.zeros((50_000, 2), np.float32)
    samples[40_000] = 0.25, -0.5
    samples[10_000] = np.nan, np.inf
    stored = np.frombuffer(Audio(samples)._payload()[1].data, "<i2").reshape(-1, 2)
    assert stored[40_000].tolist() == [16383, -32767]
    assert not stored[:40_000].any()


@pytest.mark.parametrize("mode", ["I;16", "CMYK"])
def test_other_modes_of_pillow_are_encoded_by_it(mode):
    original = pillow.new(mode, (3, 2))
    image = Image(original, format_="TIFF" if mode == "CMYK" else None)
    assert isinstance(image._payload()[1], Encoded)
    assert decoded(image).size == (3, 2)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_files_are_kept_and_recognized(name, tmp_path):
    data = file(pillow.new("RGB", (13, 8)), name)
    path = tmp_path / "picture"
    path.write_bytes(data)
    for source in (data, bytearray(data), path, str(path)):
        image = Image(source)
        assert (image.format, image.width, image.height) == (name, 13, 8)
        assert base64.b64decode(image.json()["data"]) == data
    for length in range(len(data)):
        Image(data[:length])


def test_webp_without_loss_and_with_alpha_is_measured():
    for options in ({"lossless": True}, {}):
        buffer = io.BytesIO()
        pillow.new("RGBA", (300, 20), (1, 2, 3, 4)).save(buffer, format="WEBP", **options)
        image = Image(buffer.getvalue())
        assert (image.format, image.width, image.height) == ("WEBP", 300, 20)


def test_unknown_bytes_get_the_given_format():
    image = Image(b"<svg/>", format="svg")
    assert (image.format, image.width, image.size) == ("SVG", None, 6)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    script = tmp_path / "text.py"
    script.write_text("print(1)")
    with pytest.raises(ValueError, match=r"text\.py' is not an image.*give `format`"):
        Image(script)
    assert Image(script, format="svg").format == "SVG"
    vectors = tmp_path / "plot.SVG"
    vectors.write_text("<svg/>")
    assert Image(str(vectors)).format == "SVG"


def test_a_format_can_be_chosen():
    original = pillow.new("RGBA", (4, 4), (255, 0, 0, 0))
    for keyword in ("format", "format_"):
        image = Image(original, **{keyword: "jpg"})
        assert image.format == "JPEG"
        # Transparent pixels become white.
        assert min(decoded(image).getpixel((1, 1))) > 250
    assert Image(np.zeros((2, 2), np.uint8), format="webp").format == "WEBP"


@pytest.mark.parametrize(
    ("array", "pixel", "size"),
    [
        (np.full((2, 3), 7, np.uint8), 7, (3, 2)),
        (np.full((2, 3, 1), 7, np.uint8), 7, (3, 2)),
        (np.full((5, 6, 3), 7, np.uint8), (7, 7, 7), (6, 5)),
        (np.full((3, 5, 6), 7, np.uint8), (7, 7, 7), (6, 5)),
        (np.full((1, 5, 6, 3), 7, np.uint8), (7, 7, 7), (6, 5)),
        (np.full((2, 3), 0.5), 128, (3, 2)),
        (np.full((2, 3), 200.0), 200, (3, 2)),
        (np.full((2, 3), 300), 255, (3, 2)),
        (np.full((2, 3), True), 255, (3, 2)),
        (np.full((2, 3), math.nan), 0, (3, 2)),
        (np.full((2, 3), math.inf), 255, (3, 2)),
        (np.full((2, 3), -math.inf, np.float16), 0, (3, 2)),
        (Tensor(np.full((3, 4, 4), 1.0)), (255, 255, 255), (4, 4)),
        (Tensor(np.full((3, 4, 3), 1.0)), (255, 255, 255), (3, 4)),
        (Tensor(np.full((4, 4), 0.5), half=True), 128, (4, 4)),
    ],
)
def test_arrays_and_tensors(array, pixel, size):
    image = decoded(Image(array))
    assert image.size == size
    assert image.getpixel((0, 0)) == pixel


def test_a_later_change_of_the_array_has_no_effect():
    array = np.zeros((2, 2), np.uint8)
    image = Image(array)
    array[:] = 255
    assert image.to_numpy().max() == 0


@pytest.mark.parametrize(
    "value",
    [None, object(), 5, np.zeros(3), np.zeros((5, 5, 5)), np.zeros((0, 3)), np.zeros((2, 2, 3, 3))],
)
def test_what_is_no_image_is_rejected(value):
    with pytest.raises(TypeError, match=r"^`image`: expected "):
        Image(value)


def test_a_missing_file_is_reported():
    with pytest.raises(FileNotFoundError):
        Image("missing.png")


def test_figures_of_matplotlib_as_images():
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 1), dpi=50)
    figure.subplots().plot([1, 2])
    image = Image(figure)
    assert (image.format, image.width, image.height) == ("PNG", 50, 50)


def test_samples_are_stored_as_wav():
    audio = Audio(np.array([0.0, 0.5, -0.5]), rate=8000, caption="beep")
    assert isinstance(audio._payload()[1], Samples)
    assert audio.format == "wav"
    encoded = audio.json()
    with wave.open(io.BytesIO(base64.b64decode(encoded.pop("data")))) as stored:
        assert (stored.getframerate(), stored.getnchannels(), stored.getsampwidth()) == (8000, 1, 2)
        assert np.frombuffer(stored.readframes(3), "<i2").tolist() == [0, 32767, -32767]
    assert encoded == {"type": "audio", "format": "wav", "caption": "beep", "rate": 8000}
    rate, samples = audio.to_numpy()
    assert (rate, samples.tolist()) == (8000, [0, 32767, -32767])


@pytest.mark.parametrize(
    ("array", "frames", "channels"),
    [
        (np.zeros((100, 2)), 100, 2),
        (np.zeros((2, 100)), 100, 2),
        (Tensor(np.zeros((2, 3))), 3, 2),
        (np.zeros(5, np.int16), 5, 1),
        (np.full(5, math.nan), 5, 1),
        (np.zeros(0), 0, 1),
    ],
)
def test_shapes_of_samples(array, frames, channels):
    samples = Audio(array)._payload()[1]
    assert (len(samples.data) // 2 // channels, samples.channels, samples.rate) == (
        frames,
        channels,
        22050,
    )


def test_samples_of_16_bits_are_not_scaled():
    assert Audio(np.array([1, -2], np.int16)).to_numpy()[1].tolist() == [1, -2]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"RIFF\0\0\0\0WAVE", "wav"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"ID3", "mp3"),
        (b"\xff\xfb\x90", "mp3"),
        (b"?", ""),
    ],
)
def test_audio_files_are_kept_and_recognized(data, name, tmp_path):
    assert Audio(data).format == name
    assert Audio(io.BytesIO(data)).json()["data"] == base64.b64encode(data).decode()
    path = tmp_path / "sound.MP3"
    path.write_bytes(data)
    assert Audio(path).format == "mp3"
    assert Audio(data, "OGG").format == "ogg"


def test_what_is_no_audio_is_rejected():
    for value in (5, object(), io.StringIO("text"), np.zeros((2, 2, 2)), np.zeros((100, 100))):
        with pytest.raises(TypeError, match=r"^`data`: "):
            Audio(value)


def test_a_distribution_counts_like_numpy():
    samples = np.random.default_rng(1).normal(size=(10, 20)).astype(np.float32)
    expected, bounds = np.histogram(samples.astype(np.float64), bins=32)
    for given in (samples, samples.tolist(), Tensor(samples)):
        distribution = Distribution(given, bin_count=32)
        assert distribution.weights == expected.tolist()
        assert distribution.range == pytest.approx((bounds[0], bounds[-1]))
    weights, ranges = distribution.to_np_histogram()
    assert weights.tolist() == expected.tolist()
    assert ranges == pytest.approx(bounds)
    assert distribution.json() == {
        "type": "distribution",
        "bin_count": 32,
        "range": list(distribution.range),
        "data": expected.tolist(),
    }


@pytest.mark.parametrize(
    "samples", [[], [3], [1, math.nan, 2, math.inf], [[1, 2], [3, 4]], 5, [True]]
)
def test_a_distribution_without_numpy_is_the_same(samples, monkeypatch):
    expected = Distribution(samples, 7)
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    distribution = Distribution(samples, 7)
    assert distribution.weights == expected.weights
    assert distribution.range == expected.range


def test_arguments_of_a_distribution():
    with pytest.warns(RuntimeWarning, match="`bin_count`: at most 512 bins are used, not 1000"):
        assert Distribution([1, 2], 1000).bin_count == 512
    assert Distribution(distribution=[1, 2]).bin_count == 64
    assert Distribution.from_samples([1, 2], 3).bin_count == 3
    given = Distribution.from_histogram(np.array([1, 2, 3]), (0, 3))
    assert (given.weights, given.range, given.ranges) == (
        [1, 2, 3],
        (0.0, 3.0),
        [0.0, 1.0, 2.0, 3.0],
    )
    assert type(given.weights[0]) is int
    for arguments in ({}, {"hist": [1]}, {"samples": [1], "bin_count": 0}):
        with pytest.raises(ValueError):
            Distribution(**arguments)
    with pytest.raises(TypeError, match="bin_count"):
        Distribution([1], bin_count=2.5)
    with pytest.raises(TypeError, match="samples"):
        Distribution(["a"])


def test_a_figure_of_plotly_holds_plain_lists():
    plotly = pytest.importorskip("plotly.graph_objects")
    figure = Figure(plotly.Figure(plotly.Scatter(x=np.arange(3), y=np.array([0.5, 1.5, 2.5]))))
    assert figure.data["data"][0]["x"] == [0, 1, 2]
    assert figure.data["data"][0]["y"] == [0.5, 1.5, 2.5]
    assert figure.json() == {"type": "figure", "data": figure.data}
    assert figure.to_plotly_figure().data[0].y == (0.5, 1.5, 2.5)
    heatmap = Figure(plotly.Figure(plotly.Heatmap(z=np.arange(6).reshape(2, 3))))
    assert heatmap.data["data"][0]["z"] == [[0, 1, 2], [3, 4, 5]]


def test_other_figures():
    assert Figure({"data": [], "layout": {"x": np.float32(1.5)}}).data == {
        "data": [],
        "layout": {"x": 1.5},
    }
    json.dumps(Figure({"a": {1, 2}}).json())
    pytest.importorskip("plotly")
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.subplots().plot([1, 2, 4])
    assert Figure(figure).data["data"][0]["y"] == [1, 2, 4]
    with pytest.raises(TypeError, match=r"^`obj`: expected a figure .*, not int"):
        Figure(5)


@pytest.mark.parametrize("samples", [[1e16, 1e16 + 2], [0.0, 5e-324], [1e308, -1e308]])
def test_a_range_without_room_for_bins_is_one_bin(samples):
    np = pytest.importorskip("numpy")
    for given in (samples, np.array(samples)):
        distribution = Distribution(given)
        assert (distribution.weights, distribution.range) == ([2], (min(samples), max(samples)))


def test_tables_are_files_of_rows():
    np = pytest.importorskip("numpy")
    image = Image(np.zeros((2, 2, 3), np.uint8), caption="black")
    table = Table(["picture", "score"], [[image, np.float32(0.5)]])
    table.add_row(None, math.nan)
    files = list(table._files("preds/val set", 3, {"subset": "val"}))
    base = "tables/preds/val set subset=val_3"
    assert [file.path for file in files] == [f"{base}/0_0.png", f"{base}.table.json"]
    assert files[0].data.startswith(b"\x89PNG")
    cell = {"_type": "image-file", "path": f"{base}/0_0.png", "caption": "black"}
    # NaN is no JSON.
    stored = {"columns": ["picture", "score"], "data": [[cell, 0.5], [None, "nan"]]}
    assert json.loads(files[1].data) == stored
    assert repr(table) == "Table(['picture', 'score'], 2 rows)"


def table_path(name, step=None, epoch=None, context=None):
    (file,) = Table(["a"])._files(name, step, context or {}, epoch)
    return file.path.removeprefix("tables/").removesuffix(".table.json")


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (("predictions", 0), "predictions_0"),
        (("predictions",), "predictions"),
        (("layer_1", 2), "layer_1_2"),
        (("lr=0.1", 2), "lr=0.1_2"),
        (("preds/val set", 3, None, {"fold": 1}), "preds/val set fold=1_3"),
        (("größe", -1), "größe_-1"),
        (("a:b",), "a%3Ab"),
        (("../x",), "%2E%2E%2Fx"),
        (("a//b/../c/",), "a/%2Fb/%2E%2E/c%2F"),
        (("x_1",), "x%5F1"),
        (("x", None, 2), "x_e2"),
        (("x", 1, 2), "x_1_e2"),
        (("x", None, None, {"fold": "1"}), "x fold=%221%22"),
    ],
)
def test_paths_of_tables(place, path):
    assert table_path(*place) == path


def test_different_tables_have_different_paths():
    names = (
        *("a", "a:b", "a_b", "a b", "a%3Ab", "a=b", "a b=c", "a b=1", " a", "a ", "a.", ".a", "/a"),
        *("a/", "a//b", "a/b", "a/./b", "a/../b", "../a", "a_1", "a_-1", "a_e2", "a_1_e2", "a_1_1"),
        *("a%5F1", "a_last", "Ä", "a\n", "a\\b", "a_e2_1", "a_1_e2_1"),
    )
    contexts = (
        *({}, {"b": "c"}, {"b": "c "}, {"b": 1}, {"b": "1"}, {"b": True}, {"b": "True"}),
        *({"b": 1.0}, {"b": "1.0"}, {"b": None}, {"b": "None"}, {"b": [1]}, {"b": "[1]"}),
        *({"b": "c=d"}, {"b": "c", "d": "e"}, {"b": "c d=e"}, {"b": " d=e"}, {"b c": "d"}),
        *({"b": "c_1"}, {"b": "c_e2"}, {"": "c"}, {"b": ""}, {"b=c": "d"}, {"b": "x:y"}),
        *({"b": "x_y"}, {"b": {"c": 1}}, {"b": "{'c': 1}"}, {"b": '"1"'}),
    )
    places = [
        (name, step, epoch, context)
        for name in names
        for step in (None, 1, -1, 2)
        for epoch in (None, 2, -1)
        for context in contexts
    ]
    paths = {}
    for place in places:
        path = table_path(*place)
        assert paths.setdefault(path, place) is place
        # The core refuses or drops other segments.
        assert not {"", ".", ".."}.intersection(path.split("/"))


def test_tables_take_rows_of_many_kinds():
    table = Table(data=[{"a": 1, "b": 2}, {"b": 4}])
    assert (table.columns, table.rows) == (["a", "b"], [[1, 2], [None, 4]])
    pandas = pytest.importorskip("pandas")
    frame = Table(data=pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert (frame.columns, frame.rows) == (["a", "b"], [[1, "x"], [2, "y"]])
    for columns, data, message in [
        (None, [[1]], "expected names"),
        (["a", "a"], [], "occurs twice"),
        (["a"], [[1, 2]], "expected 1 values"),
        (["a"], [{"b": 1}], "no column 'b'"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            Table(columns, data)
    with pytest.raises(ValueError, match="16 MB"):
        list(Table(["a"], [["x" * 17_000_000]])._files("t", 0, {}))
