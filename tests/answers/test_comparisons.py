"""Tables of comparisons: what does not apply is a row with its reason, files for programs are long, notes stand once."""

from __future__ import annotations

import csv
import io
import json

import pytest

import kvcalc
from kvcalc.methods import specs_in
from kvcalc.report.notes import once

METHODS = "compare llama3-8b --methods snapkv,kivi:bits=4,h2o --tokens 4K,32K,128K"


def table(cli, line: str) -> list[dict[str, str]]:
    done = cli(f"{line} -f csv")
    assert done.code == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout), strict=True))


def test_methods_at_lengths_are_a_long_table(cli):
    """Llama-3-8B: 131,072 bytes a token. SnapKV keeps 2,048 of them; H2O wants as many KV heads as query heads."""
    rows = table(cli, METHODS)
    assert [(row["method"], row["tokens"]) for row in rows] == [
        (method, tokens) for method in ("", "snapkv", "kivi:bits=4", "h2o") for tokens in ("4096", "32768", "131072")
    ]
    assert {row["model"] for row in rows} == {"llama-3-8b"}
    totals = {(row["method"], int(row["tokens"])): row["total_bytes"] for row in rows}
    assert totals["", 131_072] == str(131_072 * 131_072)
    assert totals["snapkv", 4096] == totals["snapkv", 131_072] == str(2048 * 131_072)
    assert {row["total_bytes"] for row in rows[9:]} == {""}
    assert all("8 KV heads for 32 query heads" in row["not_applicable"] for row in rows[9:])
    assert not any(row["not_applicable"] for row in rows[:9])


def test_eyes_see_what_does_not_apply_and_why(cli):
    for form, cell in (("table", "n/a"), ("markdown", "| h2o | "), ("latex", "h2o & n/a & n/a & n/a &")):
        printed = " ".join(cli(f"{METHODS} -f {form}").stdout.split())
        assert cell in printed
        assert "h2o does not apply: H2O drops tokens of each query head" in printed
    data = json.loads(cli(f"{METHODS} -f json").stdout)
    assert [each["label"] for each in data["left_out"]] == ["h2o"]
    assert [(row["method"], row["tokens"]) for row in data["rows"][3:5]] == [("snapkv", 4096), ("snapkv", 32_768)]


def test_a_model_that_an_engine_refuses_is_a_row(cli):
    first, second = table(cli, "compare zamba2-7b llama3-8b --tokens 1K -e mlx_lm")
    assert (first["model"], first["total_bytes"], first["not_applicable"]) == ("llama-3-8b", str(1024 * 131_072), "")
    assert (second["model"], second["not_applicable"]) == ("zamba2-7b", "Model type zamba2 not supported.")
    alone = cli("compare zamba2-7b deepseek-v4-pro --tokens 1K -e mlx_lm")
    assert (alone.code, alone.stderr.splitlines()[0]) == (2, "Model type zamba2 not supported.")


def test_variants_are_a_long_table_too(cli):
    """Falcon-7B has 71 query heads, which neither 16 nor 8 KV heads divide, and no sizes of an MLA's head."""
    rows = table(cli, "compare falcon-7b --tokens 1K")
    assert [row["attention"] for row in rows if row["not_applicable"]] == ["GQA-16", "GQA-8"]
    (as_built,) = (row for row in rows if row["as_built"] == "true")
    assert (as_built["attention"], as_built["total_bytes"]) == ("MQA", str(1024 * 32 * 2 * 64 * 2))


def test_attention_works_as_it_does_in_size(cli):
    alone = table(cli, "compare llama3-8b --tokens 4K --attention gqa:4")
    assert [(row["attention"], row["as_built"]) for row in alone] == [("GQA-4", "false"), ("GQA-8", "true")]
    sized = json.loads(cli("size llama3-8b -t 4K --attention gqa:4 -f json").stdout)["total_bytes"]
    assert int(alone[0]["total_bytes"]) == sized
    several = table(cli, "compare llama3-8b r1 --tokens 4K --attention gqa:4")
    assert [int(row["total_bytes"]) for row in several] == [sized, 4096 * 61 * 4 * 256 * 2]
    under = table(cli, "compare r1 --tokens 32K --attention gqa:8 --methods snapkv")
    assert [(row["method"], int(row["total_bytes"])) for row in under] == [
        ("", 32_768 * 61 * 8 * 256 * 2),
        ("snapkv", 2048 * 61 * 8 * 256 * 2),
    ]
    both = cli("compare llama3-8b --tokens 4K --attention gqa:4 --variants mha")
    assert both.code == 2
    assert both.stderr.startswith("--attention and --variants both choose")


def test_python_takes_attention_too():
    (row, _) = kvcalc.compare("llama3-8b", tokens=1, attention="gqa:4").rows
    assert row.reports[0].total_bytes == 65_536
    rows = kvcalc.compare(["llama3-8b", "llama3-70b"], tokens=1, attention="mqa").rows
    assert [row.reports[0].total_bytes for row in rows] == [16_384, 40_960]
    with pytest.raises(kvcalc.InvalidValueError, match="attention and variants both select the attention"):
        kvcalc.compare("r1", tokens=1, attention="mqa", variants="mha")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "line",
    [
        METHODS,
        "compare llama3-70b --tokens 128K --methods all",
        "compare llama3-70b --tokens 4K,32K,128K,1M --methods all",
        "compare r1 --tokens 1K,32K,128K,1M",
        "compare llama3-70b r1 qwen3-next-80b-a3b deepseek-v4-pro --tokens 1K,32K,128K,1M",
        "compare llama3-70b r1 qwen3-next-80b-a3b deepseek-v4-pro --tokens 128K",
    ],
)
def test_tables_hold_their_width(cli, line, width):
    lines = cli(line, columns=width).stdout.splitlines()
    assert max(map(len, lines)) <= width
    notes = " ".join(" ".join(lines).split()).split(" - ")[1:]
    said = [note.partition(": ")[2] for note in notes]
    assert len([each for each in said if each]) == len({each for each in said if each})


def test_a_note_of_several_rows_stands_once():
    assert once([("a", "x"), ("b", "y"), ("c", "x"), ("a", "x")]) == ("a, c: x", "b: y")


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("snapkv;kivi:bits=2", ["snapkv", "kivi:bits=2"]),
        ("snapkv, kivi", ["snapkv", "kivi"]),
        ("snapkv:window_size=64,max_capacity_prompt=512,mqa", ["snapkv:window_size=64,max_capacity_prompt=512", "mqa"]),
        ("kv-dtype:k_dtype=q8_0,v_dtype=q4_0,gqa:16", ["kv-dtype:k_dtype=q8_0,v_dtype=q4_0", "gqa:16"]),
        (
            "gla:num_latent_heads=2,latent_head_dim=3;mla:512+64,",
            ["gla:num_latent_heads=2,latent_head_dim=3", "mla:512+64"],
        ),
        ("bits=2", ["bits=2"]),
        (" ; ,", []),
    ],
)
def test_a_comma_stands_between_methods_or_between_parameters(text, specs):
    assert specs_in(text) == specs


@pytest.mark.parametrize(
    ("engine", "token_bytes", "next_bytes"),
    [("ideal", 70_272, 70_272), ("vllm", 70_272, 0), ("transformers", 70_272, 70_272)],
)
def test_bytes_per_token_means_the_same_in_every_engine(engine, token_bytes, next_bytes):
    """61 layers x 576 x 2 bytes; vLLM takes them in blocks of 16 tokens, and 1,000 tokens leave room in the last."""
    report = kvcalc.size("r1", tokens=1000, engine=engine)
    assert (report.bytes_per_token, report.next_token_bytes) == (token_bytes, next_bytes)
    data = report.to_dict()
    assert (data["bytes_per_token"], data["next_token_bytes"]) == (token_bytes, next_bytes)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("size r1 -t 1K -e vllm", True),
        ("size r1 -t 1K,2K", True),
        ("size r1 -t 1K --by-layer", True),
        ("size r1 -t 1K --explain", True),
        ("size r1 -t 1K --tp 2", True),
        ("compare r1 -t 1K", True),
        ("compare r1 llama3-8b -t 1K", True),
        ("compare llama3-8b -t 1K --methods all --explain", True),
        ("fit llama3-8b --gpu l40s -t 8K", True),
        ("check examples/plans/prod.yaml examples/plans/served.yaml", True),
        ("transfer r1 -t 1K --from tp=2 --to tp=4 -e vllm", False),
        ("weights r1", False),
        ("gpus", False),
        ("engines list", False),
        ("engines show vllm", False),
        ("methods list", False),
        ("methods show snapkv", False),
        ("presets list", False),
    ],
)
def test_a_csv_is_one_table_of_whole_numbers_with_its_question(cli, line, asked, monkeypatch):
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    done = cli(f"{line} -f csv")
    header, *rows = csv.reader(io.StringIO(done.stdout), strict=True)
    assert rows
    assert all(len(row) == len(header) for row in rows)
    assert len(header) == len(set(header))
    assert not asked or {"model", "tokens", "sequences", "kv_dtype", "engine", "engine_version"} <= {*header}
    for i, name in enumerate(header):
        if name.endswith("bytes"):
            assert all(row[i] == "" or row[i].removeprefix("-").isdigit() for row in rows), name


def test_models_are_named_apart_or_with_commas(cli):
    apart, commas = (cli(f"compare {names} -t 32K") for names in ("r1 lfm2-1.2b", "r1,lfm2-1.2b"))
    assert apart == commas
    assert apart.code == 0
    assert cli("compare r1,nope -t 32K").stderr.startswith("no model is called 'nope'")
