"""Token and byte counts, as people write them."""

from __future__ import annotations

import pytest

from kvcalc.errors import InvalidValueError
from kvcalc.units import (
    both_units,
    exact_bytes,
    parse_bytes,
    parse_token_list,
    parse_tokens,
    positive_int,
    short_count,
    short_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("100000", 100_000),
        ("100_000", 100_000),
        ("100,000", 100_000),
        ("128k", 128_000),  # lower case is decimal, upper case binary: vLLM's human_readable_int
        ("128K", 131_072),
        ("128Ki", 131_072),
        ("1m", 1_000_000),
        ("1M", 1_048_576),
        ("1Mi", 1_048_576),
        ("2g", 2_000_000_000),
        ("2G", 2_147_483_648),
        ("1.5k", 1_500),
        ("25.6k", 25_600),
        (" 7 ", 7),
        (4096, 4096),
    ],
)
def test_token_counts(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["128K", "128k", "1M", "1m", "3M", "100k", "500", "100,001", "1536"])
def test_a_short_count_is_exact(text):
    assert short_tokens(parse_tokens(text)) == {"1536": "1,536"}.get(text, text)


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "+5", "1e5", "1.5", "0", "0k", "1.5K", "12ki", "1.0001k", "1 2", "NaN", "١٢", True, 1.0]
)
def test_what_is_no_token_count(text):
    with pytest.raises(InvalidValueError):
        parse_tokens(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("80GB", 80 * 10**9),
        ("80GiB", 80 * 2**30),
        ("80Gi", 80 * 2**30),
        ("80gb", 80 * 10**9),
        ("512mib", 512 * 2**20),
        ("80 GiB", 80 * 2**30),
        ("1.5MB", 1_500_000),
        ("3kB", 3_000),
        ("3KB", 3_000),
        ("3KiB", 3_072),
        ("3MiB", 3_145_728),
        ("3TB", 3 * 10**12),
        ("3TiB", 3 * 2**40),
        ("512B", 512),
        ("1048576", 2**20),
        (2**30, 2**30),
        ("0", 0),
        (0, 0),
    ],
)
def test_byte_counts(text, number):
    assert parse_bytes(text, "budget") == number


@pytest.mark.parametrize("text", ["7", 7, "40", "1048575", 2**20 - 1])
def test_a_number_of_few_bytes_is_asked_for_its_unit(text):
    with pytest.raises(InvalidValueError) as caught:
        parse_bytes(text, "budget")
    assert str(caught.value) == f"budget would be {int(text):,} bytes"
    assert caught.value.help.startswith(f"add a unit: {text}GB (10^9 bytes each), {text}GiB (2^30)")


def test_8b_of_weights_are_parameters():
    with pytest.raises(InvalidValueError) as caught:
        parse_bytes("8B", "weights")
    assert str(caught.value) == "weights would be 8 bytes; 8 billion parameters in bf16 are 16GB"
    assert parse_bytes("0B", "weights") == 0
    assert parse_bytes("512B", "reserve") == 512
    assert parse_bytes("85044711680B", "weights") == 85_044_711_680


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("163,840", [163_840]),
        ("1,048,576", [1_048_576]),
        ("1K,32K", [1024, 32_768]),
        ("512,1024", [512, 1024]),
        ("8192,32768", [8192, 32_768]),
        ("1,8", [1, 8]),
        ("128k, 1M", [128_000, 2**20]),
    ],
)
def test_commas_stand_between_thousands_or_between_numbers(text, numbers):
    assert parse_token_list(text) == numbers


@pytest.mark.parametrize("text", ["1,024,8192", "1,000,2,000", "64,128,2048", "163,840,1K", "1,0", "8192,,3"])
def test_what_may_be_one_number_or_several_is_refused(text):
    with pytest.raises(InvalidValueError):
        parse_token_list(text)


@pytest.mark.parametrize("text", ["1,8", "18,", "1,2,3", "10,00", "1,0000"])
def test_a_list_is_no_number(text):
    with pytest.raises(InvalidValueError, match="batch must be a positive whole number"):
        parse_tokens(text, "batch")


@pytest.mark.parametrize("text", ["80G", "80Gb", "GB", "-1GB", "1e9", "", -1, True, 1.5])
def test_what_is_no_byte_count(text):
    with pytest.raises(InvalidValueError):
        parse_bytes(text, "budget")


def test_both_units_are_always_named():
    assert both_units(7_027_200_000) == "7,027,200,000 bytes (7.03 GB, 6.54 GiB)"
    assert both_units(1) == "1 byte"
    assert both_units(999) == "999 bytes"
    assert both_units(1000) == "1,000 bytes (1.00 kB, 1,000 B)"


def test_the_largest_count_is_a_million_millions():
    assert positive_int(10**12, "tokens") == 10**12
    for value in (0, 10**12 + 1, True, 1.0):
        with pytest.raises(InvalidValueError, match="tokens must be"):
            positive_int(value, "tokens")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (671_026_419_200, "671B"),
        (8_030_261_248, "8.03B"),
        (1_000_000_000_000, "1T"),
        (596_049_920, "596M"),
        (999_885_952, "1B"),
        (999_499_999, "999M"),
        (999_999, "999,999"),
    ],
)
def test_parameters_are_shown_as_models_are_named(number, shown):
    assert short_count(number) == shown


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (671 * 10**9, "671GB"),
        (8 * 2**30, "8GiB"),
        (16_100_000_000, "16100MB"),
        (16_060_522_497, "16060522497B"),
        (0, "0B"),
    ],
)
def test_bytes_are_written_short_and_exact(number, written):
    assert exact_bytes(number) == written
    assert parse_bytes(written, "weights") == number or number < 2**20
