"""The tables in docs/images.md agree with what the code computes.

``python tests/applications/test_images_docs.py`` prints both tables.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eckart.applications.images import compare, compress, rank_images
from eckart.applications.images.samples import SAMPLES, sample

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "images.md"
SIZE = 256
RATES = (0.5, 1.5)
RANKS = (1, 5, 20, 50, 100)


def format_row(name: str, rate: float) -> list[str]:
    """Return one row: PSNR and SSIM of each format at the same number of bytes."""
    picture = sample(name, SIZE)
    budget = int(rate * SIZE * SIZE / 8)
    results = compare(picture, compress(picture, size=budget), budget)
    cells = [f"{r.psnr:.2f} / {r.ssim:.3f}" if r.psnr is not None else "-" for r in results]
    return [name, f"{rate}", *cells]


def rank_rows(name: str) -> list[list[str]]:
    """Return the table of ranks: rank, numbers stored, their share of the pixels, error, PSNR."""
    return [
        [str(r.rank), f"{r.numbers:,}", f"{100 * r.share:.1f} %", f"{r.error:.4f}", f"{r.psnr:.2f}"]
        for r in rank_images(sample(name, SIZE)[..., 1], RANKS)
    ]


def table(header: str) -> list[list[str]]:
    """Return the rows of the table on the page whose header starts with this text."""
    lines = PAGE.read_text("utf-8").partition(header)[2].splitlines()[2:]
    end = lines.index("") if "" in lines else len(lines)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def numbers(cell: str) -> list[float]:
    return [float(word.replace(",", "")) for word in re.findall(r"\d[\d,]*\.?\d*", cell)]


@pytest.mark.parametrize(("name", "rate"), [(n, r) for n in SAMPLES for r in RATES])
def test_the_comparison_of_formats_is_current(name, rate):
    (shown,) = (row for row in table("| picture | bits per pixel |") if row[:2] == [name, f"{rate}"])
    for on_page, computed in zip(shown[2:], format_row(name, rate)[2:], strict=True):
        assert (on_page == "-") == (computed == "-")
        if on_page == "-":
            continue
        # Another LAPACK may round a basis vector differently, and another Pillow may contain another encoder.
        (p, s), (q, t) = numbers(on_page), numbers(computed)
        assert p == pytest.approx(q, abs=0.3) and s == pytest.approx(t, abs=0.01)


def test_every_row_of_the_comparison_is_tested():
    rows = table("| picture | bits per pixel |")
    assert [row[:2] for row in rows] == [[n, f"{r}"] for n in SAMPLES for r in RATES]


def test_the_table_of_ranks_is_current():
    shown = table("| rank | numbers |")
    for on_page, computed in zip(shown, rank_rows("still"), strict=True):
        assert on_page[:3] == computed[:3]
        # Errors and PSNR are shown with 4 and 2 decimals: they may differ by one in the last place.
        differences = [abs(float(x) - float(y)) for x, y in zip(on_page[3:], computed[3:], strict=True)]
        assert differences[0] < 1.1e-4 and differences[1] < 0.011


def test_the_stated_averages_are_those_of_the_table():
    """The sentence below the table states the average lead over JPEG and over WebP."""
    text = " ".join(PAGE.read_text("utf-8").split())
    stated = re.search(
        r"eckart is ([\d.]+) dB above JPEG and ([\d.]+) dB below WebP; without `page` as well, "
        r"it is ([\d.]+) dB above JPEG and ([\d.]+) dB above WebP",
        text,
    )
    means = []
    for without in (["glow"], ["glow", "page"]):
        rows = [row for row in table("| picture | bits per pixel |") if row[0] not in without]
        for column in (3, 4):
            gaps = [numbers(row[2])[0] - numbers(row[column])[0] for row in rows]
            means.append(sum(gaps) / len(gaps))
    means[1] *= -1  # "below"
    assert stated and [float(x) for x in stated.groups()] == pytest.approx(means, abs=0.051)


if __name__ == "__main__":
    for name in SAMPLES:
        for rate in RATES:
            print("| " + " | ".join(format_row(name, rate)) + " |")
    for row in rank_rows("still"):
        print("| " + " | ".join(row) + " |")
