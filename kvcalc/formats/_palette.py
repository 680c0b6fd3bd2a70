"""Colours by name, for paper and for dark screens: a drawing has those for paper, and a page may replace them.

Lines have a contrast of at least 3 with their background, text at least 4.5 (WCAG 2.2, 1.4.3 and 1.4.11);
`tests/formats/test_palette.py` checks that. Lines also differ in their dashes, for colour-blind readers and monochrome
printers.
"""

from __future__ import annotations

LIGHT = {
    "surface": "#ffffff",
    "raised": "#f4f6f8",
    "words": "#1b1f24",
    "muted": "#57606a",
    "grid": "#d9dee3",
    "alarm": "#b3261e",
    "good": "#146c43",
    "link": "#0b5cad",
    "series-0": "#1f6fb4",
    "series-1": "#c04a08",
    "series-2": "#0b7f57",
    "series-3": "#a4479a",
    "series-4": "#856700",
    "series-5": "#c2334d",
    "series-6": "#4d5fc9",
    "series-7": "#5d6b78",
    "part-0": "#5b6b7c",
    "part-1": "#a8631a",
    "part-2": "#1f6fb5",
    "part-3": "#b7e0c8",
    "part-4": "#e3e7eb",
    "on-part": "#fffffe",
    "heat-0": "#e8f0f9",
    "heat-1": "#cfe0f2",
    "heat-2": "#b0ceea",
    "heat-3": "#8cb8e0",
    "heat-4": "#659fd3",
    "heat-5": "#4386c3",
    "heat-6": "#286cae",
    "heat-7": "#155293",
}
DARK = {
    "surface": "#14181d",
    "raised": "#1d232a",
    "words": "#e8ecf0",
    "muted": "#a3adb8",
    "grid": "#343c45",
    "alarm": "#ff8a80",
    "good": "#6fd6a3",
    "link": "#7cb8f5",
    "series-0": "#5fb0f0",
    "series-1": "#ff9a57",
    "series-2": "#3fcf9c",
    "series-3": "#e08ad6",
    "series-4": "#d9b52e",
    "series-5": "#ff8095",
    "series-6": "#9aa7ff",
    "series-7": "#a8b6c3",
    "part-0": "#8b9bad",
    "part-1": "#e0984a",
    "part-2": "#62aff0",
    "part-3": "#2c5a41",
    "part-4": "#39424c",
    "on-part": "#0d1116",
    "heat-0": "#1d2a38",
    "heat-1": "#22384f",
    "heat-2": "#274768",
    "heat-3": "#2e5a85",
    "heat-4": "#386fa3",
    "heat-5": "#4a89c2",
    "heat-6": "#6aa8de",
    "heat-7": "#95c7f4",
}
SERIES = [name for name in LIGHT if name.startswith("series-")]
PARTS = [name for name in LIGHT if name.startswith("part-")]
HEAT = [name for name in LIGHT if name.startswith("heat-")]
"""From low to high."""
