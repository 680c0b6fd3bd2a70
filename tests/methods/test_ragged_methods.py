"""Methods whose heads keep different numbers of tokens: measured rows, what they refuse, and which tokens they keep.

What a policy keeps is worked out again by plain loops, from the definitions of the papers, in float64.
"""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
import torch
from policy_runs import GQA, MHA, PROMPT, Seen, changed, policies_of

import kvcalc
from kvcalc.cache.dtypes import BF16
from kvcalc.cache.slots.methods import chosen_share
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.verify.policies.ada_kv import head_counts, votes
from kvcalc.verify.policies.fastgen import profiled

MEASURED = Path(__file__).parents[1] / "data/methods.jsonl.gz"
ROWS = [json.loads(line) for line in gzip.decompress(MEASURED.read_bytes()).splitlines()]
ADA_KV = [row for row in ROWS if row["from"] == "official" and row["method"] == "Ada-KV"]
PRESSED = [
    row
    for row in ROWS
    if row["from"] == "kvpress"
    and row["method"] in ("AdaKV+SnapKV", "CriticalAdaKV+Snap", "DuoAttention", "DMS(dense prefill)+Knorm")
]
(DMC,) = [row for row in ROWS if row["from"] == "official" and row["method"] == "DMC"]
PYRAMID_LAYERS = 4
STEPS = 40


def model_of(num_layers: int, query_heads: int, kv_heads: int, head_dim: int) -> kvcalc.Model:
    return kvcalc.load(
        {
            "name": "measured",
            "attention": "gqa",
            "num_layers": num_layers,
            "num_query_heads": query_heads,
            "num_kv_heads": kv_heads,
            "head_dim": head_dim,
        }
    )


def bytes_named(report: kvcalc.Report, *names: str) -> int:
    return sum(tensor.bytes for group in report.groups for tensor in group.tensors if tensor.name in names)


@pytest.mark.parametrize(
    "spec",
    [
        "fastgen:heads_per_policy=4+4+8+8+8",
        "dmc",
        "dmc:dmc_cr=2.5,dmc_paged_block_size=16",
        "dms",
        "dms:head_cr=" + "+".join(["2"] * 16 + ["8"] * 16),
    ],
)
def test_how_many_tokens_fit_is_exact(spec):
    model = kvcalc.apply_method(kvcalc.load("llama-2-7b"), spec)
    footprint = Footprint.of(model, Engine.of("ideal"), BF16)
    for budget in (5 * 10**8, 3 * 10**9 + 1, 10**11):
        tokens = footprint.max_tokens(budget)
        if tokens:
            assert footprint.bytes(tokens) <= budget < footprint.bytes(tokens + 1)
        else:
            assert budget < footprint.bytes(1)


# ---- what was measured


def layer_base(row: dict, layer: int) -> int:
    """Tokens beside the window that a layer has for each head, by the authors' arithmetic."""
    params, tokens = row["params"], row["tokens"]
    mean = params["base_capacity"] - params["window"]
    if not params["pyramid"]:
        return mean
    low = mean // 20
    high = 2 * mean - low
    if high >= tokens - params["window"]:
        high = tokens - params["window"]
        low = 2 * mean - high
    return high - layer * ((high - low) // (PYRAMID_LAYERS - 1))


def counts_behind(row: dict) -> list[int]:
    """How many of the layer's best tokens each head had: those that are rounded to its length and add up."""
    params, alpha = row["params"], row["params"]["floor_alpha"]
    base, most = layer_base(row, params["layer"]), row["tokens"] - params["window"]
    fitting = [
        [c for c in range(most + 1) if round(c * (1 - alpha) + int(base * alpha)) == length - params["window"]]
        for length in row["head_lens"]
    ]
    counts = [least for least, *_ in fitting]
    missing = len(counts) * base - sum(counts)
    for head, choices in enumerate(fitting):
        more = max(0, min(missing, len(choices) - 1))
        counts[head] += more
        missing -= more
    assert missing == 0, "the lengths are no division of the layer's budget"
    return counts


@pytest.mark.parametrize("row", ADA_KV, ids=lambda row: f"{row['tokens']}-{row['params']}")
def test_what_ada_kv_kept(row):
    params, tokens = row["params"], row["tokens"]
    num_layers = PYRAMID_LAYERS if params["pyramid"] else 1
    heads, most = len(row["head_lens"]), tokens - params["window"]
    layers = [[min(layer_base(row, layer), most)] * heads for layer in range(num_layers)]
    whole = layer_base(row, params["layer"]) > most
    if whole:
        assert row["head_lens"] == [tokens] * heads
    else:
        layers[params["layer"]] = counts_behind(row)
    spec = f"ada-kv:base_capacity={params['base_capacity']},window_size={params['window']},prompt_tokens={tokens}"
    spec += f",floor_alpha={params['floor_alpha']},pyramid={params['pyramid']},gqa_support={params['gqa_support']}"
    spec += f",head_counts={'+'.join(str(count) for layer in layers for count in layer)}"
    model = kvcalc.apply_method(model_of(num_layers, row["heads"], row["kv_heads"], row["head_dim"]), spec)
    report = kvcalc.size(model, tokens=tokens, kv_dtype="fp32")
    (group,) = [group for group in report.groups if params["layer"] in group.layers]
    keys = [tensor for tensor in group.tensors if tensor.name.partition("_")[0] == "k"]
    lengths = sorted(tensor.slots for tensor in keys for _ in range(tensor.dims[0][1]))
    assert lengths == sorted(row["head_lens"])
    assert sum(lengths) == row["sum_lens"]
    held = {tensor.name: tensor.bytes // len(group.layers) for tensor in group.tensors}
    metadata = held.pop("metadata") + held.pop("metadata_ends")
    assert metadata == row["metadata_int32_bytes"]
    assert sum(held.values()) == row["kv_bytes"]


def test_counts_that_are_no_division_of_the_budget_are_noticed():
    row = next(row for row in ADA_KV if row["sum_lens"] == 510)
    with pytest.raises(AssertionError, match="no division"):
        counts_behind({**row, "head_lens": [length + 2 for length in row["head_lens"]]})


def test_lengths_are_rounded_as_the_authors_code_rounds_them():
    """torch.round of float32, half to even, against plain numbers."""
    tokens, heads = 3000, 2
    for alpha in (0.2, 0.5):
        for count in range(0, 1984, 31):
            spec = f"ada-kv:floor_alpha={alpha},prompt_tokens={tokens},head_counts={count}+{1984 - count}"
            report = kvcalc.size(kvcalc.apply_method(model_of(1, 2, heads, 4), spec), tokens=tokens)
            lengths = torch.round(torch.tensor([count, 1984 - count]) * (1 - alpha) + int(992 * alpha)).int() + 32
            assert sum(t.slots * t.dims[0][1] for t in report.groups[0].tensors if t.name[0] == "k") == lengths.sum()


def spec_of_press(row: dict) -> str:
    params, prompt = row["params"], row["prompt_tokens"]
    if row["method"] == "DuoAttention":
        retrieval = [layer.count(0) for layer in row["extra"]["streaming_mask"]]
        words = f"retrieval_heads={'+'.join(map(str, retrieval))},sink_size={params['sink_size']}"
        return f"duo-attention:{words},recent_size={params['recent_size']},mask_only=true,prompt_tokens={prompt}"
    if row["method"].startswith("DMS"):
        return f"dms:dms_window_size={params['sliding_window_size']},mask_only=true"
    alpha = params.get("alpha_safeguard", 0.2)
    return f"ada-kv:compression_ratio={params['compression_ratio']},floor_alpha={alpha},prompt_tokens={prompt}"


@pytest.mark.parametrize("row", PRESSED, ids=lambda row: f"{row['method']}-{row['config']['name']}-{row['params']}")
def test_what_kvpress_only_masks(row):
    config, prompt = row["config"], row["prompt_tokens"]
    heads = (config["num_attention_heads"], config["num_key_value_heads"])
    model = model_of(config["num_hidden_layers"], *heads, config["head_dim"])
    changed = kvcalc.apply_method(model, spec_of_press(row))
    rows = ("k", "v", "k_streaming", "v_streaming")
    asked = {"sequences": row["batch"], "kv_dtype": row["dtype"]}
    report = kvcalc.size(changed, tokens=prompt, **asked)
    assert bytes_named(report, *rows) == row["total_bytes"] == row["storage_bytes"]
    assert row["peak_cache_bytes_in_prefill"] == row["total_bytes"]
    assert "in this form only masks tokens and keeps all of them: it saves no memory" in changed.notes[-1]
    kept = {layer: group.tensors[0].slots for group in report.groups for layer in group.layers}
    assert [kept[layer] for layer in sorted(kept)] == row["kept_per_layer"]
    after = kvcalc.size(changed, tokens=prompt + row["gen_tokens"], **asked)
    assert bytes_named(after, *rows) == row["after_gen_total_bytes"]
    if not row["method"].startswith("DMS"):  # a threshold decides how many
        masked = {
            layer: sum(t.bytes for t in group.tensors if t.name.startswith("masked_indices")) // len(group.layers) // 24
            for group in report.groups
            for layer in group.layers
        }
        assert [masked[layer] for layer in sorted(masked)] == row["masked_per_layer"]


def test_what_dmc_held():
    """One token in each head, and what its release takes before it."""
    params = DMC["params"]
    model = model_of(params["layers"], params["kv_heads"], params["kv_heads"], params["head_dim"])
    spec = f"dmc:dmc_window_size={params['window']},dmc_paged_block_size={params['block']},max_len={params['max_len']}"
    report = kvcalc.size(kvcalc.apply_method(model, spec), tokens=1, sequences=params["batch"])
    block_bytes = params["block"] * params["head_dim"] * 2 * 2
    assert block_bytes == DMC["bytes_per_block"]
    assert bytes_named(report, "k", "v") == DMC["used_blocks_at_start"] * DMC["bytes_per_block"]
    assert bytes_named(report, "block_table") == DMC["block_table_bytes"]
    assert bytes_named(report, "head_alloc") == DMC["head_alloc_bytes"]
    window = bytes_named(report, "window_k", "window_v", "window_weights", "lens")
    assert window == params["layers"] * DMC["window_state_bytes_per_layer"]
    # the pool of the release, which it takes whatever is in it
    blocks = int(params["pool_gib"] * 2**30 / block_bytes)
    assert (blocks, blocks * block_bytes) == (DMC["blocks"], DMC["pool_bytes"])


def test_a_block_in_each_head_is_the_floor_of_dmc():
    """Facts of its README: Llama-2-7B takes 128 MiB a sequence before it has anything to say, as 256 tokens do."""
    model = kvcalc.load("llama-2-7b")
    report = kvcalc.size(kvcalc.apply_method(model, "dmc"), tokens=1)
    assert bytes_named(report, "k", "v") == 128 * 2**20 == kvcalc.size(model, tokens=256).total_bytes


def test_dms_has_room_for_what_it_was_told_from_the_start():
    model = kvcalc.load("llama-2-7b")
    at = lambda tokens: bytes_named(kvcalc.size(kvcalc.apply_method(model, "dms"), tokens=tokens), "k", "v")  # noqa: E731
    token_bytes = kvcalc.size(model, tokens=1).total_bytes
    assert at(1) == at(29_175) == 4096 * token_bytes
    assert 512 + ceil((29_177 - 512) / 8) + 1 == 4097
    assert at(29_177) == (4096 + 256) * token_bytes


def test_heads_are_shared_by_ranks():
    for preset, spec, tp in [
        ("llama3-8b", "ada-kv", 8),
        ("llama-2-7b", "fastgen:heads_per_policy=4+4+8+8+8", 4),
        ("llama3-8b", "dmc:head_cr=2+2+2+2+8+8+8+8", 4),
        ("llama3-8b", "dms", 8),
        ("llama3-8b", "duo-attention:mask_only=true", 4),
    ]:
        model = kvcalc.apply_method(kvcalc.load(preset), spec)
        report = kvcalc.size(model, tokens=50_000, parallel=kvcalc.Parallel(tp=tp))
        ends = bytes_named(report, "metadata_ends")  # which each rank has, for heads of its own
        assert report.rank_bytes_sum == report.total_bytes + (tp - 1) * ends, spec


# ---- which tokens


def attention(seen: Seen, position: int, head: int, kept: list[int], *, sequence: int = 0) -> torch.Tensor:
    """What the queries at a position that share a KV head give each of the kept tokens: (G, kept)."""
    group = seen.query.shape[1] // seen.key.shape[1]
    queries = seen.query[sequence, head * group : (head + 1) * group, position]
    scores = queries @ seen.key[sequence, head, kept].T / seen.query.shape[-1] ** 0.5
    return scores.softmax(dim=-1)


def output(seen: Seen, position: int, kept_by_head: list[list[int]], *, sequence: int = 0) -> torch.Tensor:
    """What all queries at a position read of the tokens that their KV head kept, (H, D)."""
    return torch.cat(
        [
            attention(seen, position, head, kept, sequence=sequence) @ seen.value[sequence, head, kept]
            for head, kept in enumerate(kept_by_head)
        ]
    )


def run(spec: str, name: str, layer: int = 0, *, sequences: int = 2):
    """The policy of a layer after a prompt of random tokens, and all tokens that it will see."""
    facts = {"mha": MHA, "gqa": GQA}[name]
    seen = Seen(*(rows[:sequences] for rows in Seen.random(facts, PROMPT + STEPS, dtype=torch.float64)))
    policy = policies_of(changed(spec, name))[layer]
    policy.prefill(*seen.between(0, PROMPT))
    return policy, seen


def positions(policy) -> dict[int, list[int]]:
    """Positions that each KV head holds, of the first sequence."""
    return {
        head: part.policy.positions[0, index].tolist() for part in policy.parts for index, head in enumerate(part.heads)
    }


def step(policy, seen: Seen, position: int) -> torch.Tensor:
    return policy.step(*seen.between(position, position + 1))[0, :, 0]


def close_numbers(some: list[float], others: list[float]) -> bool:
    return len(some) == len(others) and close(
        *(torch.tensor(numbers, dtype=torch.float64) for numbers in (some, others))
    )


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_duo_attention_keeps_sinks_and_the_newest_in_streaming_heads(layer):
    policy, seen = run("duo-attention:retrieval_heads=0+1+2,sink_size=4,recent_size=20", "gqa", layer)
    for position in range(PROMPT, PROMPT + STEPS):
        everything = [*range(position + 1)]
        ends = everything[:4] + everything[-20:]
        kept = [everything if head < layer else ends for head in range(2)]
        assert close(step(policy, seen, position), output(seen, position, kept))
        assert positions(policy) == dict(enumerate(kept))


def test_masked_streaming_heads_read_sinks_the_newest_of_the_prompt_and_all_after_it():
    policy, seen = run("duo-attention:retrieval_heads=1,sink_size=4,recent_size=20,mask_only=true", "gqa")
    for position in range(PROMPT, PROMPT + 5):
        everything = [*range(position + 1)]
        read = [*range(4), *range(PROMPT - 20, position + 1)]
        assert close(step(policy, seen, position), output(seen, position, [everything, read]))
        assert set(map(tuple, positions(policy).values())) == {tuple(everything)}
    assert policy.held["masked_indices_streaming"].T.tolist() == [
        [sequence, 0, token] for sequence in range(2) for token in range(4, PROMPT - 20)
    ]


def slow_votes(seen: Seen, window: int, heads: int) -> list[list[float]]:
    """The mean attention of the last window to each token before it, the highest of seven neighbours."""
    before = range(PROMPT - window)
    mean = [
        [
            sum(attention(seen, q, h, [*range(q + 1)])[:, p].mean().item() for q in range(PROMPT - window, PROMPT))
            / window
            for p in before
        ]
        for h in range(heads)
    ]
    return [[max(own[max(0, p - 3) : p + 4]) for p in before] for own in mean]


@pytest.mark.parametrize("name", ["mha", "gqa"])
def test_ada_kv_divides_by_the_best_of_all_heads_and_keeps_the_best_of_each(name):
    window, capacity = 8, 24
    facts = {"mha": MHA, "gqa": GQA}[name]
    heads = facts["num_kv_heads"]
    seen = Seen(*(rows[:1, :, :PROMPT] for rows in Seen.random(facts, PROMPT + STEPS, dtype=torch.float64)))
    slow = slow_votes(seen, window, heads)
    base = capacity - window
    all_heads = sorted(((vote, h, p) for h, own in enumerate(slow) for p, vote in enumerate(own)), reverse=True)
    counts = [sum(h == head for _, h, _ in all_heads[: heads * base]) for head in range(heads)]
    assert len(set(counts)) > 1, "an even split would prove nothing"
    assert head_counts(votes(seen.query, seen.key, window), base) == counts
    words = "+".join(map(str, counts))
    spec = f"ada-kv:base_capacity={capacity},window_size={window},prompt_tokens={PROMPT},head_counts={words}"
    policy, seen = run(spec, name, sequences=1)
    kept = [own for _, own in sorted(positions(policy).items())]
    for own, count, held in zip(slow, counts, kept, strict=True):
        number = round(count * 0.8 + int(base * 0.2))
        assert held[number:] == [*range(PROMPT - window, PROMPT)]
        assert close_numbers(sorted(own[p] for p in held[:number]), sorted(own)[-number:])  # neighbours may be equal
    for position in range(PROMPT, PROMPT + 3):
        kept = [[*own, position] for own in kept]
        assert close(step(policy, seen, position), output(seen, position, kept))
    own, ends = (policy.held[part][0].tolist() for part in ("metadata", "metadata_ends"))
    assert own[0] == [len(positions) for positions in kept]
    assert ends == [sum(own[0]), heads, heads]


def test_ada_kv_of_kvpress_masks_the_worst_of_all_heads_but_none_that_a_head_has_for_certain():
    policy, seen = run(f"ada-kv:compression_ratio=0.6,window_size=8,floor_alpha=0.5,prompt_tokens={PROMPT}", "gqa")
    own_window = [float("inf")] * 8
    scores = [own + own_window for own in slow_votes(seen, 8, 2)]
    kept = int(PROMPT * (1 - 0.6))
    candidates = []
    for head, own in enumerate(scores):
        order = sorted(range(PROMPT), key=own.__getitem__, reverse=True)
        candidates += [(own[p], head, p) for p in order[int(kept * 0.5) :]]
    worst = sorted(candidates)[: 2 * (PROMPT - kept)]
    masked = {(head, p) for sequence, head, p in policy.held["masked_indices"].T.tolist() if sequence == 0}
    for head, own in enumerate(scores):
        masked_votes = sorted(own[p] for p in range(PROMPT) if (head, p) in masked)
        assert close_numbers(masked_votes, [vote for vote, of_head, _ in worst if of_head == head])
    read = [[p for p in range(PROMPT + 1) if (head, p) not in masked] for head in range(2)]
    assert close(step(policy, seen, PROMPT), output(seen, PROMPT, read))


class SlowFastGen:
    """One KV head of the first sequence: a list of positions, and what each has received."""

    def __init__(self, seen: Seen, head: int, level: int) -> None:
        self.seen, self.head, self.level = seen, head, level
        self.kept = [*range(PROMPT)]
        self.received = dict.fromkeys(self.kept, 0.0)
        for query in range(PROMPT):
            self.attend(query, [*range(query + 1)])
        self.choose(PROMPT)

    def attend(self, query: int, kept: list[int]) -> None:
        for position, weight in zip(
            kept, attention(self.seen, query, self.head, kept).mean(dim=0).tolist(), strict=True
        ):
            self.received[position] += weight

    def share(self, level: int, tokens: int) -> int:
        return min(tokens, 3 + ceil(Fraction((0, 1, 4, 7)[level], 10) * tokens))

    def choose(self, tokens: int) -> None:
        certain_level = min(self.level, 1)
        certain = [p for p in self.kept if self.share(certain_level, p + 1) > self.share(certain_level, p)]
        others = [p for p in self.kept if p not in certain]
        newest = self.share(3, tokens) - self.share(2, tokens) if self.level == 3 else 0
        local = others[len(others) - newest :]
        rest = sorted((p for p in others if p not in local), key=lambda p: self.received[p], reverse=True)
        frequent = rest[: self.share(self.level, tokens) - len(certain) - len(local)]
        self.kept = sorted([*certain, *local, *frequent])

    def step(self, position: int) -> list[int]:
        self.kept.append(position)
        self.received[position] = 0.0
        attended = [*self.kept]
        self.attend(position, attended)
        self.choose(position + 1)
        return attended


@pytest.mark.parametrize(
    ("name", "heads_per_policy", "levels"),
    [("mha", "1+1+1+1+0", [0, 1, 2, 3]), ("gqa", "0+0+1+1+0", [2, 3]), ("mha", "0+1+0+2+1", [1, 3, 3, None])],
)
def test_fastgen_keeps_special_punctuation_frequent_and_local(name, heads_per_policy, levels):
    policy, seen = run(f"fastgen:heads_per_policy={heads_per_policy},special_tokens=3", name)
    slow = {head: SlowFastGen(seen, head, level) for head, level in enumerate(levels) if level is not None}
    for position in range(PROMPT, PROMPT + STEPS):
        attended = {head: own.step(position) for head, own in slow.items()}
        read = [attended.get(head, [*range(position + 1)]) for head in range(len(levels))]
        assert close(step(policy, seen, position), output(seen, position, read))
        kept = positions(policy)
        assert {head: kept[head] for head in slow} == {head: own.kept for head, own in slow.items()}
    names = ("special", "punctuation", "frequent", "local")
    for own in slow.values():
        assert policy.held[f"k_{names[own.level]}"].shape[-2] == len(own.kept)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7, 0.85, 1])
def test_fastgen_gives_a_head_the_smallest_policy_that_recovers_enough(threshold):
    model = changed("fastgen:special_tokens=3", "mha")
    seen = Seen(*(rows[:1, :, :PROMPT] for rows in Seen.random(MHA, PROMPT, dtype=torch.float64)))
    wanted = []
    for head in range(4):
        mass = SlowFastGen(seen, head, 0).received
        kept = [SlowFastGen(seen, head, level).kept for level in range(4)]
        enough = [level for level in range(4) if sum(mass[p] for p in kept[level]) >= threshold * PROMPT]
        wanted.append(min(enough, default=4))
    place = policies_of(model)[0].place
    assert profiled(seen.query, seen.key, place, model.methods[-1].arguments, threshold) == [wanted]


def test_the_union_of_fastgens_paper_is_never_larger():
    """Special tokens, punctuation, the best 0.3 t of the others and the newest 0.3 t, which may be among those."""
    for tokens in range(1, 400):
        special, punctuation = range(4), range(4, tokens, 10)
        others = [p for p in range(tokens) if p not in special and p not in punctuation]
        apart = {*others[: ceil(0.3 * tokens)], *range(tokens - int(0.3 * tokens), tokens)}
        union = {p for p in (*special, *punctuation) if p < tokens} | apart
        assert len(union) <= chosen_share(7, 10, 4).slots(tokens)


@pytest.mark.parametrize(("name", "ratio", "window"), [("mha", 4, 12), ("gqa", 4, 12), ("gqa", 8, 3)])
def test_dmc_merges_by_weighted_means(name, ratio, window):
    """k = (z k + w k') / (z + w), z = z + w, one token after another; a window goes back no further than it is long."""
    policy, seen = run(f"dmc:dmc_cr={ratio},dmc_window_size={window},dmc_paged_block_size=8", name)
    heads = seen.key.shape[1]
    group = seen.query.shape[1] // heads
    spent = [rows.clone() for rows in (seen.query, seen.key)]
    for rows in spent:
        rows[..., 0] = 0
    query, key = spent
    slots = [[] for _ in range(heads)]  # of each head, keys and values of its slots so far
    entries = [[] for _ in range(heads)]  # weights, keys and values that are merged into its last slot
    for position in range(PROMPT + STEPS):
        for head in range(heads):
            weight = seen.query[0, head * group : (head + 1) * group, position, 0].mean().sigmoid()
            if position % ratio == 0:
                slots[head].append(None)
                entries[head] = []
            entries[head].append((weight, key[0, head, position], seen.value[0, head, position]))
            z, k, v = 0.0, 0.0, 0.0
            for weight, one_key, one_value in entries[head][-window:]:
                k, v, z = (
                    (z * k + weight * one_key) / (z + weight),
                    (z * v + weight * one_value) / (z + weight),
                    z + weight,
                )
            slots[head][-1] = (k, v)
        if position < PROMPT:
            continue
        got = step(policy, seen, position)
        for head in range(heads):
            keys, values = map(torch.stack, zip(*slots[head], strict=True))
            queries = query[0, head * group : (head + 1) * group, position]
            read = (queries @ keys.T / key.shape[-1] ** 0.5).softmax(dim=-1) @ values
            assert close(got[head * group : (head + 1) * group], read)
            held = policy.parts[0].policy.blocks.read(len(keys))
            assert close(held[0][0, head], keys)
            assert close(held[1][0, head], values)


def test_blocks_of_dmc_belong_to_one_head_each():
    policy, _ = run("dmc:dmc_cr=2,dmc_paged_block_size=8", "gqa")
    table = policy.held["block_table"]
    used = table[table >= 0].tolist()
    assert sorted(used) == [*range(len(policy.held["k"]))]
    assert policy.held["head_alloc"].unique().tolist() == [len(used) // table[..., 0].numel() * 8]


@pytest.mark.parametrize(("name", "ratio", "window"), [("mha", 4, 20), ("gqa", 8, 30)])
def test_dms_drops_what_leaves_the_window_and_uses_its_slot_again(name, ratio, window):
    spec = f"dms:dms_cr={ratio},dms_window_size={window},dms_paged_attention_block_size=8,dms_preallocate_for_tokens=1"
    policy, seen = run(spec, name)
    heads = seen.key.shape[1]
    blocks = policy.parts[0].policy.blocks
    for position in range(PROMPT, PROMPT + STEPS):
        got = step(policy, seen, position)
        kept = [p for p in range(position + 1) if p > position - window or p % ratio == 0]
        assert close(got, output(seen, position, [kept] * heads))
        rows = blocks.read(len(kept))[0][0]
        for head in range(heads):
            assert sorted(rows[head, :, 0].tolist()) == sorted(seen.key[0, head, kept, 0].tolist())


def test_masked_heads_of_dms_read_what_dms_would_keep():
    policy, seen = run("dms:dms_cr=4,dms_window_size=20,mask_only=true", "gqa")
    for position in range(PROMPT, PROMPT + 5):
        kept = [p for p in range(position + 1) if p > position - 20 or p % 4 == 0]
        assert close(step(policy, seen, position), output(seen, position, [kept] * 2))
    assert policy.held["k"].shape[-2] == PROMPT + 5


# ---- what they refuse


@pytest.mark.parametrize(
    ("line", "message", "help"),
    [
        ("ada-kv:window_size=1024", "window_size (1,024) is not smaller than base_capacity (1,024)", "above 1,024"),
        ("ada-kv:floor_alpha=1.5", "floor_alpha must be at least 0 and at most 1, not 1.5", "write 0.2"),
        ("ada-kv:pyramid=true", "pyramid and head_counts depend on the prompt, whose length is unknown", "prompt_tokens=8000"),
        ("ada-kv:compression_ratio=0.5", "compression_ratio is a share of the prompt, whose length is unknown", "prompt_tokens"),
        ("ada-kv:head_counts=3+4,prompt_tokens=9000", "head_counts has 2 numbers, but a layer has 8 heads", "8 numbers"),
        (
            f"ada-kv:head_counts={'+'.join(['990'] * 8)},prompt_tokens=9000",
            "head_counts of layer 0 have 7,920 tokens with 990 in one head, but its budget is 7,936 with at most 8,968 in one",
            "992 per head",
        ),
        ("fastgen:heads_per_policy=1+2", "heads_per_policy has 2 numbers, 3 heads in total, but layer 0 has 8 KV", "+8"),
        ("fastgen:heads_per_policy=1+1+1+1+1", "heads_per_policy has 5 numbers, 5 heads in total", "full: write"),
        ("fastgen:local_ratio=0.7", "the ratios add up to 1.1", "write 0.3"),
        ("fastgen:local_ratio=1.7", "local_ratio must be from 0 to 1 with at most two decimals, not 1.7", "write 0.3"),
        ("fastgen:frequent_ratio=0.333", "frequent_ratio must be from 0 to 1 with at most two decimals, not 0.333", "0.3"),
        ("fastgen:special_tokens=0", "special_tokens must be at least 1, not 0", ""),
        ("dmc:dmc_cr=0.5", "dmc_cr must be from 1 to 64 in quarters, not 0.5", "dmc_cr=4"),
        ("dmc:dmc_cr=3.333", "dmc_cr must be from 1 to 64 in quarters, not 3.333", "dmc_cr=4"),
        ("dmc:head_cr=2+4", "head_cr has 2 numbers, but a layer has 8 KV heads", "give one per head, or none"),
        ("dmc:head_cr=3+5+7+11+13+17+19+23", "head_cr has ratios with a common period of 111,546,435 tokens", "2+4+8+16"),
        ("dmc:dmc_paged_block_size=0", "dmc_paged_block_size must be at least 1, not 0", ""),
        ("dms:dms_cr=65", "dms_cr must be from 1 to 64 in quarters, not 65", "dms_cr=4"),
        ("dms:dms_window_size=256", "dms_window_size (256) is not larger than dms_paged_attention_block_size (256)", "256"),
        ("duo-attention:mask_only=true,retrieval_heads=9", "layer 0 has 8 KV heads, but retrieval_heads is 9", "0 to 8"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(cli, line, message, help):
    outcome = cli(f"size --preset llama3-70b --tokens 1000 --method {line}")
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith(f"--method: {message}")
    assert help in outcome.stderr


@pytest.mark.parametrize("method", ["ada-kv", "fastgen", "dmc", "dms", "dms:mask_only=true"])
@pytest.mark.parametrize(
    ("preset", "reason"),
    [
        ("r1", "needs keys and values of heads, but all layers of deepseek-r1 are MLA"),
        ("mamba-2.8b", "has nothing to select from in mamba-2.8b: no layer keeps every token (Mamba)"),
    ],
)
def test_models_that_have_no_heads_to_choose_for(cli, preset, reason, method):
    outcome = cli(f"size --preset {preset} --tokens 1000 --method {method}")
    assert outcome.code == 2
    assert reason in outcome.stderr


def test_fastgen_saves_nothing_before_heads_were_profiled():
    model = kvcalc.load("llama3-8b")
    changed = kvcalc.apply_method(model, "fastgen")
    assert kvcalc.size(changed, tokens=5000).total_bytes == kvcalc.size(model, tokens=5000).total_bytes
    assert "without heads_per_policy, every head keeps every token" in changed.notes[-1]
