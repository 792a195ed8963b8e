"""`eckart image`: a picture to few bytes by the SVD of its blocks, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.applications.images import (
    CompressedImage,
    compare,
    compress,
    decompress,
    read_picture,
    write_picture,
)
from eckart.applications.images.layers import STEP_UNIT
from eckart.applications.images.pictures import PICTURES
from eckart.checkpoint.write import write_bytes
from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import ImageError, OutputError, UsageError
from eckart.rank.budget import Amount, Unit

GOAL = "How far to compress (give one)"


def image(
    photo: Annotated[
        Path,
        typer.Argument(help="A picture (PNG, JPEG, WebP, TIFF, ...), or an .eki file.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help=".eki: the compressed file; .png, .jpg, .webp: what it decodes to.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank",
            help="This many of the 64 components of each block.",
            rich_help_panel=GOAL,
            show_default=False,
        ),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            "--energy",
            help="Keep this share of the sum of squares, e.g. 0.99.",
            rich_help_panel=GOAL,
            show_default=False,
        ),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option(
            "--psnr",
            help="Reach this many decibels.",
            rich_help_panel=GOAL,
            show_default="38, if nothing is given",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Use at most these bytes, e.g. 40KB.", rich_help_panel=GOAL, show_default=False
        ),
    ] = None,
    compare_: Annotated[
        bool, typer.Option("--compare", help="Show what JPEG, WebP and a plain SVD make of as many bytes.")
    ] = False,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Compress a picture by the SVD of its blocks, or decode one.

    Colour is coded as brightness and two differences, each in the basis of its own blocks' SVD, with one step
    for all coefficients. An .eki file decodes to the same samples on every machine. Needs eckart[images].

    Examples: **eckart image photo.jpg -o photo.eki --psnr 38** ·
    **eckart image photo.eki -o photo.png** · **eckart image photo.png --size 40KB --compare**
    """
    _check_out(out, overwrite)
    goal: dict[str, Any] = {"rank": rank, "energy": energy, "psnr": psnr, "size": _bytes_of(size)}
    if photo.suffix.lower() == ".eki":
        _decode(photo, out, goal, compare_, quiet, json)
        return
    picture, notes = read_picture(photo)
    for note in notes:
        console.say(f"note: {note}", quiet)
    done = compress(picture, **goal)
    rivals = compare(picture, done) if compare_ else []
    if out is not None and out.suffix.lower() == ".eki":
        write_bytes(out, done.bytes)
    elif out is not None:
        write_picture(out, done.decode())
        console.say(
            f"note: {out} holds what the picture decodes to; give an .eki file to keep its bytes", quiet
        )
    if json:
        said = _statement(done, photo, out, notes)
        if compare_:
            said["compare"] = [vars(rival) for rival in rivals]
        console.print_json(said)
        return
    _print(done, out)
    if rivals:
        console.out().print()
        console.print_table(
            ["format", "bytes", "bits a pixel", "PSNR", "SSIM", ""],
            [_row(rival.name, rival.bytes, done, rival.psnr, rival.ssim, rival.why_not) for rival in rivals],
        )


def _decode(
    photo: Path, out: Path | None, goal: dict[str, Any], compared: bool, quiet: bool, json: bool
) -> None:
    given = [f"--{name}" for name, value in goal.items() if value is not None] + ["--compare"] * compared
    if given:
        raise UsageError(str(photo), f"is compressed already, and {' and '.join(given)} needs the original")
    if out is None or out.suffix.lower() == ".eki":
        raise UsageError(
            str(photo), "is compressed already", f"Name a picture to decode it to: -o {photo.stem}.png"
        )
    try:
        data = photo.read_bytes()
    except OSError as error:
        raise ImageError(
            str(photo), f"cannot be read ({error.strerror or error})", "Check the path"
        ) from None
    picture = decompress(data, str(photo))
    write_picture(out, picture)
    if json:
        console.print_json(
            {"image": str(photo), "out": str(out), "shape": list(picture.shape), "dtype": str(picture.dtype)}
        )
        return
    console.out().print(f"{out}: {console.shape(picture.shape)}, {picture.dtype}", markup=False)


def _print(done: CompressedImage, out: Path | None) -> None:
    name = "not written" if out is None else str(out)
    console.out().print(
        f"{name}: {console.shape(done.shape)}, {len(done.bytes):,} bytes, {done.bits_per_pixel:.3f} bits a pixel\n"
        f"PSNR {_decibels(done.psnr)} dB, SSIM {console.figure(done.ssim, 4) or '-'}, "
        f"energy {console.percent(done.energy, 2)}",
        markup=False,
    )
    rows = [
        [name, "factors" if layer.size == 0 else f"{layer.size}x{layer.size} blocks", layer.rank,
         console.figure(layer.step / STEP_UNIT)]
        for name, layer in zip(done.planes, done.layers, strict=True)
    ]  # fmt: skip
    console.print_table(["plane", "as", "rank", "step"], rows)


def _row(
    name: str, size: int | None, done: CompressedImage, psnr: float | None, ssim: float | None, why_not: str
) -> list[Any]:
    pixels = done.shape[0] * done.shape[1]
    return [
        name, None if size is None else f"{size:,}", None if size is None else f"{8 * size / pixels:.3f}",
        None if psnr is None else _decibels(psnr), console.figure(ssim, 4), why_not,
    ]  # fmt: skip


def _statement(done: CompressedImage, photo: Path, out: Path | None, notes: list[str]) -> dict[str, Any]:
    exact = done.psnr == float("inf")  # which JSON has no number for
    return {
        "image": str(photo), "out": None if out is None else str(out), "shape": list(done.shape),
        "bytes": len(done.bytes), "bits_per_pixel": done.bits_per_pixel,
        "psnr": None if exact else done.psnr, "exact": exact, "ssim": done.ssim, "energy": done.energy,
        "planes": [
            {"name": name, "as": "factors" if layer.size == 0 else "blocks", "block": layer.size or None,
             "rank": layer.rank, "step": layer.step / STEP_UNIT}
            for name, layer in zip(done.planes, done.layers, strict=True)
        ],
        "notes": notes,
    }  # fmt: skip


def _decibels(psnr: float | None) -> str:
    return "-" if psnr is None else f"{psnr:.2f}"


def _bytes_of(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        amount = Amount.parse(text)
    except UsageError:
        amount = None
    if amount is None or amount.unit is Unit.SHARE:
        raise UsageError(f"--size {text}", "expected a number of bytes", "Write for example 40KB")
    return int(amount.number)


def _check_out(out: Path | None, overwrite: bool) -> None:
    """Refuse at once what could only be refused after the work."""
    if out is None:
        return
    if out.suffix.lower() not in (".eki", *PICTURES):
        raise UsageError(str(out), f"expected a name that ends in .eki, {', '.join(PICTURES)}")
    if out.exists() and not overwrite:
        raise OutputError(str(out), "is there already", "Give --overwrite, or another path")
    if not out.parent.is_dir():
        raise OutputError(str(out), "its folder is not there", f"Make it: mkdir -p {out.parent}")
