"""What holds for every engine: its settings are its fields, each with a meaning, and nobody looks for optional names."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest

import kvcalc
from kvcalc.engines import ENGINES, Engine
from kvcalc.engines.base import engine_class
from kvcalc.engines.base.plan import Plan, Planner
from kvcalc.engines.base.reading import kinds_of, read_settings, read_value, typed
from kvcalc.engines.base.settings import settings_of
from kvcalc.engines.vllm import planner
from kvcalc.fleet.demand import plan_of

PACKAGE = Path(kvcalc.__file__).parent
PLANNERS = {"vllm", "sglang", "tensorrt_llm", "lmdeploy"}
LLAMA = kvcalc.load("llama-3.1-8b")


@pytest.mark.parametrize("name", ENGINES.names())
def test_an_engine_is_a_frozen_dataclass_called_as_its_file(name):
    engine = Engine.of(name)
    assert engine.name == name.replace("-", "_")
    assert is_dataclass(engine)
    assert engine == engine_class(name)()
    with pytest.raises(FrozenInstanceError):
        setattr(engine, fields(engine)[0].name, None)


@pytest.mark.parametrize("name", ENGINES.names())
def test_every_setting_has_a_meaning_and_a_kind(name):
    engine = Engine.of(name)
    assert all(setting.meaning for setting in settings_of(engine))
    assert set(kinds_of(type(engine))) >= set(engine.settings_by_name())
    assert engine.TITLE
    assert engine.VERIFIED


def test_engines_that_plan_their_memory_are_planners():
    assert {Engine.of(name).name for name in ENGINES.names() if isinstance(Engine.of(name), Planner)} == PLANNERS


def test_what_engines_share_is_no_engine():
    assert "base" not in ENGINES.names()
    with pytest.raises(kvcalc.UnknownNameError, match="no engine is called 'base'"):
        Engine.of("base")


def optional_names(source: str) -> list[str]:
    """Calls of hasattr or getattr on what is called a module."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and ("module" in ast.unparse(node.args[0]).lower() or "settings" in ast.unparse(node.args[0]).lower())
    ]


def test_no_module_is_searched_for_an_optional_name():
    files = [path for path in PACKAGE.rglob("*.py") if "verify" not in path.parts]
    assert [(path, found) for path in files if (found := optional_names(path.read_text()))] == []
    assert optional_names("if hasattr(engine.module, 'fit'): pass") == ["hasattr(engine.module, 'fit')"]


def test_the_ideal_engine_loads_no_other_and_no_versions():
    code = "import kvcalc.cli, sys; kvcalc.cli.main('size --preset r1 --tokens 1 --format json'.split())"
    show = "sys.stderr.write(' '.join(name for name in sys.modules if name.startswith('kvcalc.engines.')))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert loaded == {
        "kvcalc.engines.base",
        "kvcalc.engines.base.footprint",
        "kvcalc.engines.ideal",
        "kvcalc.engines.base.settings",
        "kvcalc.engines.base.tensors",
    }


# Settings written as text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "text", "value"),
    [
        ("vllm", "max_model_len=128K", 131_072),
        ("vllm", "max_model_len=-1", -1),
        ("vllm", "gpu_memory_utilization=0.9", 0.9),
        ("vllm", "enable_prefix_caching=off", False),
        ("vllm", "use_v2_model_runner=1", True),
        ("vllm", "gpu=b200", "b200"),
        ("vllm", 'speculative={"method": "mtp"}', {"method": "mtp"}),
        ("vllm", "kv_cache_dtype_skip_layers=0,1,sliding_window", [0, 1, "sliding_window"]),
        ("vllm", "pp_layer_partition=[40, 40]", [40, 40]),
        ("vllm", "block_size=many", "many"),  # the engine says what is wrong with it
        ("llama_cpp", "flash_attn=1", "1"),
        ("transformers", "transformers_version=4.57", "4.57"),
    ],
)
def test_a_setting_is_typed_as_the_engines_field_is(engine, text, value):
    name = text.partition("=")[0]
    kind = engine_class(engine)
    assert read_settings(kind, [text]) == {name: value}
    assert typed(kind, {name: text.partition("=")[2]}) == {name: value}
    assert typed(kind, {name: value})[name] == value


def test_what_is_no_such_value_is_refused_by_its_kind():
    for text, kind, words in (
        ("half", "number", "a number"),
        ("[1]", "json", "a JSON object"),
        ("x", "flag", "true or"),
    ):
        with pytest.raises(kvcalc.InvalidValueError, match=f"--flag must be {words}"):
            read_value(text, kind, "--flag")


# A planner runs once ------------------------------------------------------------------------------------------------


@pytest.fixture
def plans(monkeypatch) -> list[tuple[int, int, int]]:
    """Ranks of each layout that vLLM's planner was run for."""
    found = []
    caches_of = planner.caches_of

    def counted(model, run):
        if run.version == Engine.of("vllm").version:  # a version before a change is asked, too, what it would have said
            found.append(run.ranks[:3])
        return caches_of(model, run)

    monkeypatch.setattr(planner, "caches_of", counted)
    return found


SIZE = "size --preset gpt-oss-20b --engine vllm"
FIT = "fit --preset gpt-oss-20b --engine vllm --gpu h100-80gb --weights 14GB"


@pytest.mark.parametrize(
    ("line", "planned"),
    [
        (f"{SIZE} --tokens 8K", [(1, 1, 1)]),
        (f"{SIZE} --tokens 8K,16K,32K", [(1, 1, 1)]),
        (f"{SIZE} --tokens 8K --explain", [(1, 1, 1)]),
        (f"{SIZE} --tokens 8K --tp 2", [(1, 1, 1), (2, 1, 1)]),  # the whole, and what a rank of such a layout holds
        (f"{FIT} --tp 1", [(1, 1, 1)]),
        (f"{FIT} --tp 1 --tokens 32K", [(1, 1, 1)]),
        (f"{FIT} --tp 2", [(2, 1, 1)]),
    ],
)
def test_a_planner_runs_once_for_each_layout_of_a_command(cli, plans, line, planned):
    assert cli(line).code == 0
    assert plans == planned


def test_no_layout_is_planned_twice_where_several_are_tried(cli, plans):
    cli(f"{FIT} --tokens 128K --batch 300 --tp 2")
    assert len(plans) > 2
    assert len(plans) == len(set(plans))


def test_a_check_plans_each_deployment_once(cli, plans, tmp_path):
    entry = "{name: %s, model: gpt-oss-20b, engine: vllm@0.33, tokens: %s, gpu: h100-80gb, weights: 14GB}"
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "deployments:\n" + "".join(f"  - {entry % (name, tokens)}\n" for name, tokens in (("a", "8K"), ("b", "16K")))
    )
    assert cli(f"check {plan}").code == 0
    assert plans == [(1, 1, 1)]


# A plan answers for itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ideal", "transformers", "llama_cpp", "mlx_lm", *sorted(PLANNERS)])
def test_every_plan_answers_the_same_questions(name):
    engine = Engine.of(name)
    plan: Plan = plan_of(LLAMA, engine, kvcalc.cache.dtypes.BF16, kvcalc.Parallel())
    budget = 20 * 2**30
    longest = plan.max_tokens(2, budget)
    assert longest
    assert plan.fits(longest, 2, budget)
    assert plan.max_sequences(1024, budget) >= 2
    assert plan.needed_at_least(1024, 2) <= max(plan.needed(1024, 2))
    report = plan.fit((budget,))
    assert (report is None) == (name not in PLANNERS)
    assert (plan.blocks(1024, budget) is None) == (name not in ("vllm", "lmdeploy"))
