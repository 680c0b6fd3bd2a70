"""Colours can be seen: contrast as WCAG 2.2 has it, in both themes, and axes are labelled with numbers that people read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.formats._palette import DARK, HEAT, LIGHT, PARTS, SERIES
from kvcalc.formats._ticks import scale_of
from kvcalc.report.chart import Axis

THEMES = {"light": LIGHT, "dark": DARK}


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48  # the standard's own example of what fails


@pytest.mark.parametrize("theme", THEMES)
def test_words_can_be_read(theme):
    colours = THEMES[theme]
    for name in ("words", "muted", "alarm", "good", "link", *SERIES):
        for behind in ("surface", "raised"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for name in PARTS[:3]:
        assert contrast(colours["on-part"], colours[name]) >= 4.5, name
    for name in PARTS[3:]:
        assert contrast(colours["words"], colours[name]) >= 4.5, name


@pytest.mark.parametrize("theme", THEMES)
def test_heat_goes_one_way_and_its_most_stands_out(theme):
    steps = [luminance(THEMES[theme][name]) for name in HEAT]
    assert steps == sorted(steps, reverse=theme == "light")
    assert contrast(THEMES[theme][HEAT[-1]], THEMES[theme]["surface"]) >= 4.5


def test_both_themes_have_the_same_names_and_a_colour_has_one():
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)  # so that a page can exchange them


@pytest.mark.parametrize(
    ("unit", "log", "least", "most", "labels"),
    [
        ("tokens", True, 32, 131072, ["32", "128", "512", "2K", "8K", "32K", "128K"]),
        ("tokens", True, 1000, 100000, ["1K", "2K", "4K", "8K", "16K", "32K", "64K"]),
        ("bytes", True, 2**20, 2**33, ["2 MiB", "8 MiB", "32 MiB", "128 MiB", "512 MiB", "2 GiB", "8 GiB"]),
        ("bytes", False, 0, 75 * 2**30, ["0 B", "10 GiB", "20 GiB", "30 GiB", "40 GiB", "50 GiB", "60 GiB", "70 GiB"]),
        ("users", True, 1, 30, ["1", "2", "5", "10", "20"]),
        ("users", True, 1, 30000, ["1", "10", "100", "1,000", "10,000"]),
        ("users", False, 0, 30, ["0", "5", "10", "15", "20", "25", "30"]),
        ("tokens", False, 1, 131072, ["0", "16K", "32K", "48K", "64K", "80K", "96K", "112K", "128K"]),
    ],
)
def test_an_axis_is_labelled_in_round_numbers(unit, log, least, most, labels):
    assert [tick.label for tick in scale_of(Axis("", unit, log), least, most, 8).ticks] == labels


@given(
    st.sampled_from(["tokens", "bytes", "users"]),
    st.booleans(),
    st.integers(0, 10**18),
    st.integers(1, 10**18),
    st.integers(2, 20),
)
def test_an_axis_holds_what_it_is_asked_to_and_has_room_for_its_labels(unit, log, least, most, room):
    least = min(least, most)
    scale = scale_of(Axis("", unit, log), least, most, room)
    assert scale.low <= max(least, 1) <= max(1, most) <= scale.high or not log
    assert scale.high >= most
    assert 1 <= len(scale.ticks) <= max(room + 2, 19 if unit == "users" and log else 0)
    assert all(a.value < b.value for a, b in zip(scale.ticks, scale.ticks[1:], strict=False))
    assert all(tick.label for tick in scale.ticks)
