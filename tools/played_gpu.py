"""A simulated GPU: stands in for torch.cuda and packages of kernels.

An engine's planner asks a GPU for its name, its capability and its memory, and imports kernels that it never runs. Here
torch.cuda answers, tensors made on it hold shapes and no memory (device meta), and missing packages are empty modules.
Used by `tools/measure_sglang.py` and `tools/measure_vllm.py`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Anything:
    """Whatever is asked of a package of kernels: it can be called, decorates what it is given, and has every name."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *args: Any, **_: Any) -> Any:
        """What it decorates, or itself."""
        return args[0] if len(args) == 1 and callable(args[0]) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __getitem__(self, _: object) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __index__(self) -> int:
        return 0

    def __or__(self, _: object) -> Any:
        return Anything  # of an annotation: Config | None

    __ror__ = __or__


class _Played(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages that are absent, with every submodule."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if name.partition(".")[0] not in self.names and name not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__version__ = "99.0.0"
        module.__getattr__ = lambda name: _missing(spec.name, name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None: ...


def _missing(module: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = sys.modules.get(f"{module}.{name}")
    return found if found is not None else Anything()


def play_packages(packages: Iterable[str], modules: Iterable[str] = ()) -> None:
    """Empty modules for packages that are not installed, and for modules that load a GPU's libraries."""
    absent = {name for name in packages if importlib.util.find_spec(name) is None}
    sys.meta_path.insert(0, _Played(absent | set(modules)))


def play_cuda(name: str, capability: tuple[int, int], total_bytes: int, free_bytes: int) -> None:
    """torch.cuda as one GPU of this name, and tensors on it as shapes."""
    import torch
    from torch.overrides import TorchFunctionMode

    major, minor = capability
    properties = types.SimpleNamespace(
        name=name, major=major, minor=minor, total_memory=total_bytes, multi_processor_count=132, warp_size=32
    )
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": capability,
        "get_device_name": name,
        "get_device_properties": properties,
        "mem_get_info": (free_bytes, total_bytes),
        "synchronize": None,
        "empty_cache": None,
        "set_device": None,
        "is_current_stream_capturing": False,
        "_lazy_init": None,
        "current_stream": types.SimpleNamespace(wait_stream=lambda _: None, synchronize=lambda: None),
    }
    for asked, answer in answers.items():
        setattr(torch.cuda, asked, lambda *_, answer=answer, **__: answer)
    torch.cuda.Stream = Anything  # type: ignore[misc,assignment]
    torch.cuda.Event = Anything  # type: ignore[misc,assignment]
    torch.version.cuda = "13.0"

    class OnMeta(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            device = kwargs.get("device", "")
            if "cuda" in str(device) or isinstance(device, int):  # torch.cuda.current_device() is a number
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    OnMeta().__enter__()
    own = torch.Tensor.item
    torch.Tensor.item = lambda self: 0 if self.is_meta else own(self)  # type: ignore[method-assign]


def in_a_child(answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer of a child, since what an engine sets up in a process stays. Its prints go to stderr."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.dup2(2, 1)
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text) if text else {"refused": "the process ended"}
    return found
