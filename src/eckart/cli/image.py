"""`eckart image`: compress a picture by the SVD of its blocks, or decode a compressed one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eckart.checkpoint import refuse_overlap
from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.write import write_bytes
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.tables import Cell, Cells, Column, print_table
from eckart.errors import ImageError, UsageError
from eckart.paths import require
from eckart.rank.budget import Amount, Unit
from eckart.strictjson import read_bytes

if TYPE_CHECKING:  # imported where they are used, so that other commands start faster
    from eckart.applications.images import CompressedImage, FormatResult

TARGET = "How far to compress (give one)"
SUFFIX = ".eki"
FORMATS = (
    Column("format", Cells.PHRASE),
    Column("bytes"),
    Column("bits per pixel"),
    Column("PSNR"),
    Column("SSIM"),
    Column("", Cells.WORDS),
)
PLANES = (Column("plane", Cells.PHRASE), Column("coded as", Cells.PHRASE), Column("rank"), Column("step"))


def image(
    photo: Annotated[
        Path,
        typer.Argument(help="A picture (PNG, JPEG, WebP, TIFF, ...) or an .eki file.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .eki for the compressed picture; .png, .jpg or .webp for the decoded one.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank",
            help="Keep this many of the 64 components of each 8 x 8 block.",
            rich_help_panel=TARGET,
            show_default=False,
        ),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            "--energy",
            help="Keep this share of the sum of squares about the mean, e.g. 0.99.",
            metavar="SHARE",
            parser=opt.share("energy"),
            rich_help_panel=TARGET,
            show_default=False,
        ),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option(
            "--psnr",
            help="Reach this PSNR in decibels.",
            rich_help_panel=TARGET,
            show_default="38 if no target is given",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Use at most this many bytes, e.g. 40KB.",
            rich_help_panel=TARGET,
            show_default=False,
        ),
    ] = None,
    compare_: Annotated[
        bool, typer.Option("--compare", help="Compare with JPEG, WebP and a truncated SVD at the same size.")
    ] = False,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Compress a picture by the SVD of its blocks, or decode a compressed one.

    Colour is coded as brightness and two colour differences. Each of them is written in the basis of the SVD
    of its own blocks, and one step quantises all coefficients. An .eki file decodes to the same samples on
    every machine. Needs eckart[images].

    Examples: **eckart image photo.jpg -o photo.eki --psnr 38** ·
    **eckart image photo.eki -o photo.png** · **eckart image photo.png --size 40KB --compare**
    """
    from eckart.applications.images import compare, compress, read_picture, write_picture
    from eckart.applications.images.pictures import PICTURE

    require(photo, ImageError)
    if output is not None:
        refuse_overlap(output, [photo])
        _check_output(output, overwrite)
    size_in_bytes = _bytes_of(size)
    if photo.suffix.lower() == SUFFIX:
        options = (("--rank", rank), ("--energy", energy), ("--psnr", psnr), ("--size", size))
        given = [name for name, value in options if value is not None]
        _decode(photo, output, overwrite, [*given, "--compare"] if compare_ else given, json)
        return
    picture, notes = read_picture(photo)
    for note in notes:
        console.say(f"note: {note}", quiet)
    compressed = compress(picture, rank=rank, energy=energy, psnr=psnr, size=size_in_bytes)
    results = compare(picture, compressed) if compare_ else []
    if output is not None and output.suffix.lower() == SUFFIX:
        with OutputFile(output, PICTURE, overwrite) as staged:
            write_bytes(staged, compressed.bytes)
    elif output is not None:
        write_picture(output, compressed.decode(), overwrite=overwrite)
        console.say(
            f"note: {output} contains the decoded picture; "
            "use -o with an .eki file to keep the compressed one",
            quiet,
        )
    if json:
        document = _document(compressed, photo, output, notes)
        if compare_:
            document["compare"] = [vars(result) for result in results]
        console.print_json(document)
        return
    _print(compressed, output)
    if results:
        console.out().print()
        print_table(
            FORMATS, [_row(result, compressed) for result in results], drop=["SSIM", "bits per pixel"]
        )


def _decode(photo: Path, output: Path | None, overwrite: bool, refused: list[str], json: bool) -> None:
    """Decode an .eki file to a picture file."""
    from eckart.applications.images import decompress, write_picture
    from eckart.applications.images.pictures import MAX_BYTES

    if refused:
        names = " and ".join(refused)
        verb = "needs" if len(refused) == 1 else "need"
        raise UsageError(
            str(photo),
            f"the picture is compressed already, and {names} {verb} the original",
            f"Remove {names}, or pass the original picture",
        )
    if output is None or output.suffix.lower() == SUFFIX:
        raise UsageError(
            str(photo), "the picture is compressed already", f"Use -o {photo.stem}.png to decode it"
        )
    picture = decompress(read_bytes(photo, ImageError, MAX_BYTES), str(photo))
    write_picture(output, picture, overwrite=overwrite)
    if json:
        console.print_json(
            {
                "image": str(photo),
                "out": str(output),
                "shape": list(picture.shape),
                "dtype": str(picture.dtype),
            }
        )
        return
    console.out().print(f"{output}: {console.shape(picture.shape)}, {picture.dtype}", markup=False)


def _print(compressed: CompressedImage, output: Path | None) -> None:
    from eckart.applications.images.layers import STEP_UNIT, LayerKind

    name = "not written" if output is None else str(output)
    shape, size = console.shape(compressed.shape), len(compressed.bytes)
    console.out().print(
        f"{name}: {shape}, {size:,} bytes, {compressed.bits_per_pixel:.3f} bits per pixel\n"
        f"PSNR {_decibels(compressed.psnr)} dB, SSIM {console.figure(compressed.ssim, 4) or '-'}, "
        f"energy {console.percent(compressed.energy, 2)}",
        markup=False,
    )
    rows: list[list[Cell]] = []
    for plane, layer in zip(compressed.planes, compressed.layers, strict=True):
        kind = "factors" if layer.kind == LayerKind.FACTORS else f"{layer.size}x{layer.size} blocks"
        rows.append([plane, kind, layer.rank, console.figure(layer.step / STEP_UNIT)])
    print_table(PLANES, rows)


def _row(result: FormatResult, compressed: CompressedImage) -> list[str | None]:
    """Return the row of a format in the table of the comparison."""
    if result.bytes is None:
        return [result.name, None, None, None, None, result.why_not]
    pixels = compressed.shape[0] * compressed.shape[1]
    return [
        result.name,
        f"{result.bytes:,}",
        f"{8 * result.bytes / pixels:.3f}",
        _decibels(result.psnr),
        console.figure(result.ssim, 4),
        result.why_not,
    ]


def _document(
    compressed: CompressedImage, photo: Path, output: Path | None, notes: list[str]
) -> dict[str, object]:
    """Return the JSON document."""
    from eckart.applications.images.layers import STEP_UNIT

    exact = compressed.psnr == float("inf")  # JSON has no infinity
    planes = [
        {
            "name": name,
            "as": layer.kind.name.lower(),
            "block": layer.size or None,
            "rank": layer.rank,
            "step": layer.step / STEP_UNIT,
        }
        for name, layer in zip(compressed.planes, compressed.layers, strict=True)
    ]
    return {
        "image": str(photo),
        "out": None if output is None else str(output),
        "shape": list(compressed.shape),
        "bytes": len(compressed.bytes),
        "bits_per_pixel": compressed.bits_per_pixel,
        "psnr": None if exact else compressed.psnr,
        "exact": exact,
        "ssim": compressed.ssim,
        "energy": compressed.energy,
        "planes": planes,
        "notes": notes,
    }


def _decibels(psnr: float | None) -> str:
    return "-" if psnr is None else f"{psnr:.2f}"


def _bytes_of(text: str | None) -> int | None:
    """Read a size such as 40KB."""
    if text is None:
        return None
    try:
        amount = Amount.parse(text)
    except UsageError:
        amount = None
    if amount is None or amount.unit is Unit.SHARE:
        raise UsageError(f"--size {text}", "expected a number of bytes", "Use for example 40KB")
    return int(amount.number)


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuse an output that cannot be written before the picture is compressed."""
    from eckart.applications.images.pictures import PICTURE, PICTURES

    if output.suffix.lower() not in (SUFFIX, *PICTURES):
        raise UsageError(
            str(output),
            f"expected a name that ends in {', '.join((SUFFIX, *PICTURES))}",
            f"Use for example {output.with_suffix(SUFFIX)}",
        )
    OutputFile(output, PICTURE, overwrite).check()
