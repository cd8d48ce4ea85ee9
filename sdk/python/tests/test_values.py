"""Conversion of params: every value becomes plain data, and none can fail later."""

import argparse
import collections
import dataclasses
import datetime
import enum
import json
import math
import pathlib

import pytest

from matyan_client import values


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Config:
    lr: float = 0.1
    layers: tuple[int, ...] = (1, 2)


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024


class SubInt(int):
    pass


class Broken:
    def __str__(self):
        raise RuntimeError("no text")


class BrokenMapping(collections.abc.Mapping):
    def __getitem__(self, key):
        raise RuntimeError("no item")

    def __iter__(self):
        return iter("a")

    def __len__(self):
        return 1

    def __str__(self):
        return "broken mapping"


class Options:
    def __init__(self):
        self.depth = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2**200, 2**200),
        (0.5, 0.5),
        ("text", "text"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        ((1, 2), [1, 2]),
        ([1, [2]], [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", 1}), ["b", 1]),
        (range(3), [0, 1, 2]),
        (collections.deque([1]), [1]),
        (Point(1, 2), [1, 2]),
        ({"a": {"b": (1,)}}, {"a": {"b": [1]}}),
        (
            {1: "a", None: "b", False: "c", 0.5: "d"},
            {"1": "a", "null": "b", "false": "c", "0.5": "d"},
        ),
        ({("a", 1): 1}, {"('a', 1)": 1}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (SubInt(5), 5),
        (Config(), {"lr": 0.1, "layers": [1, 2]}),
        (argparse.Namespace(lr=0.1), {"lr": 0.1}),
        (Options(), {"depth": 3}),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (
            datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
            "2026-01-02T03:04:05+00:00",
        ),
        (1 + 2j, "(1+2j)"),
        (int, "builtins.int"),
        (math.sqrt, "math.sqrt"),
        (Broken(), "<Broken>"),
        (BrokenMapping(), "broken mapping"),
        ({"a": Broken(), "b": 1}, {"a": "<Broken>", "b": 1}),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\udc80b", "a\ufffdb"),
        ({"\udc80": 1}, {"\ufffd": 1}),
    ],
)
def test_a_value_becomes_plain_data(value, expected):
    converted = values.plain(value)
    assert converted == expected
    assert type(converted) is type(expected)
    json.dumps(converted).encode()


def test_nan_and_infinities_are_kept():
    assert math.isnan(values.plain(math.nan))
    assert values.plain([math.inf, -math.inf]) == [math.inf, -math.inf]


def test_the_result_is_a_copy():
    original = {"layers": [1]}
    converted = values.plain(original)
    original["layers"].append(2)
    assert converted == {"layers": [1]}


def test_a_value_that_contains_itself_is_cut_off():
    value = {}
    value["self"] = value
    converted = values.plain(value)
    for _ in range(values.MAX_DEPTH):
        converted = converted["self"]
    assert converted == "..."


def test_arrays_of_numpy_become_numbers_and_lists():
    np = pytest.importorskip("numpy")
    assert type(values.plain(np.float32(0.5))) is float
    assert type(values.plain(np.float64(0.5))) is float
    assert type(values.plain(np.int64(5))) is int
    assert values.plain(np.bool_(True)) is True
    assert values.plain(np.arange(4).reshape(2, 2)) == [[0, 1], [2, 3]]
    assert values.plain(np.array(1.5)) == 1.5
    assert values.plain({"a": np.array(["x"])}) == {"a": ["x"]}
    assert values.plain(np.str_("x")) == "x"
    assert values.plain(np.datetime64("2026-01-02")) == "2026-01-02"


def test_a_large_array_is_described():
    np = pytest.importorskip("numpy")
    assert values.plain(np.zeros((1000, 100))) == "ndarray(shape=(1000, 100), dtype=float64)"


def test_a_tensor_without_tolist_is_read_through_numpy():
    np = pytest.importorskip("numpy")

    class EagerTensor:
        shape = (2,)
        dtype = "float32"

        def numpy(self):
            return np.array([1.0, 2.0])

    assert values.plain(EagerTensor()) == [1.0, 2.0]


def test_configurations_of_omegaconf_become_dicts():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"lr": 0.1, "same": "${lr}", "layers": [1, 2]})
    assert values.plain(config) == {"lr": 0.1, "same": 0.1, "layers": [1, 2]}
    broken = omegaconf.OmegaConf.create({"a": "${missing}"})
    assert values.plain({"config": broken}) == {"config": {"a": "${missing}"}}
