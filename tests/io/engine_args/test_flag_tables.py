"""The tables of flags: held against the engines' own parsers, and against the engines' settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from kvcalc.engines import Engine
from kvcalc.io.engine_args import PROGRAMS, program_of
from kvcalc.io.engine_args._rows import Ignored, Refused, Sets, Weighs

DATA = Path(__file__).parents[2] / "data" / "engine_flags.tsv"
NAMES = [name.replace("-", "_") for name in PROGRAMS.names()]
NEWEST = {"vllm": "0.33.0", "sglang": "0.5.23", "lmdeploy": "0.18.0", "mlx_lm": "0.32.2", "llama_cpp": "0.3.36"}
TAKES_WHAT_OLDER_ONES_DID = {
    ("llama_cpp", "flash-attn"): "maybe",  # a switch until 2025, with on, off or auto since
}


class Row(NamedTuple):
    program: str
    version: str
    takes: str
    names: tuple[str, ...]


@cache
def rows() -> list[Row]:
    lines = (line.split("\t") for line in DATA.read_text("utf-8").splitlines() if not line.startswith("#"))
    return [Row(program, version, takes, tuple(names.split("|"))) for program, version, takes, names in lines]


@pytest.mark.parametrize("program", NEWEST)
def test_every_flag_of_the_engines_own_parser_is_a_row(program):
    known = program_of(program).spelled
    ours = [row for row in rows() if row.program == program]
    assert len(ours) > 40
    assert [row.names for row in ours if not all(name in known for name in row.names)] == []


@pytest.mark.parametrize("program", NEWEST)
def test_every_flag_takes_what_the_parser_says(program):
    known = program_of(program).spelled
    for row in rows():
        if row.program == program:
            for name in row.names:
                flag = known[name].flag
                says = TAKES_WHAT_OLDER_ONES_DID.get((program, flag.name), row.takes)
                assert (name, flag.takes) == (name, says)


def test_flags_that_are_gone_say_which_version_has_them():
    known = program_of("vllm").spelled
    gone = {
        name: row.version for row in rows() if row.program == "vllm" and row.version != "0.33.0" for name in row.names
    }
    turned_around = {"disable-log-requests"}  # an opposite of --enable-log-requests since 0.33
    for name, version in gone.items():
        flag = known[name].flag
        assert (name, flag.until) in {(name, version), *((each, "0.16.0") for each in turned_around)}
    new = {name for row in rows() if row.program == "vllm" and row.version == "0.33.0" for name in row.names}
    assert not [name for name in new if known[name].flag.until]


@pytest.mark.parametrize("name", NAMES)
def test_no_two_rows_have_one_name(name):
    spelled = [each for flag in program_of(name).flags for each in (*flag.spellings, *flag.off)]
    assert sorted({each for each in spelled if spelled.count(each) > 1}) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_row_sets_something_that_the_engine_has(name):
    program = program_of(name)
    if program.engine is None:
        assert program.decides
        return
    settings = Engine.of(program.engine).settings_by_name()
    flags = (*program.flags, *(variable.flag for variable in program.variables))
    for flag in flags:
        if isinstance(flag.does, Sets):
            assert flag.does.setting in settings


@pytest.mark.parametrize("name", NAMES)
def test_every_row_that_sets_nothing_says_why(name):
    for flag in program_of(name).flags:
        if isinstance(flag.does, Ignored | Refused | Weighs):
            assert flag.does.why
        if isinstance(flag.does, Refused):
            assert flag.does.help


@pytest.mark.parametrize("name", NAMES)
def test_commands_begin_in_one_way_alone(name):
    others = {command for other in NAMES if other != name for command in program_of(other).commands}
    assert not others & set(program_of(name).commands)
