"""Hostile names go through every document and every format: each result parses strictly, and no character acts."""

from __future__ import annotations

import json
import os
import re
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strict_readers import assert_inert, assert_message, cells, commands, read_strictly, run

from kvcalc.errors import KvcalcError
from kvcalc.errors.foreign import MOST_NAME, MOST_TEXT, listed, name_shown, quoted, visible
from kvcalc.formats._escapes import csv_cell, latex, markdown, no_commands

FORMATS = ("table", "json", "csv", "markdown", "latex", "html")
ALL_FORMATS = (*FORMATS, "github", "gitlab", "junit", "sarif")
HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "c1 \x9b31m",
    "\n::error file=a.py,line=1::pwned",
    "::stop-commands::token",
    "  ::add-mask::x",
    "##[error]x",
    "##vso[task.complete]",
    "a%0A::error::b",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-x",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "a | b \\| c \\",
    "`code` <script>alert(1)</script> &lt; [l](javascript:x)",
    "]]> <&\"'",
    "bidi \u202e evil \u2066",
    "nel\x85line\u2028sep\u2029par",
    "nonchar \ufffe\uffff\U0001fffe",
    "half \udcff",
    "zero\x00width\u200b\ufeff",
    "漢字 é",
    "x" * 3000,
    "::" * 1500,
)
ALPHABET = "ab =+-@|`\\<>&%:,;#[]()'\"\t\r\n\x00\x07\x1b\x7f\x85\x9b\u200b\u202e\u2028\u2029\u2066\ufeff\ufffe\udcffé漢"
NAMES = st.one_of(
    st.sampled_from(HOSTILE), st.text(ALPHABET, min_size=1, max_size=40), st.text(st.characters(), min_size=1)
)


def test_the_strict_readers_can_refuse():
    for format, text in (
        ("table", "a\x1b[1m"),
        ("table", "  ::error::x"),
        ("json", "{"),
        ("csv", "a,b\n1,=1\n"),
        ("csv", "a,b\n1\n"),
        ("csv", "a,a\n"),
        ("latex", "a_b \\\\\n"),
        ("latex", "\\input{x}\n"),
        ("latex", "\\caption{a--b}\n"),
        ("latex", "\\begin{tabular}{lr}\na & b & c \\\\\n"),
        ("html", "<!DOCTYPE html>\n<html lang='en'><body><h1>a</h1><br></body></html>"),
        ("html", "<!DOCTYPE html>\n<html lang='en'><body><h1>a</h1><script>alert(1)</script></body></html>"),
        ("html", "<!DOCTYPE html>\n<html lang='en'><body><h1><img src='x'/></h1></body></html>"),
        ("svg", "<svg onload='x'/>"),
        ("tikz", "\\input{x}\n"),
        ("junit", "<a>\x01</a>"),
        ("github", "::error file=a::x\n"),
        ("github", "no command\n"),
        ("markdown", "| a | b |\n| a | b | c |\n"),
        ("markdown", "| `a |\n"),
        ("sarif", '{"version": "2.1.0", "runs": []}'),
        ("gitlab", '[{"description": "x"}]'),
    ):
        with pytest.raises((AssertionError, ValueError, ElementTree.ParseError, jsonschema.ValidationError)):
            read_strictly(format, text)
    assert cells(r"| a \| b | \\\| | c\\ |") == [r" a \| b ", r" \\\| ", r" c\\ "]


@given(NAMES)
@settings(max_examples=5)
@example("\n::error file=a.py,line=1::pwned")
@example("nonchar \ufffe\uffff\U0001fffe \udcff | \\| `")
def test_a_plan_of_hostile_names(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("plan")
    deployments = [
        {"name": f"{name}{budget}", "args": f"vllm serve r1 --max-model-len 1K '--zz{bare}' 1", "budget": budget}
        for budget, bare in (("1GB", re.sub(r"[\x00'\udc80-\udcff]", "", name)), ("1KB", "z"))
    ]
    file = folder / f"{in_a_path(name)}.yaml"
    file.write_text(yaml.safe_dump({"deployments": deployments}), "utf-8")
    for format in ALL_FORMATS:
        done = run("check", str(file), "--format", format)
        if done.code == 2:  # a name that YAML or the schema refuses
            assert_message(done)
        else:
            read_strictly(format, done.out)


@given(NAMES)
@settings(max_examples=5)
@example("\x1b[31m\n::error file=a.py,line=1::pwned")
@example("##[error]x | `a` \udcff")
def test_a_change_of_hostile_names(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("diff")
    for side, tokens in (("old", 10), ("new", 2000)):
        entries = [
            {"name": f"{name}{n}", "model": "r1", "tokens": tokens + n, "budget": f"{1 + n}MB"} for n in range(2)
        ]
        (folder / side).mkdir()
        (folder / side / f"{in_a_path(name)}.yaml").write_text(yaml.safe_dump({"deployments": entries}), "utf-8")
    for format in ALL_FORMATS:
        done = run("diff", str(folder / "old"), str(folder / "new"), "--max-growth", "1%", "--format", format)
        if done.code == 2:
            assert_message(done)
        else:
            read_strictly(format, done.out)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_each_hostile_name_in_each_format(tmp_path, name):
    file = tmp_path / "plan.yaml"
    deployments = [{"name": f"{name}{n}", "model": "r1", "tokens": 10 + n, "budget": f"{1 - n}MB"} for n in range(2)]
    file.write_text(yaml.safe_dump({"deployments": deployments}), "utf-8")
    for format in ALL_FORMATS:
        done = run("check", str(file), "--format", format)
        if done.code == 2:  # C0 controls, which the schema of a plan refuses, and halves of pairs, which YAML does
            assert_message(done)
        else:
            read_strictly(format, done.out)
            assert "characters" in done.out or len(name) < 1000 or format == "json"
    preset = {"num_layers": 1, "attention": "gqa", "num_query_heads": 2, "num_kv_heads": 1, "head_dim": 64}
    file.write_text(yaml.safe_dump({**preset, "layer_pattern": [name], "layers": {name: {}}}), "utf-8")
    for command in (["presets", "new"], ["presets", "validate"], ["size", "-t", "1", "-m"]):
        done = run(*command, str(file))
        assert done.code in (0, 2)
        assert_inert(done.out)
        assert commands(done.out) == []
        if command[1] == "new" and not done.code:
            assert [*yaml.safe_load(done.out)["layers"]] == [name]


def in_a_path(name: str) -> str:
    """The name as a folder can hold it: any bytes, so halves of surrogate pairs as theirs."""
    return os.fsdecode((re.sub(r"[/\x00]", "", name)[:40] or "x").encode("utf-8", "surrogatepass"))


def config(name: str) -> dict[str, object]:
    return {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 256,
        f"kv_cache_{name}": 5,
    }


@given(NAMES)
@settings(max_examples=5)
@example("\x1b[31mRED\x1b]0;pwn\x07\n::error file=a::pwned")
@example("\ud800")
def test_a_config_of_hostile_keys_in_a_hostile_file(tmp_path_factory, name):
    file = tmp_path_factory.mktemp("config") / f"{in_a_path(name)}.json"
    file.write_text(json.dumps(config(name)))
    for command in (["size", "-t", "10"], ["size", "-t", "10", "--explain"], ["compare", "-t", "10"]):
        for format in FORMATS:
            done = run(*command, "-m", str(file), "-f", format)
            assert done.code == 0, done.err
            read_strictly(format, done.out)
    done = run("fit", "-m", str(file), "-t", "10", "--gpu", "h100", "--weights", "1GB")
    assert done.code in (0, 1), done.err
    read_strictly("table", done.out)


@given(NAMES)
@settings(max_examples=5)
@example("漢字 \x1b[31m\u202e")
def test_a_preset_of_hostile_layers(tmp_path_factory, name):
    facts = {"attention": "gqa", "num_query_heads": 2, "num_kv_heads": 1, "head_dim": 64}
    preset = {"num_layers": 2, **facts, "layer_pattern": [name], "layers": {name: {}}}
    file = tmp_path_factory.mktemp("preset") / "preset.yaml"
    file.write_text(yaml.safe_dump(preset), "utf-8")
    for command in (
        *(["size", "-t", "10", "-f", format, "-m"] for format in FORMATS),
        *(["size", "-t", "10", "--by-layer", "-f", format, "-m"] for format in FORMATS),
        ["presets", "validate"],
        ["presets", "new"],
    ):
        done = run(*command, str(file))
        if done.code == 2:
            assert_message(done)
        elif command[0] == "size":
            read_strictly(command[command.index("-f") + 1], done.out)
        else:
            assert_inert(done.out)
            assert commands(done.out) == []


LOG = (
    "INFO Initializing a V1 LLM engine (v0.33.0) with config: model='{}', max_seq_len=4096\n"
    "INFO Available KV cache memory: 6.51 GiB\n"
    "INFO GPU KV cache size: 123,457 tokens\n"
)


@given(NAMES)
@settings(max_examples=5)
@example("\x1b]0;x\x07\n::error::x")
def test_a_log_of_a_hostile_model_in_a_hostile_file(tmp_path_factory, name):
    file = tmp_path_factory.mktemp("log") / f"{in_a_path(name)}.log"
    file.write_text(LOG.format(name), "utf-8", errors="replace")
    for format in FORMATS:
        done = run("explain-log", str(file), "-p", "qwen3-14b", "-f", format)
        assert done.code == 1
        read_strictly(format, done.out)
    assert_message(run("explain-log", str(file)))


@given(NAMES)
@settings(max_examples=5)
@example("--\x1b[31m\n::error::x")
@example(":")
def test_hostile_words_on_a_command_line(name):
    name = name.replace("\0", "")
    for command in (
        ["size", "-p", name, "-t", "1"],
        ["size", "-p", "r1", "-t", name],
        ["size", "-p", "r1", "-t", "1", "-e", name],
        ["size", "-p", "r1", "-t", "1", "--engine-set", name],
        ["size", "-p", "r1", "-t", "1", "--method", name],
        ["size", "-p", "r1", "-t", "1", "-f", name],
        ["size", "-m", f"./{name}", "-t", "1"],
        ["check", name],
        ["check", "examples/plans", "--baseline", name],
        ["diff", name],
        ["diff", f"{name}..", name],
        ["diff", "HEAD", name],
        ["diff", "examples", name],
        ["diff", "examples", "examples", name],
        ["methods", "show", name],
        ["engines", "show", name],
        ["presets", "show", name],
        [f"x{name}"],
    ):
        done = run(*command)
        if done.code == 2:
            assert_message(done)


@pytest.mark.parametrize(
    "command", ["methods list", "methods show h2o", "engines list", "engines show vllm", "presets list"]
)
@pytest.mark.parametrize("format", FORMATS)
def test_the_projects_own_words_parse_too(command, format):
    done = run(*command.split(), "-f", format)
    assert done.code == 0
    read_strictly(format, done.out)


@given(st.text(st.characters()), st.integers(40, 300))
def test_what_is_visible_stays_so(text, most):
    shown = visible(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    assert visible(shown, most) == shown


def test_text_that_people_write_is_left_alone():
    for text in ("num_kv_heads (64) is not 7", "漢字 é ñ 😀", "std::vector", "a: b", "# title", r"C:\x"):
        assert visible(text) == text
    assert visible("a\x1bb\nc\u202ed\x9b") == r"a\x1bb\nc\u202ed\x9b"


def test_long_names_and_lists_are_cut():
    assert len(name_shown("x" * 10**6)) == MOST_NAME
    assert len(quoted("\x1b" * 10**6)) <= MOST_NAME
    assert listed([str(n) for n in range(1000)]).endswith("19 and 980 more")
    error = KvcalcError("x" * 10**6, help="", where="y" * 10**6 + ":12: field")
    assert len(str(error)) < 2 * MOST_TEXT
    assert ":12: field: xxx" in str(error)


def test_each_grammar_has_its_escape():
    assert [csv_cell(cell) for cell in ("=1+1", "-1", "-x", "+1,000", 7, None)] == [
        "'=1+1",
        "-1",
        "'-x",
        "+1,000",
        7,
        None,
    ]
    assert markdown("a|b`c\\<d> &lt; [l](x)") == r"a\|b\`c\\&lt;d> &amp;lt; [l\](x)"
    assert latex("a_b 5% {x} \\\\ C^2 -- '' <$&#~>|`\"") == (
        r"a\_b 5\% \{x\} \textbackslash{}\textbackslash{} C\textasciicircum{}2 -{}- '{}' "
        r"\textless{}\$\&\#\textasciitilde{}\textgreater{}\textbar{}\textasciigrave{}\char34{}"
    )
    assert no_commands("a\n \x1b[1m ::error::x") == "a\n \x1b[1m \\x3a:error::x"


def test_ten_thousand_hostile_keys_make_a_short_note(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config("") | {f"kv_cache_{n}_{'x' * 90}": 1 for n in range(2000)}))
    done = run("size", "-m", str(file), "-t", "10")
    assert done.code == 0
    assert "and 1,981 more" in " ".join(done.out.split())
    assert len(done.out) < 5000
