"""docs/images.md: its tables are what the code says.

``python tests/applications/test_images_docs.py`` prints both tables anew.
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


def rivals_of(name: str, rate: float) -> list[str]:
    """One row: PSNR and SSIM of each format in as many bytes."""
    picture = sample(name, SIZE)
    budget = int(rate * SIZE * SIZE / 8)
    rivals = compare(picture, compress(picture, size=budget), budget)
    cells = [f"{r.psnr:.2f} / {r.ssim:.3f}" if r.psnr is not None else "-" for r in rivals]
    return [name, f"{rate}", *cells]


def ranks_of(name: str) -> list[list[str]]:
    """The classic table: rank, numbers stored, their share of the pixels, error, PSNR."""
    return [
        [str(r.rank), f"{r.numbers:,}", f"{100 * r.share:.1f} %", f"{r.error:.4f}", f"{r.psnr:.2f}"]
        for r in rank_images(sample(name, SIZE)[..., 1], RANKS)
    ]


def table(head: str) -> list[list[str]]:
    """The rows of the page's table that begins so."""
    lines = PAGE.read_text("utf-8").partition(head)[2].splitlines()[2:]
    end = lines.index("") if "" in lines else len(lines)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def numbers(cell: str) -> list[float]:
    return [float(word.replace(",", "")) for word in re.findall(r"\d[\d,]*\.?\d*", cell)]


@pytest.mark.parametrize(("name", "rate"), [(n, r) for n in SAMPLES for r in RATES])
def test_the_table_of_rivals(name, rate):
    (shown,) = (row for row in table("| picture | bits a pixel |") if row[:2] == [name, f"{rate}"])
    for ours, theirs in zip(shown[2:], rivals_of(name, rate)[2:], strict=True):
        assert (ours == "-") == (theirs == "-")
        if ours == "-":
            continue
        # Another LAPACK may round a basis vector otherwise, another Pillow may bring another encoder.
        (p, s), (q, t) = numbers(ours), numbers(theirs)
        assert p == pytest.approx(q, abs=0.3) and s == pytest.approx(t, abs=0.01)


def test_every_row_is_tested():
    rows = table("| picture | bits a pixel |")
    assert [row[:2] for row in rows] == [[n, f"{r}"] for n in SAMPLES for r in RATES]


def test_the_table_of_ranks():
    shown = table("| rank | numbers |")
    for ours, theirs in zip(shown, ranks_of("still"), strict=True):
        assert ours[:3] == theirs[:3]
        assert [float(x) for x in ours[3:]] == pytest.approx([float(x) for x in theirs[3:]], abs=0.011)


def test_the_means_that_are_stated():
    """The sentence under the table: by how much eckart is over JPEG and WebP, on average."""
    text = " ".join(PAGE.read_text("utf-8").split())
    said = re.search(
        r"eckart is ([\d.]+) dB over JPEG and ([\d.]+) dB under WebP; with `page` left out as well, "
        r"it is ([\d.]+) dB over JPEG and ([\d.]+) dB over WebP",
        text,
    )
    means = []
    for without in (["glow"], ["glow", "page"]):
        rows = [row for row in table("| picture | bits a pixel |") if row[0] not in without]
        for column in (3, 4):
            gaps = [numbers(row[2])[0] - numbers(row[column])[0] for row in rows]
            means.append(sum(gaps) / len(gaps))
    means[1] *= -1  # "under"
    assert said and [float(x) for x in said.groups()] == pytest.approx(means, abs=0.051)


if __name__ == "__main__":
    for name in SAMPLES:
        for rate in RATES:
            print("| " + " | ".join(rivals_of(name, rate)) + " |")
    for row in ranks_of("still"):
        print("| " + " | ".join(row) + " |")
