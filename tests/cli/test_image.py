"""`eckart image`: pictures of every kind in, .eki and pictures out, and one line where it cannot be."""

from __future__ import annotations

import builtins
import json
import struct
import zlib

import numpy as np
import pytest

from eckart.applications.images import decompress, psnr, read_picture, write_picture
from eckart.applications.images.pictures import encode_picture
from eckart.applications.images.samples import sample
from support.pictures import alpha, grey, wide
from support.terminal import run, start, tree

Image = pytest.importorskip("PIL.Image")
PHOTO = sample("still", 48)


@pytest.fixture
def place(tmp_path):
    write_picture(tmp_path / "photo.png", PHOTO)
    return tmp_path


def test_there_and_back(place):
    done = run("image", place / "photo.png", "-o", place / "photo.eki", "--psnr", 34, "--json")
    said = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    data = (place / "photo.eki").read_bytes()
    assert said["bytes"] == len(data) and said["shape"] == [48, 48, 3]
    assert said["psnr"] == psnr(PHOTO, decompress(data)) >= 34
    assert [plane["name"] for plane in said["planes"]] == ["Y", "Cb", "Cr"]
    back = run("image", place / "photo.eki", "-o", place / "back.png")
    assert (back.code, back.err) == (0, "") and "48x48x3, uint8" in back.out
    assert (read_picture(place / "back.png")[0] == decompress(data)).all()


def test_help_has_an_example():
    done = run("image", "--help")
    assert done.code == 0 and "eckart image photo.jpg -o photo.eki" in " ".join(done.out.split())


def test_the_table_shows_the_same(place):
    done = run("image", place / "photo.png", "--size", "1.2KB", "--compare")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("not written: 48x48x3, ") and "bits a pixel" in lines[0]
    said = json.loads(run("image", place / "photo.png", "--size", "1200", "--compare", "--json").out)
    assert said["bytes"] <= 1200
    names = [rival["name"] for rival in said["compare"]]
    assert names == ["eckart", "JPEG", "WebP", "SVD, float16"]
    (row,) = (line.split() for line in lines if line.startswith("eckart"))
    assert row[1:4] == [f"{said['bytes']:,}", f"{said['bits_per_pixel']:.3f}", f"{said['psnr']:.2f}"]
    assert sorted(p.name for p in place.iterdir()) == ["photo.png"]


def test_a_picture_of_rank_k(place):
    done = run("image", place / "photo.png", "-o", place / "rank2.png", "--rank", 2)
    assert done.code == 0 and done.err.startswith("note: ")
    assert "rank" in done.out and read_picture(place / "rank2.png")[0].shape == (48, 48, 3)
    assert run("image", place / "photo.png", "-o", place / "x.jpg", "--rank", 2, "-q").err == ""
    assert (place / "x.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_exactly(place):
    write_picture(place / "flat.png", np.full((20, 20), 9, np.uint8))
    said = json.loads(run("image", place / "flat.png", "--psnr", 90, "--json").out)
    assert said["exact"] and said["psnr"] is None


KINDS = {
    "grey": grey("hills", 40),
    "colour and alpha": alpha(PHOTO),
    "grey and alpha": alpha(grey("still", 40)),
    "16 bits": wide(grey("hills", 40)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_pictures(place, kind):
    picture = KINDS[kind]
    write_picture(place / "p.png", picture)
    assert run("image", place / "p.png", "-o", place / "p.eki", "--psnr", 32).code == 0
    assert run("image", place / "p.eki", "-o", place / "back.png").code == 0
    back, notes = read_picture(place / "back.png")
    assert notes == [] and back.dtype == picture.dtype and back.shape == picture.shape
    assert psnr(picture, back) >= 32


def save(place, name, picture, **how):
    picture.save(place / name, **how)
    return place / name


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("p.gif", "P", "mode P; converted to colour"),
        ("p.jpg", "CMYK", "mode CMYK; converted to colour"),
        ("p.png", "1", "black and white; taken as grey"),
        ("p.tif", "LAB", "mode LAB; converted to colour"),
    ],
)
def test_pictures_that_are_converted(place, name, mode, words):
    rgb = Image.fromarray(PHOTO)
    converted = Image.merge("LAB", rgb.split()) if mode == "LAB" else rgb.convert(mode)
    done = run("image", save(place, name, converted), "-o", place / "p.eki", "--rank", 2)
    assert done.code == 0, done.err
    assert f"note: {place / name} is" in done.err and words in done.err
    if mode == "1":
        assert run("image", place / name, "-q", "--rank", 2).err == ""


def test_transparency_of_a_palette_is_kept(place):
    picture = Image.fromarray(PHOTO).convert("P")
    done = run("image", save(place, "p.png", picture, transparency=3), "--psnr", 30, "--json")
    assert json.loads(done.out)["shape"] == [48, 48, 4] and "colour and alpha" in done.err


def test_a_rotation_that_is_a_tag(place):
    picture = Image.fromarray(np.ascontiguousarray(PHOTO[:40]))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(save(place, "p.jpg", picture, exif=exif))[0].shape == (48, 40, 3)


def sixteen_bits(kind: int = 2, channels: int = 3) -> bytes:
    """A PNG of 2 x 2 pixels, 16 bits a channel, which Pillow does not write; kind 2 is colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(4 * channels) for _ in range(2))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bits_of_colour_are_said_to_be_lost(place, kind, channels):
    (place / "p.png").write_bytes(sixteen_bits(kind, channels))
    done = run("image", place / "p.png")
    assert done.code == 0 and "16 bits a channel; Pillow reads 8" in done.err


def bomb(side: int) -> bytes:
    """A PNG whose head says that it is huge."""
    data = bytearray(sixteen_bits())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


PNG = encode_picture(PHOTO, "PNG")
BAD = [
    ("no such file", None, [], "cannot be read"),
    ("text", b"hello", [], "not a picture"),
    ("empty", b"", [], "not a picture"),
    ("half a picture", PNG[: len(PNG) // 2], [], "is damaged"),
    ("a bomb", bomb(60_000), [], "over"),
    ("a small bomb", bomb(9_000), [], "9000 x 9000"),
    ("two goals", PNG, ["--psnr", 30, "--rank", 3], "rank and psnr"),
    ("no decibels", PNG, ["--psnr", -1], "decibels"),
    ("no energy", PNG, ["--energy", 2], "energy=2"),
    ("no size", PNG, ["--size", "many"], "40KB"),
    ("a share", PNG, ["--size", "5%"], "40KB"),
    ("too small a size", PNG, ["--size", "50"], "the least is"),
    ("no suffix", PNG, ["-o", "out"], ".eki"),
    ("an odd suffix", PNG, ["-o", "out.svg"], ".eki"),
    ("no folder", PNG, ["-o", "no/where/out.eki"], "its folder is not there"),
    ("there already", PNG, ["-o", "photo.png"], "--overwrite"),
]


@pytest.mark.parametrize(("data", "more", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(place, monkeypatch, data, more, words):
    monkeypatch.chdir(place)
    if data is not None:
        (place / "in.png").write_bytes(data)
    before = tree(place)
    done = run("image", "in.png", *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("eckart: `") and done.err.count("\n") == 1 and words in done.err
    assert tree(place) == before


@pytest.mark.parametrize("error", [RuntimeError("frame 0"), struct.error("short"), AttributeError("x")])
def test_whatever_pillow_raises_is_one_line(place, monkeypatch, error):
    """Its readers of some forty formats raise what they like on damaged files: AVIF's a RuntimeError."""

    def fails(*_):
        raise error

    monkeypatch.setattr(Image.Image, "load", fails)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    done = run("image", place / "photo.png")
    assert done.code == 2 and done.err.count("\n") == 1 and "photo.png`: is damaged" in done.err


def test_no_program_is_run_to_read_a_picture(place):
    """Pillow hands PostScript to Ghostscript, which runs it."""
    (place / "p.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    done = run("image", place / "p.png")
    assert done.code == 2 and "PostScript" in done.err and "PNG" in done.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "-o photo.png"),
        (["-o", "x.eki"], "-o photo.png"),
        (["-o", "x.png", "--psnr", 30], "--psnr needs the original"),
        (["-o", "x.png", "--compare"], "--compare needs the original"),
    ],
)
def test_what_cannot_be_asked_of_an_eki_file(place, monkeypatch, more, words):
    monkeypatch.chdir(place)
    assert run("image", "photo.png", "-o", "photo.eki", "--psnr", 25).code == 0
    before = tree(place)
    done = run("image", "photo.eki", *more)
    assert (done.code, done.out) == (2, "") and done.err.count("\n") == 1 and words in done.err
    assert tree(place) == before


@pytest.mark.parametrize("length", [0, 10, -1])
def test_an_eki_file_cut_short(place, length):
    run("image", place / "photo.png", "-o", place / "photo.eki", "--psnr", 25)
    data = (place / "photo.eki").read_bytes()
    (place / "photo.eki").write_bytes(data[:length])
    done = run("image", place / "photo.eki", "-o", place / "back.png")
    assert done.code == 2 and done.err.count("\n") == 1 and "photo.eki" in done.err
    assert not (place / "back.png").exists()


def test_16_bits_go_to_png_or_eki_only(place):
    write_picture(place / "wide.png", wide(grey("hills", 40)))
    done = run("image", place / "wide.png", "-o", place / "x.jpg", "--psnr", 30)
    assert done.code == 2 and "16 bits" in done.err and not (place / "x.jpg").exists()
    write_picture(place / "alpha.png", alpha(PHOTO))
    done = run("image", place / "alpha.png", "-o", place / "x.jpg", "--psnr", 30)
    assert done.code == 2 and "no alpha" in done.err and not (place / "x.jpg").exists()


@pytest.mark.parametrize("library", ["PIL", "constriction"])
def test_a_library_that_is_not_there(place, monkeypatch, library):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == library:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    done = run("image", place / "photo.png", "-o", place / "x.eki")
    assert done.code == 2 and "pip install 'eckart[images]'" in done.err and done.err.count("\n") == 1


def test_as_a_process(place):
    done = start("image", place / "photo.png", "-o", place / "x.eki", "--psnr", 30)
    assert (done.returncode, done.stderr) == (0, "") and "\x1b" not in done.stdout
    again = run("image", place / "photo.png", "-o", place / "x.eki", "--psnr", 30, "--overwrite")
    assert (again.code, again.out) == (0, done.stdout)
