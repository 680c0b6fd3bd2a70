"""Formats of the indices that methods keep in addition to keys and values; no cache is stored in them."""

from __future__ import annotations

from kvcalc.cache.dtypes import Dtype

INT32 = Dtype("int32", 1, 4, "an index of attention kernels")
INT64 = Dtype("int64", 1, 8, "an index of torch")
