"""Requests at random, as a replay takes them: shared prefixes, later turns of a session, prompts sent again."""

from __future__ import annotations

from random import Random
from typing import Any

MAX_MODEL_LEN = 1024
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    **{"hidden_size": 128, "intermediate_size": 192, "vocab_size": 128, "torch_dtype": "bfloat16"},
    **{"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64},
    "max_position_embeddings": 8192,
}
"""Four layers of full attention."""


def random_settings(random: Random) -> dict[str, Any]:
    """Settings of vLLM's scheduler, with a pool that is often too small for what runs."""
    block_size = random.choice([16, 32, 64])
    least = MAX_MODEL_LEN // block_size + 2
    chunked = random.random() < 0.9
    return {
        "block_size": block_size,
        "num_gpu_blocks": random.randint(least, least + 4 if random.random() < 0.5 else 3 * least),
        "max_model_len": MAX_MODEL_LEN,
        "max_num_batched_tokens": random.choice([64, 128, 512, 2048]) if chunked else 2048,
        "max_num_seqs": random.choice([4, 16, 64]),
        "enable_prefix_caching": random.random() < 0.8,
        "async_scheduling": random.random() < 0.5,
        "watermark": random.choice([0, 0, 0.05]),
        "scheduler_reserve_full_isl": random.random() < 0.7,
        "enable_chunked_prefill": chunked,
    }


def random_requests(random: Random, most: int = 60) -> list[dict[str, Any]]:
    """Up to `most` requests in order of arrival."""
    found: list[dict[str, Any]] = []
    step = 0
    for number in range(random.randint(1, most)):
        step += int(random.expovariate(1 / random.choice([1, 3, 20])))
        prompt = _prompt(random, number, found)
        if sum(tokens for _, tokens in prompt) > 900:
            prompt = [[f"u{number}", random.randint(1, 300)]]
        output = f"o{number if random.random() < 0.9 else number % 3}" if random.random() < 0.7 else None
        found.append(
            {
                "id": number,
                "arrival_step": step,
                "prompt": prompt,
                "output_segment": output,
                "output_tokens": random.randint(1, 80),
            }
        )
    return found


def _prompt(random: Random, number: int, earlier: list[dict[str, Any]]) -> list[list[Any]]:
    kind = random.choice(["alone", "shared", "shared", "turn", "turn", "again", "unique"])
    own = f"u{number}" if random.random() < 0.7 else None
    if kind == "shared":
        return [[f"s{random.randint(0, 2)}", random.randint(1, 150)], [own, random.randint(1, 200)]]
    if kind in {"turn", "again"} and earlier:
        before = random.choice(earlier)
        if kind == "again":
            return before["prompt"]
        answer = [before["output_segment"], max(1, before["output_tokens"] - random.choice([0, 0, 3]))]
        return [*before["prompt"], answer, [own, random.randint(1, 40)]]
    return [[None if kind == "unique" else own, random.randint(1, 300)]]
