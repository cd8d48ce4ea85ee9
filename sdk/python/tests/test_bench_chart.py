"""The picture of what tracking costs."""

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

SPEC = importlib.util.spec_from_file_location(
    "bench_chart", Path(__file__).parents[1] / "bench" / "chart.py"
)
chart = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(chart)


def test_bars_have_one_scale_and_every_figure_is_written():
    groups = [
        chart.Group("µs of a call", {"matyan": 0.5, "<other>": 50.0}, "{:,.3g}"),
        chart.Group("points per second", {"matyan": 1_000_000}, "{:,.0f}"),
        chart.Group("failed everywhere", {}, "{}"),
    ]
    root = ET.fromstring(chart.drawn(groups, "matyan", "November 30, 2026"))
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["own", "other", "own"]
    own, other = (float(bar.get("width")) for bar in bars[:2])
    assert 99 < other / own < 101
    texts = [one.text for one in root.findall("{http://www.w3.org/2000/svg}text")]
    assert {"<other>", "50", "1,000,000", "November 30, 2026"} <= set(texts)
    assert "matyan 0.5, <other> 50" in root.get("aria-label")
    right = max(float(bar.get("x")) + float(bar.get("width")) for bar in bars)
    assert right < float(root.get("width"))
