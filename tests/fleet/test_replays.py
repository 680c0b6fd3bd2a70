"""Several traces: each as alone, wherever it is replayed, and the rest where one is refused or its worker is lost."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import pytest

import kvcalc
from kvcalc.fleet.replay.serving import Serving
from kvcalc.io import replays as io_replays
from kvcalc.io.replays import trace_paths
from kvcalc.io.traces import read_trace

EXAMPLES = Path(__file__).parents[2] / "examples" / "traces"
MODELS = ["llama3-8b", "gpt-oss-20b"]
SETTINGS = {"num_gpu_blocks": 3000}


def asked(**more):
    return {"scheduler": SETTINGS, "step_seconds": 0.02, "curve": False, **more}


@pytest.fixture(scope="module")
def alone():
    return kvcalc.replays(MODELS, EXAMPLES, **asked())


def test_each_is_as_it_is_alone(alone):
    for run in alone.runs:
        model = kvcalc.load(run.replayed.model)
        one = kvcalc.replay(model, read_trace(Path(run.trace), Fraction(1, 50)), scheduler=SETTINGS, every_step=False)
        assert run.replayed.totals == one.totals
        assert run.replayed.used == one.summary.used
    assert [Path(run.trace).name for run in alone.runs] == [
        name for name in ("azure.csv", "counts.jsonl", "mooncake.jsonl") for _ in MODELS
    ]


def test_workers_answer_as_one_process_does(alone):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        assert kvcalc.replays(MODELS, EXAMPLES, **asked(executor=processes)) == alone
    with ThreadPoolExecutor(3) as threads:
        assert kvcalc.replays(MODELS, [EXAMPLES], **asked(executor=threads)) == alone


def test_a_worker_needs_no_file(alone, monkeypatch):
    """As on another machine: what is sent is read, whatever lies at the path."""
    part = next(
        io_replays._parts(
            [EXAMPLES / "counts.jsonl"],
            [Serving(kvcalc.load("llama3-8b"), "vllm@0.32.0", {}, SETTINGS, "bf16")],
            curve=False,
            packed=True,
        )
    )
    moved = part._replace(path=Path("elsewhere/counts.jsonl"))
    assert io_replays._replayed(moved).totals == io_replays._replayed(part).totals
    refused = io_replays._replayed(moved._replace(packed=None))
    assert "elsewhere/counts.jsonl: no such file" in str(refused)


class Lost(ThreadPoolExecutor):
    """Workers that bring nothing back."""

    def submit(self, fn, /, *args, **kwargs):
        def lost() -> None:
            raise ConnectionResetError(54, "gone")

        return super().submit(lost)


def test_lost_workers_cost_no_result_and_are_said(alone):
    with Lost(2) as executor:
        report = kvcalc.replays(MODELS, EXAMPLES, **asked(executor=executor))
    assert report.runs == alone.runs
    assert report.notes == (
        "6 of 6 parts failed on workers (ConnectionResetError) and had to be computed on this machine",
    )


def test_few_traces_are_under_way(monkeypatch):
    """By their size; one that is larger than all that may be goes alone."""
    monkeypatch.setattr(io_replays, "_UNDER_WAY_BYTES", 9 << 20)
    most, under_way = 0, 0

    class Counting(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            future = super().submit(fn, *args, **kwargs)
            result = future.result

            def taken(timeout=None):
                nonlocal under_way
                under_way -= 1
                return result(timeout)

            future.result = taken
            return future

    with Counting(2) as executor:
        kvcalc.replays("llama3-8b", [EXAMPLES] * 2, **asked(executor=executor))
        assert most == 2
        most = 0
        monkeypatch.setattr(io_replays, "_UNDER_WAY_BYTES", 1)
        kvcalc.replays("llama3-8b", EXAMPLES, **asked(executor=executor))
        assert most == 1


@pytest.mark.parametrize("spread_out", [False, True])
def test_one_that_is_refused_keeps_no_other(tmp_path, spread_out):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("prompt_tokens,output_tokens\n100,10\n")
    bad.write_text("prompt_tokens,output_tokens\n100,ten\n")
    with ThreadPoolExecutor(1) as executor:
        more = {"executor": executor} if spread_out else {}
        report = kvcalc.replays("llama3-8b", [bad, good], scheduler=SETTINGS, **more)
        assert [run.trace for run in report.runs] == [str(good)]
        assert [(note.where, note.why) for note in report.refused] == [
            (f"{bad}:2", "output_tokens must be a whole number of at least 1, not 'ten'")
        ]
        with pytest.raises(kvcalc.InvalidFileError, match=r"bad\.csv:2: output_tokens"):
            kvcalc.replays("llama3-8b", bad, scheduler=SETTINGS, **more)


def test_paths_folders_and_patterns():
    names = ["azure.csv", "counts.jsonl", "mooncake.jsonl"]
    for texts in ([EXAMPLES], [EXAMPLES / "*"], [EXAMPLES / "*.csv", EXAMPLES / "*.jsonl"], [EXAMPLES, EXAMPLES]):
        assert [path.name for path in trace_paths(list(map(str, texts)))] == names
    for text in ("examples/traces/*.parquet", "docs"):
        with pytest.raises(kvcalc.InvalidFileError, match="no trace found"):
            trace_paths([text])


LINE = "--blocks 3000 --step-ms 20"


def test_the_command_says_the_same(cli, alone):
    named = json.loads(cli(f"replay {EXAMPLES} {','.join(MODELS)} {LINE} --format json").stdout)
    assert named == json.loads(json.dumps(alone.to_dict()))
    listed = " ".join(run.trace for run in alone.runs[::2])
    assert json.loads(cli(f"replay {listed} --preset {','.join(MODELS)} {LINE} --format json").stdout) == named


def test_the_command_and_both_readers_find_the_model(cli):
    """The last word is the model unless an option names it; `=` is for the other reader."""
    trace = EXAMPLES / "azure.csv"
    lines = [
        f"replay {trace} llama3-8b {LINE}",
        f"replay {trace} --preset llama3-8b {LINE}",
        f"replay {trace} --preset llama3-8b {LINE} --tp=1 -f table",
        f"replay {trace} -p=llama3-8b {LINE}".replace("-p=", "--preset "),
    ]
    assert len({cli(line).stdout for line in lines}) == 1


def test_a_trace_that_cannot_be_read_is_exit_code_2(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = Path("bad.csv")
    bad.write_text("prompt_tokens,output_tokens\n0,1\n")
    result = cli(f"replay {EXAMPLES / 'counts.jsonl'} {bad} llama3-8b --blocks 3000")
    assert result.code == 2
    assert "bad.csv:2" in result.stdout.replace("\n", "").replace(" ", "")


def test_one_that_stalls_is_exit_code_1(cli, tmp_path):
    large = tmp_path / "large.csv"
    large.write_text("prompt_tokens,output_tokens\n4000,1\n")
    result = cli(f"replay {EXAMPLES / 'counts.jsonl'} {large} llama3-8b --blocks 200")
    assert result.code == 1
    assert "stalled" in result.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("replay", "no model named"),
        ("replay llama3-8b --blocks 100", "no trace named"),
        (f"replay {EXAMPLES} llama3-8b --blocks 100 --steps", "--steps: each step is shown of one trace"),
    ],
)
def test_what_is_asked_wrongly(cli, line, says):
    result = cli(line)
    assert result.code == 2
    assert says in result.stderr


def test_a_step_at_the_floor_reads_the_weights_of_a_token_at_the_bandwidth(cli):
    """Llama 3 8B: 8,030,261,248 parameters of 2 bytes, but one row of 4,096 of the embedding's 128,256; L40S: 864 GB/s."""
    read_bytes = 2 * (8_030_261_248 - 128_255 * 4096) + 131_072  # and the cache of one token
    report = json.loads(cli(f"replay {EXAMPLES}/azure.csv llama3-8b --gpu l40s --step-ms floor --json").stdout)
    assert report["step_seconds"] == pytest.approx(read_bytes / 864e9, rel=1e-12)
    assert "a floor" in report["notes"][0]
    halved = json.loads(cli(f"replay {EXAMPLES}/azure.csv llama3-8b --gpu l40s --tp 2 --step-ms floor --json").stdout)
    assert 1.9 < report["step_seconds"] / halved["step_seconds"] <= 2


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--blocks 3000 --step-ms floor", "--step-ms: no GPU whose bandwidth sets a floor"),
        ("--gpu sm_90@64GB --step-ms floor", "--step-ms: bandwidth of"),
        ("--gpu l40s --weights 16.1GB --step-ms zero", "--step-ms: expected milliseconds above 0"),
    ],
)
def test_a_floor_that_is_not_known_is_refused(cli, line, error):
    outcome = cli(f"replay {EXAMPLES}/azure.csv llama3-8b {line}")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(error)
