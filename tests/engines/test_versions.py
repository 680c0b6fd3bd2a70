"""Versions as data: which version a name means, what its rules decide, and that what a user sets comes first."""

from __future__ import annotations

from dataclasses import fields

import pytest

import kvcalc
from kvcalc.engines import ENGINES, Engine
from kvcalc.engines.base.versions import Release, Rule, number_of, rules_read
from kvcalc.engines.transformers.versions import TransformersRelease
from kvcalc.engines.vllm.engine import Vllm
from kvcalc.units import both_units

RELEASES = {name: release for name in ENGINES.names() if (release := Engine.of(name).RELEASE)}


class Toy(Release):
    """Three measured versions, two rules."""

    TITLE = "Toy"
    KNOWN = ("0.10.2", "0.25.0", "0.25.1", "0.33.0")

    share = Rule("share of the memory", 0.9, {"0.20.0": 0.92}, "toy.py")
    rounding = Rule("rounding of groups", "least", {"0.12.0": "1.25", "0.18.1": "1.5"}, "toy.py")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (None, "0.33.0"),
        ("0.33.0", "0.33.0"),
        ("0.33", "0.33.0"),
        ("v0.33.0", "0.33.0"),
        ("0.25", "0.25.1"),  # the newest 0.25 that is known
        ("0.25.0", "0.25.0"),
        ("0.25.0.1", "0.25.0"),  # a patch of it
        ("0.14.1", "0.14.1"),  # between two that are known
        ("0.10.2", "0.10.2"),
        ("0.12", "0.12"),
    ],
)
def test_a_version_is_the_newest_that_its_text_may_mean(text, version):
    assert Toy.named(text) == version


@pytest.mark.parametrize("text", ["0.10.1", "0.9", "0.33.1", "1.0", "0.34"])
def test_outside_of_the_range_a_version_is_refused_with_the_range(text):
    with pytest.raises(kvcalc.InvalidValueError, match=r"kvcalc models Toy 0\.10\.2 to 0\.33\.0, not") as refusal:
        Toy.named(text)
    assert refusal.value.help.startswith("use version 0.33.0, or @nearest with the setting version=")
    assert Toy.nearest(text) in ("0.10.2", "0.33.0")


@pytest.mark.parametrize("text", ["", "new", "0.33.", "0.-1", "0.33.0rc1", "²", "99999.1"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(kvcalc.InvalidValueError, match="version must be a version, not"):
        Toy.named(text)


def test_a_rule_has_the_value_of_the_last_version_that_changed_it():
    assert [Toy(version).rounding for version in ("0.11.2", "0.12", "0.12.0", "0.18.0", "0.18.1", "0.33.0")] == [
        *("least", "1.25", "1.25", "1.25", "1.5", "1.5")
    ]
    assert [Toy(version).share for version in ("0.20", "0.20.0", "0.19")] == [0.92, 0.92, 0.9]
    assert Toy.share.what == "share of the memory"
    assert set(Toy.rules()) == {"share", "rounding"}


@pytest.mark.parametrize("name", RELEASES)
def test_the_rows_of_every_table_are_in_order_and_agree_with_the_defaults(name):
    release = RELEASES[name]
    known = [number_of(release.dotted(version)) for version in (release.oldest(), *release.KNOWN)]
    assert known == sorted(known)
    defaults = {field.name: field.default for field in fields(Engine.of(name))}
    assert defaults["version"] == release.usual()
    assert release.usual() in release.KNOWN
    for row, rule in release.rules().items():
        assert list(rule.since) == sorted(rule.since, key=number_of)
        assert number_of(list(rule.since)[-1]) <= known[-1]
        assert row not in defaults or defaults[row] == rule.at(release.dotted(release.usual()))
        assert rule.what
        assert rule.source


def test_the_version_picks_defaults_and_what_is_set_comes_first():
    assert Engine.of("vllm").gpu_memory_utilization == 0.92
    assert Engine.of("vllm@0.19.1").gpu_memory_utilization == 0.9
    assert Engine.of("vllm@0.19.1", {"gpu_memory_utilization": 0.92}).gpu_memory_utilization == 0.92
    assert Engine.of("vllm", {"version": "0.19.1", "gpu": "h200"}).gpu_memory_utilization == 0.9


def test_the_version_picks_formulas():
    """Before 0.20.1 vLLM logged the tokens of its blocks: one group of six has a sixth of them."""
    before, since = (
        kvcalc.fit(
            kvcalc.load("gemma-3-27b"),
            engine=f"vllm@{version}",
            available_bytes=40 * 2**30,
            engine_settings={"max_model_len": 32_768},
        )
        for version in ("0.20.0", "0.20.1")
    )
    assert before._replace(counted_block_size=0, version="", engine_settings=()) == since._replace(
        version="", engine_settings=()
    )
    assert before.tokens == before.num_blocks // len(before.groups) * min(group.block_size for group in before.groups)
    assert since.tokens == int(since.max_concurrency * since.max_model_len) != before.tokens
    assert (before.version, since.version) == ("0.20.0", "0.20.1")


def total(engine: str, **settings) -> int:
    return kvcalc.size(kvcalc.load("r1"), tokens=1000, engine=engine, engine_settings=settings).total_bytes


def test_transformers_expanded_the_latent_before_5_15():
    expanded, latent = 61 * 128 * (192 + 128) * 2 * 1000, 61 * 576 * 2 * 1000
    assert total("transformers@4.57") == total("transformers", transformers_version="4.57") == expanded
    assert total("transformers@5.14.2") == total("transformers", version="5.14") == expanded
    assert total("transformers") == total("transformers@5.23") == total("transformers@5.15") == latent
    assert total("transformers", transformers_version="5.23.0") == latent
    assert TransformersRelease("5.14").expands_latent


@pytest.mark.parametrize(
    ("engine", "settings", "words"),
    [
        ("vllm@0.9.2", {}, "kvcalc models vLLM 0.10.2 to 0.33.0, not '0.9.2'"),
        ("vllm@", {}, "version must be a version, not ''"),
        ("vllm@0.33.0", {"version": "0.25.1"}, "vllm@0.33.0 and the setting version ('0.25.1') differ"),
        ("transformers@4.56", {}, "kvcalc models transformers 4.57 to 5.24, not '4.56'"),
        ("transformers", {"transformers_version": "99.1"}, "kvcalc models transformers 4.57 to 5.24, not '99.1'"),
        (
            "transformers",
            {"version": "5.20", "transformers_version": "5.1"},
            "version ('5.20') and transformers_version ('5.1') are the same setting",
        ),
        ("transformers", {"transformers_version": 5.2}, "version 5.2 could be 5.2 or 5.20"),
        ("ideal@1", {}, "engine ideal has no versions, but '1' was requested"),
        ("ideal@0.18", {}, "engine ideal has no versions, but '0.18' was requested"),
        ("llama_cpp@2025-04-15", {}, "kvcalc models llama.cpp 2025-04-16 to 0.3.36, not '2025-04-15'"),
        ("llama_cpp@b99999", {}, "kvcalc models llama.cpp 2025-04-16 to 0.3.36, not 'b99999'"),
        ("llama_cpp@2025-02-30", {}, "version must be a version, not '2025-02-30'"),
        ("llama_cpp@0.3.37", {}, "version must be a version, not '0.3.37'"),
        ("llama_cpp@2026", {}, "version must be a version, not '2026'"),
        ("ideal", {"version": "1"}, "no setting of the engine ideal is called 'version'"),
        ("vlm@0.33", {}, "no engine is called 'vlm'"),
    ],
)
def test_versions_that_cannot_be_meant_are_refused(engine, settings, words):
    with pytest.raises(kvcalc.KvcalcError) as refusal:
        Engine.of(engine, settings)
    assert str(refusal.value) == words


@pytest.mark.parametrize("name", RELEASES)
def test_every_answer_names_the_version(name):
    report = kvcalc.size(kvcalc.load("llama-3.1-8b"), tokens=1024, engine=name)
    assert report.engine_version == report.to_dict()["engine_version"] == Engine.of(name).release_words
    assert report.engine_words in report.heading()
    assert report.engine_version in report.engine_words


def test_an_engine_without_versions_names_none():
    report = kvcalc.size(kvcalc.load("llama-3.1-8b"), tokens=1024)
    assert (report.engine_version, "engine_version" in report.to_dict()) == ("", False)


def test_a_plan_names_the_version_of_its_engine(cli, tmp_path):
    plan = tmp_path / "plan.yaml"
    args = "vllm serve gpt-oss-20b --max-model-len 8K"
    entry = "deployments: [{name: a, model: gpt-oss-20b, engine: vllm@%s, args: %s, gpu: h100-80gb, weights: 14GB}]"
    plan.write_text(entry % ("0.33", args))
    assert cli(f"check {plan} --format json").code == 0
    plan.write_text(entry % ("0.5", args))
    refused = cli(f"check {plan}")
    assert refused.code == 2
    assert "deployments[0].engine: kvcalc models vLLM 0.10.2 to 0.33.0, not '0.5'" in refused.stderr


@pytest.mark.parametrize(
    ("engine", "settings", "answers", "asked"),
    [
        ("vllm@nearest", {"version": "0.9.2"}, "0.10.2", "0.9.2"),
        ("vllm@nearest", {"version": "v0.40"}, "0.33.0", "0.40"),
        ("vllm@nearest", {"version": "0.25.1"}, "0.25.1", None),
        ("vllm@nearest", {}, "0.33.0", None),
        ("transformers@nearest", {"transformers_version": "4.1"}, Engine.of("transformers").RELEASE.oldest(), "4.1"),
    ],
)
def test_nearest_goes_on_with_the_end_of_the_range_and_says_so(engine, settings, answers, asked):
    chosen = Engine.of(engine, settings)
    assert chosen.version == answers
    note = f"{chosen.TITLE} {asked} is outside the known versions; the rules of {answers}, the nearest, are used"
    notes = (note,) if asked else ()
    assert chosen.version_notes == notes
    report = kvcalc.size(kvcalc.load("llama-3.1-8b"), tokens=1024, engine=engine, engine_settings=settings)
    assert report.engine_version == Engine.of(engine.partition("@")[0], {"version": answers}).release_words
    assert set(notes) <= set(report.notes)


def test_fits_say_which_version_answers():
    settings = {"version": "0.9.2", "max_model_len": 8192}
    model, engine = kvcalc.load("llama-3.1-8b"), "vllm@nearest"
    report = kvcalc.fit(model, available_bytes=2**33, engine=engine, engine_settings=settings)
    gpus = kvcalc.fit_gpus(model, gpu="h100-80gb", weights_bytes=2**34, engine=engine, engine_settings=settings)
    for found in (report, gpus):
        assert any("vLLM 0.9.2 is outside the known versions" in note for note in found.notes)
    assert report.version == "0.10.2"


def test_outside_of_the_range_the_help_names_the_way_on():
    with pytest.raises(kvcalc.InvalidValueError) as refusal:
        Engine.of("vllm@0.9.2")
    assert refusal.value.help == (
        "use version 0.33.0, or vllm@nearest with the setting version=0.9.2 for the rules of 0.10.2"
    )


def test_changes_come_newest_first_with_the_last_version_before_each():
    changes = [(change.version, change.before) for change in Toy.changes("0.33.0")]
    assert changes == [("0.20.0", "0.18.1"), ("0.18.1", "0.12.0"), ("0.12.0", "0.10.2")]
    assert [change.version for change in Toy.changes("0.18.1")] == ["0.18.1", "0.12.0"]
    assert next(Toy.changes("0.12.0")).rules == {Toy.rounding}


def test_an_answer_knows_the_rules_that_it_read():
    release = Toy("0.12.0")
    with rules_read() as read:
        assert release.share == 0.9
    assert (read, release.rounding) == ({Toy.share}, "1.25")
    assert read == {Toy.share}


def test_a_recent_change_that_moved_an_answer_is_told_with_the_answer_before():
    gemma, settings = kvcalc.load("gemma-3-27b"), {"max_model_len": 32_768}
    report, before = (
        kvcalc.fit(gemma, engine=f"vllm@{version}", available_bytes=40 * 2**30, engine_settings=settings)
        for version in ("0.33.0", "0.25.1")
    )
    assert report.notes == (*gemma.notes, f"before vLLM 0.26: {before.max_concurrency:.2f}x, {before.tokens:,} tokens")
    assert f"{before.max_concurrency:.2f}x" == "5.95x"
    assert before.notes == gemma.notes  # no change between 0.20.2 and 0.25.1 moved it

    sizes = [
        kvcalc.size(gemma, tokens=32_768, engine=f"vllm@{version}", engine_settings=settings)
        for version in ("0.33.0", "0.25.1")
    ]
    ratio = sizes[1].total_bytes / sizes[0].total_bytes
    assert sizes[0].notes[-1] == f"before vLLM 0.26: {both_units(sizes[1].total_bytes)} ({ratio:.2f}x)"


def test_an_answer_that_no_change_moved_says_nothing_and_asks_no_other_version(monkeypatch):
    asked = []
    monkeypatch.setattr(Vllm, "plan", lambda *given, plan=Vllm.plan: asked.append(given) or plan(*given))
    llama = kvcalc.load("llama-3.1-8b")
    report = kvcalc.fit(llama, available_bytes=40 * 2**30, engine_settings={"max_model_len": 32_768})
    assert (report.notes, len(asked)) == (llama.notes, 1)
