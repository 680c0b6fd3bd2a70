"""Documents as values: what a line says, and how it is to be stressed, is data and not hidden in words."""

from __future__ import annotations

import kvcalc
from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.log import Compared, LogReport
from kvcalc.report.sheet import Line, Styled
from kvcalc.report.verification import MeasuredTensor, Verification
from kvcalc.report.views import Explanation

R1 = kvcalc.size(kvcalc.load("r1"), tokens=1000, sequences=2)


def finding(*, fits: bool) -> Finding:
    return Finding("chat", "r1", 1000, 1, "bf16", 70 if fits else 90, 80, ("budget",), 1, 1, fits)


def verification(*, measured: int) -> Verification:
    tensor = MeasuredTensor("all", "k", (1, 8), "bf16", 16, measured, measured)
    return Verification("tiny", 1, 1, "bf16", "cpu", 0, (tensor,))


def test_a_line_is_its_label_and_its_value():
    (sheet,) = R1.sheets()
    assert sheet.lines[0] == Line("total", "140,544,000 bytes (140.54 MB, 134.03 MiB)", "answer")
    assert [line.label for line in sheet.lines] == ["total", "per sequence", "each token"]
    assert not [line for line in sheet.lines if line.value != line.value.strip()]


def test_a_formula_has_its_details_below_it():
    lines = Explanation(R1).sheets()[1].lines
    assert [line.style for line in lines] == [*2 * ["plain", "detail", "detail"], "answer"]
    assert Explanation(R1).to_dict()["formulas"][1].startswith("    1,024 bytes = kv_lora_rank 512")


def test_only_what_does_not_hold_is_alarming():
    assert CheckReport((finding(fits=True),)).sheets()[0].rows[0][1] == "fits"
    assert CheckReport((finding(fits=False),)).sheets()[0].rows[0][1] == Styled("TOO LARGE", "alarm")
    assert verification(measured=16).sheets()[0].lines[-1] == Line("verdict", "equal, to the byte")
    other = verification(measured=18).sheets()[0]
    assert other.lines[-1] == Line("verdict", "not equal: all k", "alarm")
    assert other.rows[0][-1] == Styled("+2 bytes", "alarm")


def test_a_log_that_differs_is_alarming():
    agreeing, differing = (
        LogReport("a.log", "tiny", "vllm", (), (Compared("tokens", "1", said, said == "1", 1),)).sheets()[0]
        for said in ("1", "2")
    )
    assert (agreeing.lines[0].style, agreeing.rows[0][-1]) == ("plain", "equal")
    assert (differing.lines[0].style, differing.rows[0][-1]) == ("alarm", Styled("OTHER", "alarm"))


def test_parameters_are_shown_where_any_are_known():
    gallery = kvcalc.presets("deepseek-r1")
    known = gallery._replace(entries=(gallery.entries[0]._replace(parameters=671_026_419_200),))
    shown = [dict(zip([c.title for c in s.columns], s.rows[0], strict=True)) for s in (*known.sheets(),)]
    assert [(row["parameters"], row["context"], row["bytes per token"]) for row in shown] == [("671B", 163_840, 70_272)]
    unknown = gallery._replace(entries=(gallery.entries[0]._replace(parameters=None),))
    assert "parameters" not in [column.title for column in unknown.sheets()[0].columns]


def test_a_token_of_compressed_layers_is_its_share_of_their_slots():
    """DeepSeek-V4 Pro adds a slot for every 4th and every 128th token: 9,255,936 bytes for 128 tokens, windows open."""
    (entry,) = kvcalc.presets("deepseek-v4-pro").entries
    assert (entry.growth, entry.bytes_per_token) == ((9_255_936, 128), 72_312)
