"""Help says all there is: every name, or the command that lists them, and nothing is cut; the shells offer the names."""

from __future__ import annotations

import re

import pytest
from test_options import COMMANDS

from kvcalc.cache.dtypes import DTYPES
from kvcalc.cli import main
from kvcalc.cli.commands import NAMES
from kvcalc.engines import ENGINES, Engine
from kvcalc.engines.base.settings import settings_of
from kvcalc.formats import FORMATS
from kvcalc.io.gallery import attention_kinds

PAGES = ["", *NAMES, *(name for name in COMMANDS if name not in NAMES)]


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w@:.=+-]*\w", text))


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("page", PAGES)
def test_help_ends_no_sentence_in_dots(cli, page, columns):
    outcome = cli(f"{page} --help", columns)
    assert (outcome.stderr, outcome.code) == ("", 0)
    assert not re.search(r"\.\.|\u2026|{known}", outcome.stdout)
    assert max(map(len, outcome.stdout.splitlines())) <= columns


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("page", COMMANDS)
def test_no_word_of_a_row_is_lost(cli, page, columns):
    shown = "".join(cli(f"{page} --help", columns).stdout.split())
    for option in COMMANDS[page].takes:
        before, known, after = option.help.partition("{known}")
        assert "".join(before.split()) in shown
        assert "".join(after.split()) in shown
        assert not known or ",".join(option.known()) in shown


def test_help_of_size_names_engines_formats_and_dtypes(cli):
    shown = words(cli("size --help").stdout)
    engines = {"ideal", "vllm", "sglang", "llama_cpp", "ollama", "mlx_lm", "lmdeploy", "tensorrt_llm", "transformers"}
    assert engines | {"table", "json", "csv", "markdown"} | {dtype.name for dtype in DTYPES} <= shown
    assert set(FORMATS.names()) <= words(cli("check --help").stdout) | words(cli("size --help").stdout)
    assert set(attention_kinds()) <= words(cli("presets list --help").stdout)


def test_help_names_the_commands_that_list_the_rest(cli):
    listing = {"`kvcalc presets list`", "`kvcalc engines list`", "`kvcalc engines show NAME`", "`kvcalc methods list`"}
    shown = " ".join(cli("fit --help").stdout.split())
    assert {command for command in listing | {"`kvcalc gpus`"} if command not in shown} == set()


@pytest.mark.parametrize("page", [*(f"{page} --help" for page in PAGES), "methods list", "engines list -f json"])
def test_no_page_sends_its_reader_to_a_file_of_the_repository(cli, page):
    assert not re.search(r"(presets|examples|tests|docs)/", cli(page).stdout)


@pytest.mark.parametrize("engine", ENGINES.names())
def test_no_setting_does_either(engine):
    meanings = " ".join(setting.meaning for setting in settings_of(Engine.of(engine)))
    assert not re.search(r"(presets|examples|tests|docs)/", meanings)


# Completion -----------------------------------------------------------------------------------------------------------

OFFERED = {
    "co": {"compare"},
    "presets l": {"list"},
    "size --en": {"--engine", "--engine-set"},
    "size r": {"r1", "recurrentgemma", "recurrentgemma-2b", "rednote-hilab/dots.llm1.inst", "rwkv-4-7b"},
    "size Qwen/QwQ": {"Qwen/QwQ-32B", "Qwen/QwQ-32B-AWQ", "Qwen/QwQ-32B-Preview"},
    "compare r1 gpt-o": {"gpt-oss-20b", "gpt-oss-120b"},
    "fit --preset r1": {"r1"},
    "fit --model r1": {"r1"},
    "fit --gpu rtx-4090": {"rtx-4090"},
    "gpus rtx-4090": {"rtx-4090"},
    "size --dtype bf": {"bf16"},
    "size --format j": {"json"},
    "check plan.yaml --format j": {"json", "junit"},
    "size --engine l": {"llama_cpp", "lmdeploy"},
    "explain-log a.log --engine l": {"llama_cpp", "lmdeploy"},
    "engines show v": {"vllm"},
    "size --method sn": {"snapkv"},
    "methods show sn": {"snapkv"},
    "size --attention ml": {"mla", "mla-naive", "mlkv"},
    "size --assume m": {"mha", "mla"},
    "schema p": {"plan", "plot", "preset"},
    "presets list --kind ml": {"mla", "mla-naive", "mlstm"},
    "presets show r1": {"r1"},
    "verify --device c": {"cpu", "cuda"},
}
SHELLS = {
    "bash": lambda printed: set(printed.split()),
    "zsh": lambda printed: set(re.findall(r'^(?:_arguments .*\(\()?"([^"]+)"', printed, re.MULTILINE)),
    "fish": lambda printed: {line.partition("\t")[0] for line in printed.splitlines()},
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("line", OFFERED)
def test_a_shell_offers_what_a_word_may_become(capsys, monkeypatch, shell, line):
    whole = f"kvcalc {line}"
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("_KVCALC_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", whole)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split())))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", whole)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit, match=r"^0$"):
        main([])
    assert SHELLS[shell](capsys.readouterr().out) == OFFERED[line]


def test_names_of_the_hub_are_offered_once_they_are_begun():
    model = next(option for option in COMMANDS["size"].takes if option.name == "named")
    assert not [name for name in model.offered("") if "/" in name]
    assert "deepseek-ai/DeepSeek-R1" in model.offered("DEEPSEEK-AI/")
