"""Methods: what the authors' own code kept, measured, row by row; how they compose; what they refuse."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import reduce
from pathlib import Path

import pytest

import kvcalc
from kvcalc.answers.compare import compare_methods
from kvcalc.answers.peaks import decode_peak_bytes
from kvcalc.cache.dtypes import BF16
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.methods import share_of_prompt
from kvcalc.methods import METHODS, parameters
from kvcalc.question import Question

MEASURED = Path(__file__).parents[1] / "data/methods.jsonl.gz"
ROWS = [json.loads(line) for line in gzip.decompress(MEASURED.read_bytes()).splitlines()]
SELECTION = {
    "StreamingLLM": ("streaming-llm", {"start": "start_size", "recent": "recent_size"}),
    "TOVA": ("tova", {"cache_size": "cache_size"}),
    "H2O(real drop)": ("h2o", {"hh_size": "hh_size", "recent_size": "recent_size"}),
    "SnapKV": ("snapkv", {"max_capacity_prompt": "max_capacity_prompt", "window": "window_size"}),
    "L2": (
        "l2-norm",
        {"keep_ratio": "keep_ratio", "prune_after": "prune_after", "skip_layers": "skip_layers"},
    ),
    "DuoAttention(static cache)": ("duo-attention", {"sink": "sink_size", "recent": "recent_size"}),
    "PyramidKV": (
        "pyramidkv",
        {"max_capacity_prompt": "max_capacity_prompt", "window": "window_size", "beta": "beta"},
    ),
    "H2O(FlexGen)": ("h2o-flexgen", {"hh_ratio": "hh_ratio"}),
}
"""Methods of the authors' own code that are built, with the names of their parameters here."""
COVERED = [row for row in ROWS if row["from"] == "official" and row["method"] in SELECTION]
PRESSES = {
    "none": "",
    "Knorm(L2)": "l2-norm",
    "Block+Knorm": "l2-norm",
    "SnapKV": "snapkv",
    "CriticalKV+Snap": "snapkv",
    "Composed(Snap,ThinK)": "snapkv",
    "StreamingLLM": "streaming-llm",
    "KeyRerotation+StreamingLLM": "streaming-llm",
    "TOVA": "tova",
    "ObservedAttention(H2O)": "h2o",
    "PyramidKV": "pyramidkv",
}
"""Presses of kvpress that are these methods, or wrap one and keep as many tokens, with a ratio in place of a budget."""
PRESSED = [row for row in ROWS if row["from"] == "kvpress" and row["method"] in PRESSES]
KIVI = [row for row in ROWS if row["from"] == "official" and row["method"] == "KIVI"]
ELSEWHERE = {
    "test_architecture_methods": {("official", "YOCO"): 3},
    "test_quantised_methods": {("hf_quant", None): 34, ("official", "TurboQuant (PyPI turboquant 0.2.0)"): 5},
    "test_ragged_methods": {
        ("official", "Ada-KV"): 12,
        ("official", "DMC"): 1,
        ("kvpress", "AdaKV+SnapKV"): 25,
        ("kvpress", "CriticalAdaKV+Snap"): 6,
        ("kvpress", "DuoAttention"): 5,
        ("kvpress", "DMS(dense prefill)+Knorm"): 3,
    },
}
"""Measured rows that the tests of other files hold, by file."""
NOT_COVERED = {
    ("kvpress", "Chunk+Knorm"): (5, "cuts a prompt chunk by chunk, which no listed method does"),
    ("kvpress", "ChunkKV+SnapKV"): (4, "keeps whole chunks of tokens, which no listed method does"),
    ("kvpress", "PerLayer"): (4, "a ratio for each layer is kvpress' own, and no listed method's"),
    ("kvpress", "SimLayerKV"): (4, "not a listed method: which layers are lazy follows from the text"),
    ("kvpress", "KeyDiff"): (4, "not a listed method"),
    ("kvpress", "Random"): (3, "not a listed method"),
    ("kvpress", "LagKV"): (2, "not a listed method"),
    ("kvpress", "ExpectedAttention"): (2, "not a listed method"),
    ("kvpress", "ThinK"): (5, "not a listed method: it blanks channels, and saves nothing"),
    ("kvpress", "Decoding+Knorm"): (1, "cuts every 16 steps, which no listed method does"),
    ("kvpress", "Decoding+StreamingLLM"): (2, "kvpress' wrapper; what rolls is covered by the authors' own code"),
    ("kvpress", "PrefillDecoding"): (2, "two presses, one of which cuts every 16 steps"),
    ("official", "cold-compress:KVCacheFull"): (1, "a cache of everything, with its buffers; no method"),
    ("official", "cold-compress:KVCacheRecentGlobal"): (
        1,
        "its buffers are those of the whole length, whatever is kept",
    ),
    ("official", "cold-compress:KVCacheL2"): (1, "its buffers are those of the whole length, whatever is kept"),
}
"""Measured rows that are reproduced nowhere: how many, and why."""


def model_of(row: dict) -> kvcalc.Model:
    """The layers of the measured cache; a single head size for K and V."""
    heads = row.get("heads", row.get("kv_heads", row.get("batch_heads", 4)))
    return kvcalc.load(
        {
            "name": "measured",
            "attention": "gqa",
            "num_layers": row.get("layers", len(row["params"].get("full_heads", [0]))),
            "num_query_heads": heads,
            "num_kv_heads": row.get("kv_heads", heads),
            "head_dim": row.get("head_dim", 16),
        }
    )


def spec_of(row: dict) -> str:
    name, names = SELECTION[row["method"]]
    values = {names[key]: value for key, value in row["params"].items() if key in names}
    if name == "snapkv":
        values["gqa_support"] = "false"  # what was run repeats K and V for the query heads
    if "full_heads" in row["params"]:
        values["retrieval_heads"] = [sum(layer) for layer in row["params"]["full_heads"]]
    words = {key: "+".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    return f"{name}:{','.join(f'{key}={value}' for key, value in words.items())}"


def sized(row: dict, *, further: int = 0) -> kvcalc.Report:
    tokens = row.get("tokens") or row["params"]["max_size"]
    changed = kvcalc.apply_method(model_of(row), spec_of(row))
    return kvcalc.size(changed, tokens=tokens + further, kv_dtype=row.get("dtype", "bf16"))


def bytes_named(report: kvcalc.Report, *names: str) -> int:
    return sum(tensor.bytes for group in report.groups for tensor in group.tensors if tensor.name in names)


@pytest.mark.parametrize("row", COVERED, ids=lambda row: f"{row['method']}-{row.get('tokens')}-{row['params']}"[:80])
def test_what_the_authors_code_kept(row):
    report = sized(row)
    kept = {layer: group.tensors[0].slots for group in report.groups for layer in group.layers}
    if "storage_bytes" in row:
        assert report.storage_bytes == row["storage_bytes"]
    if "allocated_slots_hh_all" in row:
        assert set(kept.values()) == {row["allocated_slots_hh_all"]} == {row["kept_after_prefill"] + 1}
        assert report.groups[0].tensors[-1].dims == (("num_query_heads", row["acc_shape"][1]),)
    if isinstance(row.get("kept"), list):
        assert [kept[layer] for layer in sorted(kept)] == row["kept"]
    if "kept_call" in row:
        assert [kept[layer] for layer in sorted(kept)] == row["kept_call"]
    for field in ("kept_prefill", "kept"):
        if isinstance(row.get(field), int):
            assert set(kept.values()) == {row[field]}
    if "kept_after_step" in row:
        after = sized(row, further=1)
        assert after.groups[0].tensors[0].slots == row["kept_after_step"]
        if "score_bytes" in row:
            assert bytes_named(after, "hh_score") == row["score_bytes"]
    for field in ("bytes", "bytes_call"):
        if field in row:
            assert report.total_bytes == row[field]
    if "kv_bytes" in row:
        assert bytes_named(report, "k", "v") == row["kv_bytes"] or bytes_named(sized(row, further=1), "k", "v") == row["kv_bytes"]  # fmt: skip


@pytest.mark.parametrize("row", KIVI, ids=lambda row: f"{row['tokens']}-{row['params']}")
def test_what_kivi_kept(row):
    params = row["params"]
    spec = f"kivi:bits={params['bits']},group_size={params['group']},residual_length={params['residual']}"
    report = kvcalc.size(kvcalc.apply_method(model_of(row), spec), tokens=row["tokens"], kv_dtype="fp16")
    assert report.total_bytes == row["total"]
    names = {"k_codes": "k_code", "k_scales": "k_scale", "k_residual": "k_resid", "v_codes": "v_code", "v_scales": "v_scale", "v_residual": "v_resid"}  # fmt: skip
    assert {measured: bytes_named(report, name) for name, measured in names.items()} == {
        m: row[m] for m in names.values()
    }


def test_kivi_tends_to_5_33_times_less():
    """Facts of the paper's 2 bits and groups of 32: 3 bits an element in place of 16."""
    model = kvcalc.load("llama-2-7b")
    whole, kivi = (kvcalc.size(m, tokens=10**7).total_bytes for m in (model, kvcalc.apply_method(model, "kivi")))
    assert round(whole / kivi, 2) == 5.33


def test_keys_and_values_in_formats_of_their_own():
    model = kvcalc.load("llama3-8b")
    mixed = kvcalc.apply_method(model, "kv-dtype:k_dtype=q8_0,v_dtype=q4_0")
    keys, values = (kvcalc.size(model, tokens=1000, kv_dtype=name).total_bytes // 2 for name in ("q8_0", "q4_0"))
    assert kvcalc.size(mixed, tokens=1000).total_bytes == keys + values
    alone = kvcalc.apply_method(model, "kv-dtype:v_dtype=fp8")
    assert kvcalc.size(alone, tokens=1000).total_bytes == 1000 * 131_072 * 3 // 4
    one_by_one = reduce(kvcalc.apply_method, ("kv-dtype:k_dtype=q8_0", "kv-dtype:v_dtype=q4_0"), model)
    assert kvcalc.size(one_by_one, tokens=1000).total_bytes == keys + values


def test_formats_of_their_own_are_those_of_streaming_heads_and_of_a_prompt_before_it_is_cut():
    """Halves of 16 bits, wherever a method before it left a tensor of keys or values."""
    model = kvcalc.load("llama3-8b")
    for spec in ("duo-attention", "snapkv:max_capacity_prompt=500", "fastgen:heads_per_policy=1+1+2+2+2"):
        before = kvcalc.apply_method(model, spec)
        after = kvcalc.apply_method(before, "kv-dtype:k_dtype=fp8,v_dtype=fp8")
        whole, half = (kvcalc.size(m, tokens=8000) for m in (before, after))
        kv = {t.name: t.bytes for t in whole.groups[0].tensors if not t.name.startswith("score")}
        assert {t.name: 2 * t.bytes for t in half.groups[0].tensors if t.name in kv} == kv
    snapkv = kvcalc.apply_method(model, "snapkv:max_capacity_prompt=500")
    peaks = [
        kvcalc.size(m, tokens=8000).prefill_peak_bytes
        for m in (snapkv, kvcalc.apply_method(snapkv, "kv-dtype:k_dtype=fp8,v_dtype=fp8"))
    ]
    assert peaks == [4096 * (31 * 500 + 8000), 2048 * (31 * 500 + 8000)]


@pytest.mark.parametrize("row", [row for row in COVERED if "during_step" in row], ids=lambda row: str(row["params"]))
def test_what_was_held_inside_of_a_step(row):
    """The new token's slot too, where a method chooses once it is there."""
    changed = kvcalc.apply_method(model_of(row), spec_of(row))
    slot_bytes = sum(tensor.bytes_per_slot(BF16) for tensor in changed.groups[0].tensors)
    assert decode_peak_bytes(Question.of(changed, tokens=row["tokens"])) == row["during_step"] * slot_bytes


def test_streaming_llm_makes_room_before_a_step():
    """`kept_evict_for_1` and the new token are start + recent at most."""
    for row in (row for row in COVERED if "kept_evict_for_1" in row):
        changed = kvcalc.apply_method(model_of(row), spec_of(row))
        slot_bytes = sum(tensor.bytes_per_slot(BF16) for tensor in changed.groups[0].tensors)
        kept = [kept + 1 for kept in row["kept_evict_for_1"]]
        assert decode_peak_bytes(Question.of(changed, tokens=row["tokens"])) == sum(kept) * slot_bytes


def pressed_spec(row: dict) -> str:
    """The method in place of the press, with its ratio, and what else decides how many tokens stay."""
    params = row["params"]
    ratio = params.get("compression_ratio", params.get("snap"))
    further = "".join(f",{name}={params[name]}" for name in ("window_size", "beta") if "beta" in params)
    return f"{PRESSES[row['method']]}:compression_ratio={ratio},prompt_tokens={row['prompt_tokens']}{further}"


def test_what_kvpress_kept_at_its_peak_after_the_prompt_and_at_the_end():
    for row in PRESSED:
        config = row["config"]
        model = kvcalc.load(
            {
                "attention": "gqa",
                "num_layers": config["num_hidden_layers"],
                "num_query_heads": config["num_attention_heads"],
                "num_kv_heads": config["num_key_value_heads"],
                "head_dim": config["head_dim"],
            }
        )
        prompt = row["prompt_tokens"]
        changed = kvcalc.apply_method(model, pressed_spec(row)) if PRESSES[row["method"]] else model
        asked = {"sequences": row["batch"], "kv_dtype": row["dtype"]}
        report = kvcalc.size(changed, tokens=prompt, **asked)
        kept = {layer: group.tensors[0].slots for group in report.groups for layer in group.layers}
        assert [kept[layer] for layer in sorted(kept)] == row["kept_per_layer"], row
        assert report.total_bytes == row["total_bytes"] == row["storage_bytes"], row
        peak = report.total_bytes if report.prefill_peak_bytes is None else report.prefill_peak_bytes
        assert peak == row["peak_cache_bytes_in_prefill"], row
        after = kvcalc.size(changed, tokens=prompt + row["gen_tokens"], **asked)
        assert after.total_bytes == row["after_gen_total_bytes"], row


def test_how_many_rows_are_covered_and_why_others_are_not():
    """Each measured row is reproduced here, in a file that is named, or listed with the reason why not."""
    here = Counter((row["from"], row["method"]) for row in (*COVERED, *PRESSED, *KIVI))
    elsewhere = Counter({rows: number for of_file in ELSEWHERE.values() for rows, number in of_file.items()})
    left_out = Counter({rows: number for rows, (number, _) in NOT_COVERED.items()})
    assert here + elsewhere + left_out == Counter((row["from"], row.get("method")) for row in ROWS)
    covered = Counter()
    for (source, _), number in (here + elsewhere).items():
        covered[source] += number
    assert covered == {"official": 88, "kvpress": 228, "hf_quant": 34}
    assert sum(covered.values()) == 350
    assert all(reason for _, reason in NOT_COVERED.values())


def test_files_that_hold_other_rows_read_them():
    for name, rows in ELSEWHERE.items():
        text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        assert "methods.jsonl.gz" in text
        for source, method in rows:
            assert f'"{method or source}"' in text, f"{name} does not name {method or source}"


# ---- shared by ranks


def test_what_a_method_keeps_is_shared_by_ranks():
    at = lambda preset, spec, tp: kvcalc.size(  # noqa: E731
        kvcalc.apply_method(kvcalc.load(preset), spec), tokens=5000, parallel=kvcalc.Parallel(tp=tp)
    )
    for preset, spec, tp in [
        ("llama-2-7b", "h2o", 4),
        ("llama3-8b", "snapkv:gqa_support=false", 4),
        ("llama3-8b", "kivi", 8),
        ("llama3-8b", "duo-attention", 4),
        ("llama3-8b", "l2-norm:keep_ratio=0.5,skip_layers=0+1", 2),
    ]:
        report = at(preset, spec, tp)
        assert report.rank_bytes_sum == report.total_bytes, spec
        assert report.most_rank_bytes == report.total_bytes // tp, spec
    with pytest.raises(
        kvcalc.InvalidValueError, match=r"num_kv_heads \(4 of them, by the method\) is not a multiple of tp \(8\)"
    ):
        at("llama3-8b", "duo-attention", 8)


# ---- side by side


def test_all_methods_of_a_model_in_one_table():
    model = kvcalc.load("llama-2-7b")
    table = compare_methods(Question.of(model, tokens=32_768, sequences=2), None)
    rows = {row.label: row for row in table.rows}
    assert rows.keys() == {"baseline", *METHODS.names()} - {"gqa", "kv-dtype"}
    for row in table.rows:
        assert row.report.total_bytes <= row.prefill_peak_bytes
        assert row.report.total_bytes <= row.decode_peak_bytes
    slot_bytes, layers = 2 * 32 * 128 * 2, 32
    kept, full = 2 * 2048 * slot_bytes, 2 * 32_768 * slot_bytes
    assert rows["snapkv"].prefill_peak_bytes == (layers - 1) * kept + full
    half = layers * full // 2
    l2 = compare_methods(Question.of(model, tokens=32_768, sequences=2), ["l2-norm:keep_ratio=0.5"]).rows[1]
    assert l2.report.total_bytes == half
    assert l2.prefill_peak_bytes == layers * full + full // 2  # all layers whole, and one layer's copy
    assert rows["h2o"].state == "hh_score"
    heads = {
        "dmc": "head_cr=" + "+".join(["1", "8"] * 16),
        "fastgen": "heads_per_policy=8+8+8+8+0",
        "duo-attention": "",
    }
    states = [
        row.state
        for row in compare_methods(Question.of(model, tokens=9), [f"{n}:{a}" for n, a in heads.items()]).rows[1:]
    ]
    assert [{name.partition("_cr")[0] for name in state.split(", ")} for state in states] == [
        {"window_k", "window_v", "window_weights", "head_alloc", "lens", "block_table"},
        {"score_frequent", "score_local"},
        {""},
    ]
    whole_map = 2 * 32 * 32_768 * 32_768 * (4 + 2)
    assert rows["h2o"].report.score_workspace_bytes == whole_map  # 137 GB of it in float32, for a sequence
    assert rows["snapkv"].report.score_workspace_bytes == 2 * 32 * 32 * 32_768 * (4 + 2)
    assert rows["streaming-llm"].report.score_workspace_bytes == 0
    assert rows["snapkv"].step_copy_bytes == 2 * 2048 * slot_bytes
    assert rows["quanto"].step_copy_bytes == 2 * 32_769 * slot_bytes
    assert {each.label for each in table.left_out} == {"gqa", "kv-dtype"}
    assert table.left_out[0].reason.startswith("it needs a parameter")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--preset r1 --tokens 1000 --methods snapvk", "--methods: no attention or method is called 'snapvk'"),
        ("--preset llama3-8b --tokens 1000 --methods kivi:bits=x", "--methods: bits must be a number, not 'x'"),
        (
            "--preset r1 --tokens 1K --methods all -e transformers",
            "--methods: methods are compared in the ideal engine",
        ),
        ("--preset r1 --tokens 1K --explain", "--explain: --explain needs --methods"),
    ],
)
def test_what_cannot_be_compared(cli, line, message):
    outcome = cli(f"compare {line}")
    assert outcome.code == 2
    assert outcome.stderr.startswith(message)


# ---- what they say of themselves


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_what_it_is(name):
    method = METHODS.module(name)
    assert method.TRAITS.kind in ("architecture", "selection", "merged", "quantised")
    assert method.TRAITS.title
    assert method.TRAITS.source
    assert method.TRAITS.formula
    assert list(method.TRAITS.parameters) == list(parameters(method.apply))
    assert all(method.TRAITS.parameters.values())


# ---- composition


def test_methods_compose_in_their_order():
    model = kvcalc.load("llama3-70b")
    both = kvcalc.apply_method(kvcalc.apply_method(model, "gqa:4"), "snapkv:max_capacity_prompt=1000")
    report = kvcalc.size(both, tokens=50_000)
    assert report.total_bytes == 80 * 2 * 4 * 128 * 1000 * 2
    assert both.name == "llama-3-70b as GQA-4 with SnapKV"


def test_an_engine_that_was_measured_without_methods_says_so():
    model = kvcalc.load("llama3-8b")
    for specs, said in (((), False), (("gqa:4",), False), (("gqa:4", "snapkv"), True), (("int4-grouped",), True)):
        report = kvcalc.size(reduce(kvcalc.apply_method, specs, model), tokens=100, engine="transformers")
        notes = [note for note in report.notes if note.startswith("transformers was measured without methods")]
        assert bool(notes) is said, specs
        names = " and ".join(spec.partition(":")[0] for spec in specs)
        assert all(f"what {names} keeps is counted" in note for note in notes)


def test_chosen_tokens_are_quantised_as_others_are():
    """The codes, scales and residual of KIVI, over the 2,048 tokens that SnapKV kept."""
    model = kvcalc.load("llama3-70b")
    specs = ("gqa:4", "snapkv:max_capacity_prompt=2048", "kivi:bits=2")
    chosen = reduce(kvcalc.apply_method, specs, model)
    alone = reduce(kvcalc.apply_method, ("gqa:4", "kivi:bits=2"), model)
    report, of_2048 = kvcalc.size(chosen, tokens=32_768), kvcalc.size(alone, tokens=2048)
    assert report.total_bytes == of_2048.total_bytes
    whole, kept = 2 * 4 * 128 * 2 * 32_768, of_2048.total_bytes // 80
    assert report.prefill_peak_bytes == 79 * kept + whole


def test_tokens_that_are_quantised_together_are_not_chosen_from():
    """What several tokens were packed into would stay as large as it was; one by one, either order is the same."""
    model = kvcalc.load("llama3-8b")
    for spec in (
        "kivi",
        "kvquant",
        "quanto:q_group_size=128",
        "quanto:prompt_tokens=64",
        "hqq:nbits=3",
        "turboquant:package=true",
    ):
        quantised = kvcalc.apply_method(model, spec)
        for chosen in ("tova", "duo-attention", "dmc"):
            with pytest.raises(kvcalc.NotApplicableError, match="quantised together, such as those of k_") as refused:
                kvcalc.apply_method(quantised, chosen)
            assert "swap the order" in refused.value.help
    for spec in ("per-token-head", "int4-grouped", "turboquant"):
        orders = [reduce(kvcalc.apply_method, order, model) for order in ((spec, "tova"), ("tova", spec))]
        assert kvcalc.size(orders[0], tokens=9000).total_bytes == kvcalc.size(orders[1], tokens=9000).total_bytes
    windows = kvcalc.apply_method(kvcalc.load("gpt-oss-20b"), "per-token-head")
    assert kvcalc.size(kvcalc.apply_method(windows, "tova"), tokens=9000).total_bytes == 12 * 8 * 136 * (128 + 512)


def test_keys_of_an_indexer_stay_whatever_heads_keep():
    """It looks for every token; its one key of 128 is no head, and is not divided as heads are."""
    model = kvcalc.load("minimax-m3")
    whole = {t.name: t.bytes for t in kvcalc.size(model, tokens=5000).groups[1].tensors}
    for spec in ("tova", "duo-attention", "dmc", "fastgen", "ada-kv:base_capacity=100,prompt_tokens=5000"):
        group = kvcalc.size(kvcalc.apply_method(model, spec), tokens=5000).groups[1]
        index = {tensor.name: tensor.bytes for tensor in group.tensors if tensor.name.startswith("index")}
        assert index == {"index_k": group.num_layers * 5000 * 128 * 2} == {"index_k": whole["index_k"]}, spec


def test_windows_and_states_stay_as_they_are():
    model = kvcalc.load("gpt-oss-20b")
    changed = kvcalc.apply_method(model, "streaming-llm:start_size=4,recent_size=60")
    before, after = (kvcalc.size(m, tokens=10_000).groups for m in (model, changed))
    assert before[0].bytes == after[0].bytes
    assert after[1].bytes == 12 * 2 * 8 * 64 * 64 * 2


def test_a_prompt_that_ended_lets_every_later_token_stay():
    model = kvcalc.load("llama3-8b")
    at = lambda spec, tokens: kvcalc.size(kvcalc.apply_method(model, spec), tokens=tokens)  # noqa: E731
    assert at("snapkv:prompt_tokens=8000", 8000).total_bytes == 2048 * 131_072
    assert at("snapkv:prompt_tokens=8000", 8100).total_bytes == 2148 * 131_072
    assert at("snapkv:prompt_tokens=8000", 8100).bytes_per_token == 131_072
    assert at("l2-norm:keep_ratio=0.5,prompt_tokens=1000", 1100).total_bytes == 1100 * 131_072  # too short to be cut
    assert at("l2-norm:keep_ratio=0.5,prompt_tokens=4001", 4001).total_bytes == 2001 * 131_072


def test_cross_layer_attention_keeps_every_second_layer():
    model = kvcalc.load("llama3-8b")
    whole = kvcalc.size(model, tokens=1000).total_bytes
    assert kvcalc.size(kvcalc.apply_method(model, "cla"), tokens=1000).total_bytes == whole // 2
    assert kvcalc.size(kvcalc.apply_method(model, "cla:sharing_factor=3"), tokens=1000).total_bytes == whole * 11 // 32
    assert kvcalc.size(kvcalc.apply_method(model, "cla:sharing_factor=1"), tokens=1000).total_bytes == whole


def test_a_ratio_is_taken_as_it_is_written():
    model = kvcalc.apply_method(kvcalc.load("llama3-8b"), "l2-norm:keep_ratio=0.9,prune_after=1")
    rules = {tensor.slot_rule for group in model.groups for tensor in group.tensors}
    assert rules == {share_of_prompt(9, 10, 1)}
    assert EVERY_TOKEN not in rules


# ---- what they refuse


@pytest.mark.parametrize(
    ("line", "message", "help"),
    [
        ("h2o", "H2O drops tokens of each query head, but llama-3-70b has 8 KV heads for 64 query heads", "--attention mha"),
        ("snapkv:windw=3", "no parameter of snapkv is called 'windw'", "did you mean 'window_size'?"),
        ("snapkv:window_size", "snapkv takes parameter=value, not 'window_size'", "known: max_capacity_prompt, window_size"),
        ("snapkv:window_size=3.5", "window_size must be a number, not '3.5'", "write window_size=32"),
        ("snapkv:window_size=-1", "window_size must be a number, not '-1'", "write window_size=32"),
        ("snapkv:window_size=0", "window_size must be at least 1, not 0", ""),
        ("snapkv:gqa_support=maybe", "gqa_support must be true or false, not 'maybe'", "write gqa_support=true"),
        ("snapkv:window_size=2048", "window_size (2,048) is not smaller than max_capacity_prompt (2,048)", "above 2,048"),
        ("l2-norm:keep_ratio=1.5", "keep_ratio must be above 0 and at most 1, not", "write 0.5"),
        ("l2-norm:keep_ratio=0", "keep_ratio must be above 0 and at most 1, not", "write 0.5"),
        ("l2-norm:skip_layers=80", "skip_layers names layer 80, but llama-3-70b has layers 0 to 79", "skip_layers=0+1"),
        ("l2-norm:skip_layers=a", "skip_layers must be whole numbers, written 0+1, not 'a'", "write skip_layers=0+1"),
        ("duo-attention:retrieval_heads=9", "layer 0 has 8 KV heads, but retrieval_heads is 9", "from 0 to 8"),
        ("duo-attention:retrieval_heads=1+2", "retrieval_heads has 2 numbers, but llama-3-70b has 80 layers", "one per layer"),
        ("kivi:bits=3", "bits must be 2 or 4, not 3", "write bits=4"),
        ("kivi:v_bits=8", "v_bits must be 2 or 4, not 8", "write v_bits=4"),
        ("kivi:residual_length=100", "residual_length (100) is not a multiple of group_size (32)", "residual_length=128"),
        ("kivi:group_size=48,residual_length=96", "KIVI: head_dim (128) is not a multiple of group_size (48)", "group_size=32"),
        ("kivi:group_size=4,residual_length=8", "residual_length (8) is not a multiple of 16, the codes of an int32 word", "use 16"),
        ("l2-norm:prompt_tokens=0", "prompt_tokens must be at least 1, not 0", ""),
        ("mqa:x=3", "mqa takes no parameter, not 'x=3'", "write mqa without a parameter"),
        ("kv-dtype", "kv-dtype needs a format for keys or values", "k_dtype=q8_0"),
        ("kv-dtype:k_dtype=int3", "no dtype is called 'int3'", ""),
        ("snapkv:compression_ratio=0.5,prompt_tokens=32", "window_size (32) is not smaller than the prompt (32)", "window_size=16"),
        ("ada-kv:compression_ratio=0.5,prompt_tokens=8", "window_size (32) is not smaller than the prompt (8)", "longer prompt"),
        ("pyramidkv:compression_ratio=0.5,prompt_tokens=1", "window_size (8) is not smaller than the prompt (1)", "use a longer prompt"),
        ("pyramidkv:beta=0", "beta must be at least 1, not 0", ""),
        ("pyramidkv:compression_ratio=0.5", "compression_ratio is a share of the prompt, whose length is unknown", "prompt_tokens=8000"),
        ("h2o-flexgen", "H2O in FlexGen drops tokens of each query head, but llama-3-70b has 8 KV heads", "--attention mha"),
        ("vatp:heavy_ratio=0", "heavy_ratio must be above 0 and at most 1, not 0", "write 0.5"),
        ("vatp:recent_ratio=1.5", "recent_ratio must be above 0 and at most 1, not", "write 0.5"),
        ("h2o-mask-only:x=1", "h2o-mask-only takes no parameter, not 'x=1'", "write h2o-mask-only without a parameter"),
        ("snapkey", "no attention or method is called 'snapkey'", "did you mean 'snapkv'?"),
        ("tova:cache_size=" + "9" * 5000, "cache_size must be a number", "write cache_size=512"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(cli, line, message, help):
    outcome = cli(f"size --preset llama3-70b --tokens 1000 --method {line}")
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith(f"--method: {message}")
    assert help in outcome.stderr


@pytest.mark.parametrize(
    ("preset", "method", "message"),
    [
        (
            "r1",
            "snapkv",
            "SnapKV needs keys and values of heads, but all layers of deepseek-r1 are MLA",
        ),
        ("mamba-2.8b", "snapkv", "SnapKV has nothing to select from in mamba-2.8b: no layer keeps every token (Mamba)"),
        (
            "r1",
            "duo-attention",
            "DuoAttention needs keys and values of heads, but all layers of deepseek-r1 are MLA 512+64",
        ),
        ("gpt-oss-20b", "cla", "CLA shares one kind of cache among all layers, but gpt-oss-20b has GQA-8"),
        ("falcon-h1-7b", "cla", "CLA shares one kind of cache among all layers, but falcon-h1-7b has GQA-2 + Mamba-2"),
        (
            "r1",
            "kivi",
            "KIVI has nothing to quantise in deepseek-r1: no layer keeps unmodified keys and values of heads of every token",
        ),
        (
            "mamba-2.8b",
            "kivi",
            "KIVI has nothing to quantise in mamba-2.8b: no layer keeps unmodified keys and values of heads of every token",
        ),
        (
            "r1",
            "kv-dtype:k_dtype=fp8",
            "K in fp8 has nothing to quantise in deepseek-r1: no layer keeps unmodified keys and values of heads "
            "(MLA 512+64)",
        ),
        ("mamba-2.8b", "duo-attention", "DuoAttention has nothing to select from in mamba-2.8b"),
    ],
)
def test_models_that_a_method_cannot_be_used_on(cli, preset, method, message):
    outcome = cli(f"size --preset {preset} --tokens 1000 --method {method}")
    assert outcome.code == 2
    assert outcome.stderr.startswith(f"--method: {message}")
