"""The arrows of the architecture, guarded: who may import whom, and what start-up may load. Each guard can fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kvcalc"

FLOORS = (
    {"errors"},
    {"registry", "units"},
    {"cache", "hardware"},
    {"attention", "model", "report"},
    {"parallel"},
    {"engines", "formats", "methods"},
    {"question"},
    {"answers"},
    {"fleet"},
    {"io"},
    {"verify"},
    {"cli"},
)
"""From the ground up. A room imports from floors below its own; within a room, files may share."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FORMATS_KNOW = {"errors", "registry", "report", "units"}
ONLY_USERS = {
    "yaml": {"io"},
    "pydantic": {"io"},
    "rich": {"formats"},
    "matplotlib": {"formats"},
    "typer": {"cli"},
    "ray": {"io"},
    "numpy": {"answers", "cache", "fleet", "io"},
    "torch": {"verify"},
    "transformers": {"verify"},
    "mcp": {"cli"},
    "mcp_types": {"cli"},
    "anyio": {"cli"},
}
"""Rooms that may import a library; cache and io name numpy's arrays in types alone, fleet convolves distributions."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source: str):
    """Every module that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ([node.module] if node.module != "kvcalc" else [f"kvcalc.{alias.name}" for alias in node.names])


def violations(room: str, source: str) -> list[str]:
    """What a file of `room` imports and must not."""
    wrong = []
    for module in imports_of(source):
        top, *rest = module.split(".")
        if top in ONLY_USERS and room not in ONLY_USERS[top]:
            wrong.append(module)
        if top != "kvcalc" or not rest or rest[0] == room or rest[0] == "__version__":
            continue
        beside_or_above = FLOOR_OF.get(rest[0], len(FLOORS)) >= FLOOR_OF[room]
        if beside_or_above or (room == "formats" and rest[0] not in FORMATS_KNOW):
            wrong.append(module)
    return wrong


ENTRANCES = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path not in ENTRANCES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path):
    assert violations(room_of(path), path.read_text()) == []


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("cache", "from kvcalc.model import Model"),
        ("model", "import kvcalc.attention.gqa"),
        ("engines", "def f():\n    from kvcalc.methods import apply_method"),
        ("formats", "from kvcalc.model import Model"),
        ("answers", "import yaml"),
        ("fleet", "from kvcalc import io"),
        ("cli", "import torch"),
    ],
)
def test_a_wrong_import_is_noticed(room, source):
    assert violations(room, source)


def helpers_taken(source: str) -> set[str]:
    """Helpers of the reader of command lines that a source imports past its door."""
    return {module for module in imports_of(source) if module.startswith("kvcalc.io.engine_args._")}


def test_command_lines_are_read_through_the_door_of_their_room():
    """What other rooms of io need of it stands in its __all__."""
    outside = [path for path in PACKAGE.glob("io/**/*.py") if "engine_args" not in path.parts]
    assert PACKAGE / "io" / "deployments" / "settling.py" in outside
    assert {path for path in outside if helpers_taken(path.read_text())} == set()
    assert helpers_taken("from kvcalc.io.engine_args._shell import UNKNOWN")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"import sys\n{code}\nsys.stderr.write(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


HEAVY = {"torch", "rich", "pydantic", "yaml", "numpy", "huggingface_hub", "matplotlib"}


def test_importing_the_command_line_loads_nothing_heavy():
    assert not loaded_by("import kvcalc.cli, kvcalc.__main__") & HEAVY


def test_importing_the_library_loads_nothing_heavy():
    assert not loaded_by("import kvcalc; [getattr(kvcalc, name) for name in kvcalc.__all__]") & HEAVY


def test_sizing_a_shipped_preset_as_json_loads_nothing_heavy():
    assert (
        not loaded_by("import kvcalc.cli; kvcalc.cli.main('size --preset r1 --tokens 1 --format json'.split())") & HEAVY
    )


def test_help_loads_nothing_heavy():
    assert not loaded_by("import kvcalc.cli; kvcalc.cli.main(['--help'])") & HEAVY


def test_a_heavy_import_is_noticed():
    assert "yaml" in loaded_by("import kvcalc.io.documents; kvcalc.io.documents.parse_yaml('a: 1', 'a')") & HEAVY


NETWORKED = {"socket", "urllib", "http", "requests", "httpx", "httpx2", "ftplib", "asyncio", "ssl", "huggingface_hub"}
"""Modules that open connections."""
HUB_CLIENT = PACKAGE / "io" / "hub" / "client.py"
ASKS_SERVERS = PACKAGE / "io" / "live.py"


def networked_imports(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports_of(path.read_text())} & NETWORKED


def test_the_network_is_out_of_reach_but_of_two_clients():
    """The one of the hub, and the one that asks the server whose address was given."""
    found = {path for path in FILES if networked_imports(path)}
    assert found == {HUB_CLIENT, ASKS_SERVERS}
    assert networked_imports(HUB_CLIENT) == {"huggingface_hub"}


def test_the_client_of_the_hub_imports_its_library_when_it_is_asked():
    assert "huggingface_hub" not in loaded_by("import kvcalc.io.hub, kvcalc.io.hub.client")
    assert "huggingface_hub" in loaded_by("from kvcalc.io.hub.client import Client; Client()")


def test_explaining_a_log_does_not_load_what_opens_connections():
    log = PACKAGE.parent / "tests" / "logs" / "vllm_qwen3_14b.log"
    loaded = loaded_by(
        f"import kvcalc.cli; kvcalc.cli.main(['explain', {str(log)!r}, '-p', 'qwen3-14b', '-f', 'json'])"
    )
    assert not loaded & (HEAVY | NETWORKED - {"urllib"})


@pytest.mark.parametrize("folder", ["attention", "methods", "engines", "formats"])
def test_a_file_is_a_name(folder, tmp_path, monkeypatch):
    """A new file in a registry's folder has its name there, with no other edit."""
    from importlib import import_module

    package = import_module(f"kvcalc.{folder}")
    registry = next(value for value in vars(package).values() if type(value).__name__ == "Registry")
    (tmp_path / "brand_new.py").write_text("HERE = True\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"kvcalc.{folder}.brand_new", raising=False)
    assert "brand-new" in registry.names()
    assert registry.module("brand-new").HERE
    monkeypatch.delitem(sys.modules, f"kvcalc.{folder}.brand_new")
