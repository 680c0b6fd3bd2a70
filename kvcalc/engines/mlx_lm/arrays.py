"""Slots of MLX-LM's arrays after a prompt that `generate_step` reads in chunks, except its last token.

    KVCache          whole steps of 256: a full array is trimmed to its contents, and extended by steps for a chunk
    RotatingKVCache  a chunk is appended to the last window - 1 tokens; a single token goes into a step of 256, and so
                     does each that finds the ring full, until it has all of its window
    ChunkedKVCache   as KVCache until the chunk is full; then each token has a step behind the last chunk of tokens

Of a prompt of t tokens: 256 * ceil(t / 256), and min(t + 255, window), one fewer where its last chunk but the last
token is a single token, too. Tokens that are decoded fill what is there before they need another step.
Source: MLX-LM, mlx_lm/models/cache.py and generate.py (generate_step).
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.cache.slots.engines import in_steps, room_and_steps, switched
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.primitives import TOKENS, AtMost, Constant, Floor, Switch
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.errors import NotApplicableError

STEP = 256
_STEPS = in_steps(STEP, STEP, words=f"every token, by {STEP}")


class Reading(NamedTuple):
    """How tokens entered a cache.

    chunk: prompt tokens read at once (prefill_step_size). prompt: tokens of the prompt; later ones were decoded one by
    one; None: all tokens are one prompt.
    """

    chunk: int
    prompt: int | None = None

    def every_token(self) -> SlotRule:
        """KVCache. Raises NotApplicableError if chunks cut arrays between steps and no prompt is given."""
        if self.prompt is not None:
            return room_and_steps(self._steps_after(self.prompt), STEP, words=str(_STEPS))
        if self.chunk % STEP and STEP % self.chunk:
            raise NotApplicableError(
                f"chunks of {self.chunk:,} tokens cut arrays between their steps of {STEP}, so that the size depends "
                "on the prompt",
                help="set prompt_tokens, or prefill_step_size=2048 or another multiple of 256",
            )
        return _STEPS

    def ring(self, window: int) -> SlotRule:
        """RotatingKVCache of `window` tokens."""
        if window <= STEP:
            return once(window, from_token=1, words=f"ring of {window:,}")
        if self.prompt is not None:
            room = self._ring_after(self.prompt, window)
            return room_and_steps(room, STEP, limit=window, words=f"last {window:,}, by {STEP}")
        if self.chunk == 1:
            return SlotRule(AtMost(_STEPS, window), f"last {window:,}, by {STEP}")
        words = f"last {window:,}, {STEP - 1} ahead"
        # a last chunk of one token: those prompts have t - 2 = n * chunk
        alone = Floor(TOKENS + (self.chunk - 2), 1, self.chunk) - Floor(TOKENS + (self.chunk - 3), 1, self.chunk)
        return SlotRule(Switch(1, Constant(0), AtMost(TOKENS + (STEP - 1) - alone, window)), words)

    def current_chunk(self, size: int) -> SlotRule:
        """ChunkedKVCache of `size` tokens."""
        words = f"chunk of {size:,}, by {STEP}"
        return switched(self.every_token(), size + 2, once(size + STEP), words=words)

    def _ring_after(self, prompt: int, window: int) -> int:
        """Slots of a ring after the prompt."""
        if self.chunk == 1:
            return min(-(-prompt // STEP) * STEP, window)
        alone = prompt > 1 and (prompt - 1) % self.chunk == 1
        return min(prompt + STEP - 1 - alone, window)

    def _steps_after(self, prompt: int) -> int:
        """Slots of an array after the prompt, chunk by chunk; the pattern repeats every 256 chunks."""
        whole, rest = divmod(prompt - 1, self.chunk)
        skipped = max(0, whole // STEP - 2) * STEP
        slots = held = 0
        for new in (*(self.chunk,) * (whole - skipped), rest, 1):
            if held + new > slots:
                slots = (held if held % STEP else slots) + -(-new // STEP) * STEP
            held += new
        return slots + skipped * self.chunk
