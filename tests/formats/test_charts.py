"""Charts: every number is one that JSON has; drawings are the same each time, parse strictly, and say what they show."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest
from strict_readers import assert_inert, read_strictly

import kvcalc
from kvcalc import formats
from kvcalc.answers.curves import MOST_CURVES, Line, growing, samples
from kvcalc.cli import main
from kvcalc.fleet.traffic.distribution import Blocks
from kvcalc.formats import FORMATS
from kvcalc.formats._escapes import visible_chart
from kvcalc.question import Question
from kvcalc.report.chart import Axis, Bar, Bars, Curves, Layer, Level, Segment, Series, Strip, charts_of

TRACES = Path(__file__).parents[2] / "examples" / "traces"
COMMANDS = (
    "size gpt-oss-20b -t 8192",
    "size gemma3-27b -t 32K --by-layer",
    "size gpt-oss-20b -t 8192 --explain",
    "size jamba-1.5-mini -t 1K,32K",
    "size r1 -t 1K,2K --by-layer",
    "compare r1 -t 100000",
    "compare r1 llama3-70b -t 1K,32K,128K",
    "compare llama3-8b --methods snapkv,kivi -t 32K",
    "compare llama3-8b --methods snapkv,kivi -t 4K,32K",
    "fit llama3.1-70b --gpu h200 --gpus 2 --tp 2 -e vllm -t 32K -b 8",
    "fit llama3.1-70b --gpu h200 --gpus 2 --tp 2 -e vllm -t 128K -b 32",
    "fit llama3.1-70b --gpu h200 --gpus 2 --pp 2 -e vllm -t 32K",
    "fit llama3-8b --gpu h100",
    "fit llama3.1-8b --gpu h100,l40s -e vllm -t 32K",
    "plot gpt-oss-20b llama3-8b -t 32K --gpu h100",
    "plot llama3-8b --methods snapkv,kivi --linear",
    "plot gpt-oss-20b -e ideal,vllm@0.25.1,vllm,llama_cpp",
    "plot llama3.1-8b --max-users --gpu h100,l40s -e vllm --dtype bf16,fp8",
    "size qwen3.5-27b -e llama_cpp --engine-set defaults=server -t 32K",
    "fit llama-3.1-8b -e sglang --gpu h100 --gpus 2 --tp 2 -t 32K --engine-set enable_hierarchical_cache=1",
    "fit llama-3.1-70b -e vllm --gpu h100 --gpus 4 --tp 4 -t 32K --engine-set kv_offloading_size=200",
    "decode llama-3.1-8b -t 32K -b 16 --gpu h100",
    "decode qwen3-30b-a3b -t 32K -b 8",
    "decode gpt-oss-20b -t 8K --tp 2",
    "decode jamba-1.5-mini -t 8K",
    "check examples/plans/prod.yaml",
    "check tests/plans/now/served.yaml examples/plans/served.yaml",
    f"traffic llama3-8b --blocks 2000 --context {TRACES}/azure.csv",
    f"traffic llama3-8b --blocks 400 --context {TRACES}/azure.csv",
    "traffic qwen3-next-80b-a3b -e sglang --gpu h200 --tp 2 --context p50=1K,p95=8K,max=32K --output 300",
    "traffic llama3-8b --blocks 2000 --context 1K:50,4K:30 --output 300 --shared-prefix 512:60,0:40 --active 20",
    "traffic llama3-8b --blocks 20 --context 1K --output 300",
    f"replay {TRACES}/azure.csv llama3-8b --blocks 2000 --step-ms 20",
    f"replay {TRACES}/azure.csv llama3-8b --blocks 2000 --step-ms 20 --steps",
    f"replay {TRACES}/mooncake.jsonl llama3-8b --blocks 3000 --step-ms 20 --curve",
)
DRAWN = ("svg", "png", "tikz", "chart")


@pytest.fixture
def document_of(cli, monkeypatch):
    """The document that a command writes."""
    seen, write = [], formats.write
    monkeypatch.setattr(formats, "write", lambda document, *to: (seen.append(document), write(document, *to)))

    def of(line: str):
        assert cli(f"{line} --format json").code != 2
        return seen[-1]

    return of


def numbers(values: object) -> set[int | float]:
    """Every number in plain values."""
    if isinstance(values, dict):
        return {number for each in values.values() for number in numbers(each)}
    if isinstance(values, list | tuple):
        return {number for each in values for number in numbers(each)}
    return {values} if isinstance(values, int | float) and not isinstance(values, bool) else set()


def written(document, format: str) -> bytes:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    FORMATS.module(format).write(document, stream)
    stream.flush()
    return stream.buffer.getvalue()


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", COMMANDS)
def test_every_number_of_a_chart_is_in_its_json(document_of, line):
    document = document_of(line)
    charts = charts_of(document)
    assert charts
    for chart in charts:
        assert chart.numbers()
        assert all(type(number) is int or 0 <= number <= 1 for number in chart.numbers())
        assert chart.numbers() <= numbers(document.to_dict())


def test_a_number_that_json_has_not_is_noticed(document_of):
    (chart,) = charts_of(document_of("plot gpt-oss-20b -t 1K"))
    other = chart._replace(levels=(Level("x", 12345678901),))
    assert not other.numbers() <= numbers(document_of("plot gpt-oss-20b -t 1K").to_dict())


@pytest.mark.parametrize("engine", ["ideal", "vllm", "sglang", "llama_cpp", "transformers"])
@pytest.mark.parametrize("name", ["gpt-oss-20b", "gemma3-27b", "deepseek-v4-pro", "llama3-8b"])
def test_each_point_is_what_size_answers(name, engine):
    model = kvcalc.load(name)
    try:
        report = growing([Line(Question.of(model, tokens=1, sequences=3, engine=engine))], 16, 5000)
    except kvcalc.NotApplicableError:
        pytest.skip("the engine has no class for it")
    (curve,) = report.curves
    for tokens, bytes_ in curve.points[:: max(1, len(curve.points) // 9)]:
        assert bytes_ == kvcalc.size(model, tokens=tokens, batch=3, engine=engine).total_bytes


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b", "deepseek-v3.2", "qwen3-30b-a3b"])
def test_each_point_of_a_decode_step_is_what_decode_answers(name):
    report = kvcalc.decode(name, tokens="4K", batch=3)
    cache, *weights = charts_of(report)[0].series
    for tokens, bytes_ in cache.points[:: max(1, len(cache.points) // 5)]:
        assert kvcalc.decode(name, tokens=tokens, batch=3).cache_bytes == bytes_
    assert dict(cache.points)[4096] == report.cache_bytes
    (crossing,) = cache.marks
    dearest = max(bytes_ for line in weights for _, bytes_ in line.points)
    before, at = (kvcalc.decode(name, tokens=crossing + off, batch=3).cache_bytes for off in (-1, 0))
    assert before <= dearest < at


def test_lines_of_users_end_at_the_answers_and_nobody_holds_less_than_before(document_of):
    report = document_of(f"traffic llama3-8b --blocks 2000 --context {TRACES}/azure.csv")
    by_users, distribution = charts_of(report)
    ends = {series.label: series.points[-1][0] for series in by_users.series}
    assert ends == {
        "all at the maximum": report.users_at_most,
        "99% of the time": report.users,
        "all at the mean": report.users_at_mean,
    }
    assert ends["all at the maximum"] < ends["99% of the time"] < ends["all at the mean"]
    for line in (*by_users.series, *distribution.series):
        assert [*line.points] == sorted(line.points, key=lambda point: (point[0], point[1]))
        assert all(held <= report.num_blocks for _, held in line.points)
    assert dict(distribution.series[0].points)[0.99] == dict(by_users.series[1].points)[report.users]


def test_a_distribution_is_the_shares_of_its_convolution():
    """Two users that hold 1, 2 or 3 blocks, each a third of the time: 2 to 6 together, in 9 cases."""
    held = Blocks([0, 1, 1, 1], 5)
    ninths = [Fraction(cases, 9) for cases in (1, 2, 3, 6, 8, 9)]
    assert [*held.quantiles(2, ninths)] == [2, 3, 3, 4, 5, None]
    for share in ninths[:-1]:
        enough = held.quantile(2, share)
        assert held.share_within(2, enough) >= share > held.share_within(2, enough - 1)


def test_a_replay_is_drawn_with_its_peak_and_where_it_preempts(document_of):
    report = document_of(f"replay {TRACES}/azure.csv llama3-8b --blocks 2000 --step-ms 20 --steps")
    (line,) = charts_of(report)[0].series
    assert max(used for _, used in line.points) == report.totals.peak_used
    used = {step.step: step.used_blocks for step in report.steps}
    assert all(used[step] == blocks for step, blocks in line.points)
    assert len(line.points) < len(report.steps)


@pytest.mark.parametrize(
    ("name", "window"),
    [("gpt-oss-20b", 128), ("gemma3-27b", 1024), ("gemma2-9b", 4096)],  # sliding_window of their config.json
)
def test_a_window_that_fills_is_a_point_and_marked(name, window):
    report = growing([Line(Question.of(kvcalc.load(name), tokens=1))], 7, 99_999)
    (curve,) = report.curves
    assert window in curve.marks
    bytes_at = dict(curve.points)
    after = min(tokens for tokens in bytes_at if tokens > window)
    before = max(tokens for tokens in bytes_at if tokens < window)
    slope_before = (bytes_at[window] - bytes_at[before]) / (window - before)
    assert slope_before > (bytes_at[after] - bytes_at[window]) / (after - window)


def test_a_model_without_windows_has_no_marks():
    assert growing([Line(Question.of(kvcalc.load("llama3-8b"), tokens=1))], 1, 10**6).curves[0].marks == ()


def test_points_are_both_ends_and_some_in_each_doubling():
    assert samples(3, 40, (5, 77)) == [3, 4, 5, 6, 8, 9, 11, 13, 16, 19, 22, 26, 32, 38, 40]
    steps = samples(1, 2000, period=16)
    assert {15, 16, 17, 255, 256, 257} <= set(steps)
    assert all(tokens % 16 == 0 or tokens in (1, 2000) or tokens <= 257 for tokens in steps)
    assert samples(0, 128, linear=True)[:4] == [0, 2, 4, 6]


def test_more_curves_than_can_be_told_apart_are_refused(cli):
    done = cli(f"plot r1 -t 1K --engine {','.join(['ideal'] * (MOST_CURVES + 1))}")
    assert (done.stdout, done.code) == ("", 2)
    assert "13 curves are too many for one chart (limit 12)" in done.stderr


# Drawings -------------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.parametrize("format", DRAWN)
def test_each_chart_is_drawn_in_each_format_strictly(document_of, line, format):
    document = document_of(line)
    content = written(document, format)
    if format == "png":
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        return
    text = content.decode()
    read_strictly(format, text)
    if format == "chart":
        assert max(map(len, text.splitlines())) <= 100


def test_an_svg_says_what_it_shows(document_of):
    document = document_of("plot gpt-oss-20b llama3-8b -t 32K --gpu h100")
    root = ElementTree.fromstring(written(document, "svg"))
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title"
    assert root.get("aria-labelledby") == root[0].get("id")
    said = [title.text for title in root.iter(f"{SVG}title")]
    assert "gpt-oss-20b: 3,145,728 bytes (3.15 MB, 3.00 MiB) at 128 tokens; growth changes" not in said
    assert "gpt-oss-20b: 6,291,456 bytes (6.29 MB, 6.00 MiB) at 128 tokens; growth changes" in said  # 24 x 128 x 2,048
    words = " ".join(text for element in root.iter(f"{SVG}text") for text in element.itertext())
    assert {"gpt-oss-20b", "llama-3-8b", "32K", "GiB", "memory"} <= set(re.findall(r"[\w.-]+", words))
    assert not list(root.iter(f"{SVG}metadata"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)


def test_a_drawing_is_the_same_in_every_process_and_whatever_its_user_set(tmp_path):
    (tmp_path / "matplotlibrc").write_text(
        "lines.linewidth: 9\nfont.size: 30\nsvg.fonttype: path\naxes.facecolor: red\n"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-m", "kvcalc", "plot", "gpt-oss-20b", "-t", "1K", "-f", format],
            env={**os.environ, "PYTHONHASHSEED": seed, **more},
            capture_output=True,
            check=True,
        ).stdout
        for format in ("svg", "png")
        for seed, more in (("1", {}), ("2", {"MATPLOTLIBRC": str(tmp_path)}))
    }
    assert len(drawn) == 2


HOSTILE = ("$x_1$ \\frac{1}{2}", "<script>&\"'", "\x1b[31mred", "a % b & c # {", "\n::error::x", "漢字", "x" * 500)


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("format", DRAWN)
def test_foreign_words_are_words_in_every_drawing(words, format):
    x, y = Axis("tokens", "tokens"), Axis("bytes", "bytes")
    lines = Curves(words, x, y, (Series(words, ((1, 2), (1000, 2000)), (1,)),), (Level(words, 900),), (words,))
    bars = Bars(
        words, "bytes", (Bar(words, (Segment(words, 5), Segment("b", 3, 1)), words),), (Level(words, 6),), (words,)
    )
    strip = Strip(words, (Layer(0, words, 3), Layer(1, "b", 9)), (words,))

    class Document:
        def charts(self):
            return (lines, bars, strip)

    content = written(Document(), format)
    if format != "png":
        read_strictly(format, content.decode())


def test_what_is_visible_stays_so():
    chart = Bars("a\x1b", "bytes", (Bar("b\x1b", (Segment("c\x1b", 5),), "d\x1b"),), (Level("e\x1b", 6),), ("f\x1b",))
    assert_inert(str(visible_chart(chart)))
    assert visible_chart(visible_chart(chart)) == visible_chart(chart)


def test_edges_are_drawn():
    """One point, nothing at all, and numbers far beyond any memory."""
    x, y = Axis("tokens", "tokens"), Axis("bytes", "bytes")
    for points in (((5, 7),), ((1, 0), (2, 0)), ((1, 1), (10**12, 10**18))):
        for log in (True, False):
            chart = Curves("t", x._replace(log=log), y._replace(log=log), (Series("a", points),))

            class Document:
                def charts(self, chart=chart):
                    return (chart,)

            for format in DRAWN:
                assert written(Document(), format)


# Terminals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("line", ["plot gpt-oss-20b llama3-8b -t 32K", "fit llama3-8b --gpu h100 -t 8K -f chart"])
def test_a_chart_is_as_wide_as_the_terminal(cli, line, columns):
    done = cli(line, columns)
    widths = [len(line) for line in done.stdout.splitlines()]
    assert max(widths) <= max(columns, 78)
    assert "\x1b" not in done.stdout


def test_without_unicode_a_chart_is_ascii():
    for line in ("plot gpt-oss-20b r1 -t 1K", "size r1 -t 1K -f chart", "size gemma3-27b -t 8K --by-layer -f chart"):
        done = subprocess.run(
            [sys.executable, "-m", "kvcalc", *line.split()],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=True,
        )
        assert done.stdout.isascii()


# Files and refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.svg", b"<?xml"),
        ("a.png", b"\x89PNG"),
        ("a.tex", b"% \\usepackage{pgfplots}"),
        ("a.csv", b"series,model"),
        ("a.json", b"{"),
        ("a.md", b"### KV cache by context"),
    ],
)
def test_a_file_has_the_format_of_its_ending(cli, tmp_path, name, begins):
    assert cli(["plot", "gpt-oss-20b", "-t", "1K", "-o", str(tmp_path / name)]) == ("", "", 0)
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("plot r1 -o chart.bmp", "--out: the suffix '.bmp' is not a known format"),
        ("plot r1 -o chart", "--out: a name without a suffix does not give a format"),
        ("plot r1 -t 1K -o missing/chart.json", "cannot be written: No such file or directory"),
        ("check examples/plans/prod.yaml --baseline none.json -f chart", "--format: the format chart "),
        ("weights r1 -f svg", "--format: the format svg draws charts, and this answer has none"),
        ("plot r1 -t 1K,2K,4K", "--tokens: a range has 2 token counts, but 3 are given"),
        ("plot r1 -t 2K,1K", "--tokens: the range starts at 2,048 tokens and ends at 1,024"),
        ("plot r1 --weights 10GB", "--weights: the bytes of a cache do not depend on it"),
        ("plot r1 --tp 2", "--tp, --pp, --dp, --dcp, --ep: the bytes of a cache do not depend on it"),
        ("plot r1 --max-users", "--gpu: no GPU given"),
        ("plot r1 --max-users --gpu l40s -t 1K", "weights and the rest leave no memory for the cache"),
        ("plot llama3-8b --max-users --gpu l40s -e llama_cpp -t 1K", "llama_cpp shares one context among its users"),
        (
            "plot r1 -e ideal,vllm --engine-set block_size=32",
            "--engine-set applies to one engine, but several are named",
        ),
        ("plot r1 -e nope", "--engine: no engine is called 'nope'"),
        ("plot", "no model named"),
    ],
)
def test_what_cannot_be_plotted_is_refused(cli, tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    done = cli(line)
    assert (done.stdout, done.code) == ("", 2)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_error_names_the_extra_and_tables_work(cli, monkeypatch):
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "matplotlib" else find(name, *more))
    done = cli("plot r1 -t 1K --format svg")
    assert (done.stdout, done.code) == ("", 2)
    assert "pip install 'kvcalc[plot] @ git+https://github.com/kvcalc/kvcalc'" in done.stderr
    for format in ("chart", "tikz", "table", "json"):
        assert cli(f"plot r1 -t 1K --format {format}").code == 0


def test_a_picture_does_not_go_to_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["plot", "r1", "-t", "1K", "-f", "png"]) == 2
    assert "png is binary, and standard output is a terminal" in capsys.readouterr().err
