"""Storage formats of cache elements, as exact integers: bytes per block of elements.

A format packs `block_elements` neighbouring elements into `block_bytes` bytes, scales included, so bf16 is 1 in 2,
int4 is 2 in 1, and GGUF's q8_0 is 32 in 34 (32 int8 and one fp16 scale). No float and no fraction is needed: a slot
of a tensor (all that one token adds to it) starts on a byte, so its bytes are a whole number.
"""

from typing import NamedTuple

from kvcalc.errors import UnknownNameError


class Dtype(NamedTuple):
    """A storage format. `source`: its definition; `aliases`: other spellings of the same bytes."""

    name: str
    block_elements: int
    block_bytes: int
    source: str
    aliases: tuple[str, ...] = ()

    def bytes_of(self, num_elements: int) -> int:
        """Bytes of `num_elements` neighbouring elements: ceil(num_elements / block_elements) * block_bytes."""
        return -(-num_elements // self.block_elements) * self.block_bytes

    @property
    def is_computed_in(self) -> bool:
        """Whether models compute in it, as in bf16, fp16 and fp32, rather than only store in it."""
        return self.name in ("bf16", "fp16", "fp32")

    @property
    def cost(self) -> str:
        """`2 bytes`, `1 byte for 2` or `34 bytes for 32`."""
        size = f"{self.block_bytes} byte{'' if self.block_bytes == 1 else 's'}"
        return size if self.block_elements == 1 else f"{size} for {self.block_elements}"

    def __str__(self) -> str:
        return self.name


_GGML = "ggml-common.h, block_{}"
_PAYLOAD = "payload only; per-tensor scales are not in the cache"

DTYPES = (
    Dtype("fp32", 1, 4, "IEEE 754 binary32", ("float32", "float", "f32", "torch.float32")),
    Dtype("bf16", 1, 2, "bfloat16: binary32's upper half", ("bfloat16", "torch.bfloat16")),
    Dtype("fp16", 1, 2, "IEEE 754 binary16", ("float16", "half", "f16", "torch.float16")),
    Dtype(
        "fp8", 1, 1, f"OCP 8-bit floating point; {_PAYLOAD}", ("fp8_e4m3", "fp8_e5m2", "float8_e4m3fn", "float8_e5m2")
    ),
    Dtype("int8", 1, 1, _PAYLOAD),
    Dtype("int4", 2, 1, f"two in a byte; {_PAYLOAD}"),
    Dtype("nvfp4", 16, 9, "NVIDIA: 16 fp4 and one fp8 scale"),
    Dtype("mxfp4", 32, 17, "OCP Microscaling v1.0: 32 fp4 and one 8-bit scale"),
    Dtype("q8_0", 32, 34, f"{_GGML.format('q8_0')}: fp16 scale, 32 int8"),
    Dtype("q5_1", 32, 24, f"{_GGML.format('q5_1')}: fp16 scale and minimum, 32 five-bit"),
    Dtype("q5_0", 32, 22, f"{_GGML.format('q5_0')}: fp16 scale, 32 five-bit"),
    Dtype("q4_1", 32, 20, f"{_GGML.format('q4_1')}: fp16 scale and minimum, 32 four-bit"),
    Dtype("q4_0", 32, 18, f"{_GGML.format('q4_0')}: fp16 scale, 32 four-bit"),
    Dtype("iq4_nl", 32, 18, f"{_GGML.format('iq4_nl')}: fp16 scale, 32 four-bit codes"),
)

FP32, BF16, FP16, FP8 = DTYPES[:4]

_BY_NAME = {name: dtype for dtype in DTYPES for name in (dtype.name, *dtype.aliases)}


def dtype_named(name: str) -> Dtype:
    """Dtype of either spelling, `bf16` or `bfloat16`, ignoring case. Raises UnknownNameError."""
    dtype = _BY_NAME.get(str(name).lower())
    if dtype is None:
        raise UnknownNameError.among("dtype", str(name), (d.name for d in DTYPES))
    return dtype
