"""`eckart image` reads and writes pictures and .eki files, and reports errors in one line."""

from __future__ import annotations

import builtins
import json
import os
import re
import struct
import zlib

import numpy as np
import pytest

from eckart.applications.images import decompress, psnr, read_picture, write_picture
from eckart.applications.images.pictures import READ, encode_png
from eckart.applications.images.samples import sample
from support.pictures import alpha, grey, wide
from support.terminal import run, start, tree

Image = pytest.importorskip("PIL.Image")
PHOTO = sample("still", 48)


@pytest.fixture
def place(tmp_path):
    write_picture(tmp_path / "photo.png", PHOTO)
    return tmp_path


def test_round_trip_through_a_file(place):
    done = run("image", place / "photo.png", "-o", place / "photo.eki", "--psnr", 34, "--json")
    document = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    data = (place / "photo.eki").read_bytes()
    assert document["bytes"] == len(data) and document["shape"] == [48, 48, 3]
    assert document["psnr"] == psnr(PHOTO, decompress(data)) >= 34
    assert [plane["name"] for plane in document["planes"]] == ["Y", "Cb", "Cr"]
    back = run("image", place / "photo.eki", "--output", place / "back.png")
    assert (back.code, back.err) == (0, "") and "48x48x3, uint8" in back.out
    assert (read_picture(place / "back.png")[0] == decompress(data)).all()


def test_help_has_an_example():
    done = run("image", "--help")
    assert done.code == 0 and "eckart image photo.jpg -o photo.eki" in " ".join(done.out.split())


def test_the_table_and_the_json_document_agree(place):
    done = run("image", place / "photo.png", "--size", "1.2KB", "--compare")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("not written: 48x48x3, ") and "bits per pixel" in lines[0]
    document = json.loads(run("image", place / "photo.png", "--size", "1200", "--compare", "--json").out)
    assert document["bytes"] <= 1200
    names = [result["name"] for result in document["compare"]]
    assert names == ["eckart", "JPEG", "WebP", "SVD, float16"]
    (row,) = (line.split() for line in lines if line.startswith("eckart"))
    figures = [f"{document['bytes']:,}", f"{document['bits_per_pixel']:.3f}", f"{document['psnr']:.2f}"]
    assert row[1:4] == figures
    assert sorted(p.name for p in place.iterdir()) == ["photo.png"]


def test_a_picture_of_a_given_rank_is_written(place):
    done = run("image", place / "photo.png", "-o", place / "rank2.png", "--rank", 2)
    assert done.code == 0 and done.err.startswith("note: ")
    assert "rank" in done.out and read_picture(place / "rank2.png")[0].shape == (48, 48, 3)
    assert run("image", place / "photo.png", "-o", place / "x.jpg", "--rank", 2, "-q").err == ""
    assert (place / "x.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_a_lossless_result_has_no_psnr_in_json(place):
    write_picture(place / "flat.png", np.full((20, 20), 9, np.uint8))
    document = json.loads(run("image", place / "flat.png", "--psnr", 90, "--json").out)
    assert document["exact"] and document["psnr"] is None


KINDS = {
    "grey": grey("hills", 40),
    "colour and alpha": alpha(PHOTO),
    "grey and alpha": alpha(grey("still", 40)),
    "16 bits": wide(grey("hills", 40)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_survives_a_round_trip(place, kind):
    picture = KINDS[kind]
    write_picture(place / "p.png", picture)
    assert run("image", place / "p.png", "-o", place / "p.eki", "--psnr", 32).code == 0
    assert run("image", place / "p.eki", "-o", place / "back.png").code == 0
    back, notes = read_picture(place / "back.png")
    assert notes == [] and back.dtype == picture.dtype and back.shape == picture.shape
    assert psnr(picture, back) >= 32


def save(place, name, picture, **options):
    picture.save(place / name, **options)
    return place / name


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("p.gif", "P", "has mode P; converted to colour"),
        ("p.jpg", "CMYK", "has mode CMYK; converted to colour"),
        ("p.png", "1", "is black and white; converted to grey"),
        ("p.tif", "LAB", "has mode LAB; converted to colour"),
    ],
)
def test_other_modes_are_converted_with_a_note(place, name, mode, message):
    rgb = Image.fromarray(PHOTO)
    converted = Image.merge("LAB", rgb.split()) if mode == "LAB" else rgb.convert(mode)
    done = run("image", save(place, name, converted), "-o", place / "p.eki", "--rank", 2)
    assert done.code == 0, done.err
    assert f"note: {place / name} {message}" in done.err
    if mode == "1":
        assert run("image", place / name, "-q", "--rank", 2).err == ""


def test_the_transparency_of_a_palette_is_kept(place):
    picture = Image.fromarray(PHOTO).convert("P")
    done = run("image", save(place, "p.png", picture, transparency=3), "--psnr", 30, "--json")
    assert json.loads(done.out)["shape"] == [48, 48, 4] and "colour and alpha" in done.err


def test_an_exif_rotation_is_applied(place):
    picture = Image.fromarray(np.ascontiguousarray(PHOTO[:40]))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(save(place, "p.jpg", picture, exif=exif))[0].shape == (48, 40, 3)


def sixteen_bits(kind: int = 2, channels: int = 3) -> bytes:
    """Return a PNG of 2 x 2 pixels with 16 bits per channel, which Pillow cannot write; kind 2 is colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(4 * channels) for _ in range(2))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_the_loss_of_16_bit_colour_is_noted(place, kind, channels):
    (place / "p.png").write_bytes(sixteen_bits(kind, channels))
    done = run("image", place / "p.png")
    assert done.code == 0 and "16 bits per channel; Pillow reads 8" in done.err


def bomb(side: int) -> bytes:
    """Return a small PNG file whose header claims a huge picture."""
    data = bytearray(sixteen_bits())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


PNG = encode_png(PHOTO)
BAD = [
    ("no such file", None, [], "there is no such file or folder"),
    ("text", b"hello", [], "not a picture"),
    ("empty file", b"", [], "not a picture"),
    ("truncated picture", PNG[: len(PNG) // 2], [], "the file is damaged"),
    ("decompression bomb", bomb(60_000), [], "over the limit"),
    ("small decompression bomb", bomb(9_000), [], "9000 x 9000"),
    ("two targets", PNG, ["--psnr", 30, "--rank", 3], "rank and psnr"),
    ("negative decibels", PNG, ["--psnr", -1], "decibels"),
    ("energy above 1", PNG, ["--energy", 2], "--energy 2"),
    ("size that is not a number", PNG, ["--size", "many"], "40KB"),
    ("size as a share", PNG, ["--size", "5%"], "40KB"),
    ("size too small", PNG, ["--size", "50"], "the smallest file has"),
    ("output without suffix", PNG, ["-o", "out"], ".eki"),
    ("output with unknown suffix", PNG, ["-o", "out.svg"], ".eki"),
    ("output in a missing folder", PNG, ["-o", "no/where/out.eki"], "its folder does not exist"),
    ("output exists", PNG, ["-o", "photo.png"], "--overwrite"),
]


@pytest.mark.parametrize(
    ("data", "options", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_input_is_reported_in_one_line_and_nothing_is_written(place, monkeypatch, data, options, message):
    monkeypatch.chdir(place)
    if data is not None:
        (place / "in.png").write_bytes(data)
    before = tree(place)
    done = run("image", "in.png", *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1 and message in done.err
    assert tree(place) == before


@pytest.mark.parametrize("error", [RuntimeError("frame 0"), struct.error("short"), AttributeError("x")])
def test_any_exception_from_pillow_is_reported_in_one_line(place, monkeypatch, error):
    """Pillow's readers, for some forty formats, raise many types on damaged files: AVIF's a RuntimeError."""

    def fails(*_):
        raise error

    monkeypatch.setattr(Image.Image, "load", fails)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    done = run("image", place / "photo.png")
    assert done.code == 2 and done.err.count("\n") == 1 and "photo.png`: the file is damaged" in done.err


def test_postscript_is_refused(place):
    """Pillow passes PostScript to Ghostscript, which would execute it."""
    (place / "p.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    done = run("image", place / "p.png")
    assert done.code == 2 and "PostScript" in done.err and "PNG" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "-o photo.png"),
        (["-o", "x.eki"], "-o photo.png"),
        (["-o", "x.png", "--psnr", 30], "--psnr needs the original. Remove --psnr, or pass"),
        (["-o", "x.png", "--compare"], "--compare needs the original. Remove --compare, or pass"),
        (
            ["-o", "x.png", "--size", "4KB", "--compare"],
            "--size and --compare need the original. Remove --size and --compare, or pass",
        ),
    ],
)
def test_options_that_need_the_original_are_refused_for_an_eki_file(place, monkeypatch, options, message):
    monkeypatch.chdir(place)
    assert run("image", "photo.png", "-o", "photo.eki", "--psnr", 25).code == 0
    before = tree(place)
    done = run("image", "photo.eki", *options)
    assert (done.code, done.out) == (2, "") and done.err.count("\n") == 1 and message in done.err
    assert tree(place) == before


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_truncated_eki_file_is_refused(place, length):
    run("image", place / "photo.png", "-o", place / "photo.eki", "--psnr", 25)
    data = (place / "photo.eki").read_bytes()
    (place / "photo.eki").write_bytes(data[:length])
    done = run("image", place / "photo.eki", "-o", place / "back.png")
    assert done.code == 2 and done.err.count("\n") == 1 and "photo.eki" in done.err
    assert not (place / "back.png").exists()


def test_jpeg_is_refused_for_16_bits_and_for_alpha(place):
    write_picture(place / "wide.png", wide(grey("hills", 40)))
    done = run("image", place / "wide.png", "-o", place / "x.jpg", "--psnr", 30)
    assert done.code == 2 and "16 bits" in done.err and not (place / "x.jpg").exists()
    write_picture(place / "alpha.png", alpha(PHOTO))
    done = run("image", place / "alpha.png", "-o", place / "x.jpg", "--psnr", 30)
    assert done.code == 2 and "no alpha" in done.err and not (place / "x.jpg").exists()


@pytest.mark.parametrize("library", ["PIL", "constriction"])
def test_a_missing_library_is_reported_with_its_extra(place, monkeypatch, library):
    original_import = builtins.__import__

    def import_without_library(name, *args, **options):
        if name.split(".")[0] == library:
            raise ImportError(name)
        return original_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", import_without_library)
    done = run("image", place / "photo.png", "-o", place / "x.eki")
    assert (
        done.code == 2 and re.search(r"pip install '\S*\[images\]'", done.err) and done.err.count("\n") == 1
    )


def test_a_process_prints_the_same_without_colour(place):
    done = start("image", place / "photo.png", "-o", place / "x.eki", "--psnr", 30)
    assert (done.returncode, done.stderr) == (0, "") and "\x1b" not in done.stdout
    again = run("image", place / "photo.png", "-o", place / "x.eki", "--psnr", 30, "--overwrite")
    assert (again.code, again.out) == (0, done.stdout)


@pytest.mark.parametrize("format", ["SPIDER", "DDS", "PCX", "SGI", "ICO", "MSP", "XBM"])
def test_only_the_listed_formats_are_read(format, place):
    """Pillow recognises a file by its content, whatever its name is."""
    mode = {"SPIDER": "F", "MSP": "1", "XBM": "1"}.get(format, "RGB")
    Image.fromarray(PHOTO).convert(mode).save(place / "other", format)
    (place / "other").rename(place / "in.png")
    done = run("image", place / "in.png")
    assert done.code == 2 and "is read (PNG, JPEG, WEBP, AVIF, TIFF" in done.err


@pytest.mark.parametrize("format", READ)
@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5])
def test_a_picture_that_is_cut_short_gives_one_line(format, kept, place):
    Image.fromarray(PHOTO).save(place / "whole", format)
    data = (place / "whole").read_bytes()
    (place / "in.png").write_bytes(data[: int(kept * len(data))])
    done = run("image", place / "in.png")
    assert done.code == 2 and done.err.startswith("eckart: `") and done.err.count("\n") == 1
    assert "the file is damaged" in done.err or "not a picture of a format that is read" in done.err


def test_a_small_file_that_promises_a_large_picture_is_refused(place):
    frame = Image.new("P", (2, 2))
    frame.save(place / "in.gif")
    data = bytearray((place / "in.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 8000, 8000)  # the screen, of which the frame fills a corner
    (place / "in.gif").write_bytes(data)
    done = run("image", place / "in.gif")
    assert done.code == 2 and f"8000 x 8000 pixels, too many for a file of {len(data)} bytes" in done.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["in.png", "in.eki"])
def test_a_pipe_is_not_read(name, tmp_path):
    os.mkfifo(tmp_path / name)
    done = run("image", tmp_path / name, "-o", tmp_path / "out.png")
    assert done.code == 2 and "expected a regular file, found a pipe" in done.err
