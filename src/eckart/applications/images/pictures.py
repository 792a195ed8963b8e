"""Reading and writing of picture files with Pillow. The size is checked before anything is decoded."""

from __future__ import annotations

import io
import warnings
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from eckart.applications.images.colour import Picture
from eckart.applications.images.file import COPY_AGAIN, MAGIC, MAX_PIXELS, check_expansion, check_size
from eckart.checkpoint.output import OutputFile
from eckart.checkpoint.target import FileKind
from eckart.checkpoint.write import write_bytes
from eckart.errors import ImageError, UsageError
from eckart.extras import missing_extra
from eckart.paths import user_path
from eckart.strictjson import read_bytes
from eckart.text import clip, either

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# Pillow's names of the formats that are read. Its other readers are for rare formats and are less tested. The
# one of PostScript runs another program.
READ = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "QOI", "TGA")
POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # what such files begin with
MAX_BYTES = 600_000_000  # of a picture file: 2^26 pixels of 8 bytes without compression, and a header
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
DIRECT_MODES = ("L", "LA", "RGB", "RGBA")  # Pillow's modes that need no conversion
QUALITY = 95  # of .jpg and .webp files that are written


class Subsampling(IntEnum):
    """The chroma resolution of a JPEG file. The values are Pillow's."""

    DEFAULT = -1
    NONE = 0
    HALVED = 2


def pillow() -> ModuleType:
    """Import and return PIL.Image; raises `MissingExtraError` if Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        raise missing_extra(
            "eckart.applications.images",
            "Pillow, which reads and writes pictures, is not installed",
            "images",
        ) from None
    assert isinstance(Image, ModuleType)
    return Image


def read_picture(path: str | Path) -> tuple[Picture, list[str]]:
    """Read a picture file.

    Parameters
    ----------
    path : str or Path
        A PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP, JPEG 2000, PPM, QOI or TGA file.

    Returns
    -------
    picture : ndarray (m, n) or (m, n, channels), uint8 or uint16
        The samples.
    notes : list of str
        The conversions that were made, one sentence each.

    Raises
    ------
    ImageError
        The file is missing, damaged, not a picture, or has more than 2^26 pixels.
    MissingExtraError
        Pillow is not installed.

    Notes
    -----
    Grey of 8 or 16 bits, colour, and alpha are read without conversion. Palettes, CMYK and other modes are
    converted to colour, with a note. Colour of 16 bits per channel is read as 8 bits, because Pillow has no
    mode for it. A rotation stored as an EXIF tag is applied. The limit on the size is checked against the
    file's header, before any pixel is decoded.
    """
    where, Image = str(path), pillow()
    notes: list[str] = []
    data = read_bytes(user_path(path), ImageError, MAX_BYTES)
    if data.startswith(POSTSCRIPT):
        what = "this is a PostScript file, which would have to be executed"
        raise ImageError(where, what, "Convert it to PNG")
    try:
        with warnings.catch_warnings():
            # Pillow warns about large sizes, which are refused here anyway, and about unusual metadata.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=READ) as opened:
                check_size(opened.height, opened.width, where)
                check_expansion(opened.height, opened.width, len(data), where)
                if getattr(opened, "n_frames", 1) > 1:
                    notes.append(f"{where} has {opened.n_frames} frames; only the first is read")
                if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10" and data[25] in (2, 4, 6):
                    notes.append(f"{where} has 16 bits per channel; Pillow reads 8")
                return _samples(_upright(opened), where, notes), notes
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(
            where, f"the picture is over the limit of {MAX_PIXELS:,} pixels", "Scale it down"
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError(
            where, f"this is not a picture of a format that is read ({either(READ)})", "Convert it to PNG"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise many types on damaged files
        raise ImageError(where, f"the file is damaged ({clip(str(error))})", COPY_AGAIN) from None


def _upright(picture: PillowImage) -> PillowImage:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _samples(picture: PillowImage, where: str, notes: list[str]) -> Picture:
    mode = picture.mode
    if mode in DIRECT_MODES and "transparency" not in picture.info:
        return np.asarray(picture)
    if mode in ("I;16", "I;16L", "I;16B"):
        return np.asarray(picture).astype(np.uint16)
    if mode == "I":
        wide = np.asarray(picture)
        if wide.min() >= 0 and wide.max() <= 65535:
            return wide.astype(np.uint16)
    if mode in ("I", "F"):
        raise ImageError(
            where,
            f"the file contains numbers outside 0..65535 (Pillow's mode {mode})",
            "Convert it to 8 or 16 bits",
        )
    if mode == "1":
        notes.append(f"{where} is black and white; converted to grey")
        return np.asarray(picture.convert("L"))
    has_alpha = "transparency" in picture.info or mode in ("PA", "La", "RGBa")
    notes.append(f"{where} has mode {mode}; converted to {'colour and alpha' if has_alpha else 'colour'}")
    return np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))


def encode_png(picture: Picture) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    target = io.BytesIO()
    _to_pillow(picture).save(target, "PNG")
    return target.getvalue()


def encode_jpeg(
    picture: Picture,
    quality: int,
    subsampling: Subsampling = Subsampling.DEFAULT,
    optimize: bool = False,
) -> bytes:
    """Return a picture as the bytes of a JPEG file.

    Parameters
    ----------
    picture : ndarray (m, n) or (m, n, channels), uint8
        Grey or colour.
    quality : int
        From 1 to 100.
    subsampling : Subsampling
        The chroma resolution.
    optimize : bool
        Whether to optimise the Huffman tables.
    """
    target = io.BytesIO()
    _to_pillow(picture).save(target, "JPEG", quality=quality, subsampling=int(subsampling), optimize=optimize)
    return target.getvalue()


def encode_webp(picture: Picture, quality: int, method: int = 4) -> bytes:
    """Return a picture as the bytes of a WebP file.

    Parameters
    ----------
    picture : ndarray (m, n) or (m, n, channels), uint8
        The samples.
    quality : int
        From 1 to 100.
    method : int
        From 0, the fastest, to 6, which gives the smallest files.
    """
    target = io.BytesIO()
    _to_pillow(picture).save(target, "WEBP", quality=quality, method=method)
    return target.getvalue()


def _to_pillow(picture: Picture) -> PillowImage:
    flat = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    return pillow().fromarray(flat)


def decode_picture(data: bytes) -> Picture:
    """Return the samples of a picture file written by this module."""
    with pillow().open(io.BytesIO(data), formats=tuple(set(PICTURES.values()))) as opened:
        return np.asarray(opened)


def is_picture(path: Path) -> bool:
    """Whether a file begins like one of the formats that are written: PNG, JPEG, WebP or .eki."""
    with path.open("rb") as file:
        start = file.read(12)
    is_webp = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return is_webp or start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", MAGIC))


PICTURE = FileKind("a PNG, JPEG, WebP or .eki file", is_picture)


def write_picture(path: str | Path, picture: Picture, *, overwrite: bool = False) -> None:
    """Write a picture file completely or not at all.

    Parameters
    ----------
    path : str or Path
        The suffix determines the format: .png is lossless; .jpg, .jpeg and .webp are written at quality 95.
    picture : ndarray (m, n) or (m, n, channels), uint8 or uint16
        The samples.
    overwrite : bool
        Whether to replace an existing picture.

    Raises
    ------
    UsageError
        The suffix is unknown, or the format cannot store the picture: JPEG has no alpha, and only grey PNG
        can have 16 bits.
    OutputError
        The file exists, or cannot be written.
    MissingExtraError
        Pillow is not installed.
    """
    format = PICTURES.get(Path(path).suffix.lower())
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    if format is None:
        raise UsageError(
            str(path),
            f"expected a name that ends in {', '.join(PICTURES)} or .eki",
            f"Use for example {Path(path).with_suffix('.png')}",
        )
    if picture.dtype == np.uint16 and (format != "PNG" or channels > 1):
        raise UsageError(str(path), "only grey PNG files can have 16 bits per sample", "Use .eki")
    if format == "JPEG" and channels in (2, 4):
        raise UsageError(str(path), "JPEG has no alpha", "Use .png")
    if format == "PNG":
        data = encode_png(picture)
    elif format == "JPEG":
        data = encode_jpeg(picture, QUALITY)
    else:
        data = encode_webp(picture, QUALITY)
    with OutputFile(path, PICTURE, overwrite) as staged:
        write_bytes(staged, data)
