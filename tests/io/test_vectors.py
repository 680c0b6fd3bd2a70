"""Vectors: what they are, that kvcalc agrees with them through the door of any estimator, and what that door withstands."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from pathlib import Path

import jsonschema
import pytest
from answer_documents import check_schema

import kvcalc
from kvcalc.io.vectors import engine_names, read_vectors
from kvcalc.io.vectors.own import answered, answers

ROOT = Path(__file__).parents[2]
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "vectors/schema.json").read_text()))
OWN = f"{shlex.quote(sys.executable)} -m kvcalc vectors answer"
ALL = read_vectors()
OF_SGLANG = [vector for vector in ALL if vector.engine == "sglang"]


def command(code: str) -> str:
    """An estimator in a line of Python, as a shell would start it."""
    return shlex.join([sys.executable, "-c", code])


def run(cli, estimator: str, *options: str) -> tuple[int, dict]:
    done = cli(["vectors", "run", estimator, "--engine", "sglang", "--format", "json", *options])
    document = json.loads(done.stdout)
    assert check_schema(document)
    return done.code, document


def counts(document: dict) -> list[int]:
    return [document[name] for name in ("agreed", "disagreed", "refused", "unanswered")]


def test_each_vector_is_as_the_schema_says():
    for vector in ALL:
        SCHEMA.validate(vector._asdict())
    assert not SCHEMA.is_valid({**ALL[0]._asdict(), "answer": {}})
    assert not SCHEMA.is_valid({**ALL[0]._asdict(), "engine": "x"})
    assert len({vector.id for vector in ALL}) == len(ALL) == 1763


def test_drafts_and_pools_are_asked_and_answered():
    drafts = [vector for vector in ALL if "draft" in vector.question]
    assert len(drafts) == 79
    assert any(vector.answer == {"refused": True} for vector in drafts)
    without = {**drafts[0].question, "engine": "vllm", "version": "0.33.0"}
    del without["draft"]
    assert answered(json.dumps(without)) != {**drafts[0].answer}


def test_the_files_are_what_the_tool_makes_of_the_measured_rows(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import vectors

    vectors.main(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in ROOT.glob("vectors/*.jsonl")) == [f"{n}.jsonl" for n in engine_names()]
    for name in names:
        assert (tmp_path / name).read_bytes() == (ROOT / "vectors" / name).read_bytes(), name


def test_kvcalc_agrees_with_all_of_them_through_the_same_door(cli):
    done = cli(["vectors", "run", OWN, "--format", "json"])
    document = json.loads(done.stdout)
    assert document["others"] == []
    assert (done.code, counts(document)) == (0, [len(ALL), 0, 0, 0])


def test_eyes_see_engines_and_versions(cli):
    printed = cli(["vectors", "run", OWN, "--engine", "sglang"]).stdout
    assert printed.splitlines()[0] == f"{len(OF_SGLANG)} vectors: {len(OF_SGLANG)} agreed"
    rows = list(csv.DictReader(io.StringIO(cli(["vectors", "run", OWN, "-e", "ollama", "-f", "csv"]).stdout)))
    assert {(row["engine"], row["verdict"]) for row in rows} == {("ollama", "agreed")}
    assert "llama_cpp     0.3.36" in cli("vectors list").stdout


ECHO = "import sys, json\nfor line in sys.stdin: q = json.loads(line); print(json.dumps({}), flush=True)"
ESTIMATORS = {
    "other numbers": (ECHO.format('{"tokens": 1}'), [0, 90, 0, 0], "tokens measured", 1),
    "nothing": (ECHO.format("{}"), [0, 90, 0, 0], "answered nothing", 1),
    "true for 1": (ECHO.format('{"tokens": True}'), [0, 90, 0, 0], "answered true", 1),
    "refusals": (ECHO.format('{"refused": "no \\x1b[31mSGLang"}'), [0, 0, 90, 0], r"no \x1b[31mSGLang", 0),
    "garbage": ("for _ in range(90): print('Traceback')", [0, 0, 0, 90], "not a JSON object: Traceback", 1),
    "lists": ("for _ in range(90): print('[1]')", [0, 0, 0, 90], "not a JSON object: [1]", 1),
    "a deep nest": ("for _ in range(90): print('[' * 200000)", [0, 0, 0, 90], "not a JSON object", 1),
    "bytes": ("import os; os.write(1, b'\\xff\\x00\\n' * 90)", [0, 0, 0, 90], "not a JSON object", 1),
    "another order": ('for _ in range(90): print(\'{"id": "x"}\')', [0, 0, 0, 90], "an answer to x", 1),
    "an early end": ("print('{\"refused\": 1}')", [0, 0, 1, 89], "ended with exit code 0", 1),
    "a death": ("import sys; sys.exit('no model')", [0, 0, 0, 90], "ended with exit code 1: no model", 1),
    "a crash": ("import os; os.abort()", [0, 0, 0, 90], "ended with exit code -6", 1),
    "an output that is closed": ("import os, time; os.close(1); time.sleep(60)", [0, 0, 0, 90], "closed its output", 1),
    "no reading": ("import time; time.sleep(60)", [0, 0, 0, 90], "no answer in 1 seconds", 1),
    "a line without an end": (
        "import sys\nwhile True: sys.stdout.write('x' * 10**6)",
        [0, 0, 0, 90],
        "not a JSON object: xxx",
        1,
    ),
    "errors without an end": (
        "import sys, time\nsys.stderr.write('e' * 10**7); time.sleep(60)",
        [0, 0, 0, 90],
        "no answer in 1 seconds",
        1,
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_whatever_a_command_does_each_vector_has_an_outcome(cli, name):
    code, expected, why, exit_code = ESTIMATORS[name]
    exited, document = run(cli, command(code), "--timeout", "1" if "time" in code else "20")
    assert counts(document) == expected
    assert why in document["others"][0]["why"] or why in document["others"][-1]["why"]
    assert exited == exit_code


def test_what_it_started_ends_with_it(cli, tmp_path):
    """A child that would write a file after three seconds is gone by then."""
    late = f"import time; time.sleep(3); open({str(tmp_path / 'late')!r}, 'w')"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {late!r}]); time.sleep(60)"
    run(cli, command(code), "--timeout", "1")
    import time

    time.sleep(3)
    assert not (tmp_path / "late").exists()


def test_an_estimator_may_answer_at_the_end(cli):
    code = 'import sys\nlines = sys.stdin.readlines()\nfor line in lines: print(\'{"refused": "x"}\')'
    assert counts(run(cli, command(code))[1]) == [0, 0, 90, 0]


def test_an_engine_that_refuses_wants_a_refusal(cli):
    refusing = sum("refused" in vector.answer for vector in ALL if vector.engine == "llama_cpp")
    assert refusing >= 5
    code = ECHO.format('{"refused": "x"}')
    done = cli(["vectors", "run", command(code), "-e", "llama_cpp", "-f", "json"])
    assert json.loads(done.stdout)["agreed"] == refusing
    done = cli(["vectors", "run", command(ECHO.format('{"total_bytes": 1}')), "-e", "llama_cpp", "-f", "json"])
    assert "llama_cpp refuses this" in " ".join(other["why"] for other in json.loads(done.stdout)["others"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["vectors", "run", "no-such-program"], "COMMAND: no-such-program cannot be started"),
        (["vectors", "run", "' "], "COMMAND has no closing quotation"),
        (["vectors", "run", ""], "COMMAND is empty"),
        (["vectors", "run", "x", "-e", "vlm"], "--engine: no engine with vectors is called 'vlm'"),
        (["vectors", "run", "x", "--timeout", "0"], "--timeout: timeout must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_run(cli, line, message):
    done = cli(line)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(message)


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"ask": "size", "engine": "vllm"}', "[" * 100_000, "1" * 5000])
def test_what_is_no_question_is_refused(line):
    assert "a question is a JSON object" in answered(line)["refused"]


def test_an_answer_has_the_id_of_its_question():
    asked = {"id": "a", "ask": "size", "engine": "ideal", "config": {"model_type": "llama", "hidden_size": 0}}
    (found,) = answers(["\n", json.dumps(asked) + "\n"])
    assert json.loads(found)["id"] == "a"
    assert "refused" in json.loads(found)


def test_a_version_or_a_layout_that_is_none_is_refused():
    for changed in (
        {"version": "9"},
        {"parallel": {"tp": 0}},
        {"parallel": {"xp": 1}},
        {"parallel": 1},
        {"settings": 1},
    ):
        question = json.loads(OF_SGLANG[0].asked) | changed
        assert "refused" in answered(json.dumps(question)), changed
    with pytest.raises(kvcalc.UnknownNameError):
        read_vectors(["x"])
