"""Picture files in and out, by Pillow: nothing is decoded before its size is known to be sane."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eckart.applications.images.file import MAX_PIXELS, check_size
from eckart.checkpoint.write import write_bytes
from eckart.errors import ImageError, MissingExtraError, UsageError

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
KEPT = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}  # Pillow's modes that are arrays as they stand


def pillow() -> Any:
    """Return PIL.Image, or say which extra to install."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(
            "eckart.applications.images", "Pillow, which reads and writes pictures, is not installed",
            "Run pip install 'eckart[images]'",
        ) from None  # fmt: skip
    return Image


def read_picture(path: str | Path) -> tuple[NDArray[Any], list[str]]:
    """Return a picture's samples, (m, n) or (m, n, channels), and what was changed on the way in.

    Parameters
    ----------
    path : str or Path
        Anything Pillow reads: PNG, JPEG, WebP, TIFF, BMP, ...

    Raises
    ------
    ImageError
        It is not there, no picture, damaged, or of more than 2^26 pixels, which is told from its head.

    Notes
    -----
    Grey, colour and alpha come as they are, grey of 16 bits too. Palettes, CMYK and the rest are converted
    to colour, with a note. Colour of 16 bits a channel is read as 8, because Pillow has no room for it.
    A rotation that is only a tag (EXIF) is carried out.
    """
    where, Image = str(path), pillow()
    notes: list[str] = []
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(where, f"cannot be read ({error.strerror or error})", "Check the path") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of sizes that are refused here, and of odd metadata
            with Image.open(io.BytesIO(data)) as opened:
                check_size(opened.height, opened.width, where)
                if opened.format == "EPS":  # Pillow would have Ghostscript run it
                    raise ImageError(where, "is PostScript, a program and no picture", "Convert it to PNG")
                if getattr(opened, "n_frames", 1) > 1:
                    notes.append(f"{where} has {opened.n_frames} frames; the first is taken")
                if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10" and data[25] in (2, 4, 6):
                    notes.append(f"{where} has 16 bits a channel; Pillow reads 8")
                return _samples(_upright(opened), where, notes), notes
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(where, f"is over the limit of {MAX_PIXELS:,} pixels", "Scale it down") from None
    except Image.UnidentifiedImageError:
        raise ImageError(where, "is not a picture that Pillow can read", "Convert it to PNG") from None
    except MemoryError:
        raise
    except Exception as error:  # its readers of some forty formats raise what they like on damaged files
        raise ImageError(where, f"is damaged ({error})", "Fetch it again") from None


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _samples(picture: Any, where: str, notes: list[str]) -> NDArray[Any]:
    mode = picture.mode
    if mode in KEPT and "transparency" not in picture.info:
        return np.asarray(picture)
    if mode in ("I;16", "I;16L", "I;16B"):
        return np.asarray(picture).astype(np.uint16)
    if mode == "I":
        wide = np.asarray(picture)
        if wide.min() >= 0 and wide.max() <= 65535:
            return wide.astype(np.uint16)
    if mode in ("I", "F"):
        raise ImageError(
            where, f"holds numbers of mode {mode}, not grey levels", "Convert it to 8 or 16 bits"
        )
    if mode == "1":
        notes.append(f"{where} is black and white; taken as grey")
        return np.asarray(picture.convert("L"))
    alpha = "transparency" in picture.info or mode in ("PA", "La", "RGBa")
    notes.append(f"{where} is of mode {mode}; converted to {'colour and alpha' if alpha else 'colour'}")
    return np.asarray(picture.convert("RGBA" if alpha else "RGB"))


def encode_picture(picture: NDArray[Any], format: str, **how: Any) -> bytes:
    """Return a picture as the bytes of a PNG, JPEG or WebP file."""
    Image = pillow()
    target = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture).save(
        target, format, **how
    )
    return target.getvalue()


def decode_picture(data: bytes) -> NDArray[Any]:
    """Return the samples of a picture that was just encoded."""
    with pillow().open(io.BytesIO(data)) as opened:
        return np.asarray(opened)


def write_picture(path: str | Path, picture: NDArray[Any]) -> None:
    """Write a picture in the format of its suffix, or nothing: .png exactly, .jpg and .webp nearly.

    Raises
    ------
    UsageError
        An unknown suffix, or a format that cannot hold the picture (JPEG has no alpha; only grey PNG has
        16 bits here).
    OutputError
        The place cannot be written.
    """
    format = PICTURES.get(Path(path).suffix.lower())
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    if format is None:
        raise UsageError(str(path), f"expected one of {', '.join(PICTURES)} or .eki", "Give such a suffix")
    if picture.dtype == np.uint16 and (format != "PNG" or channels > 1):
        raise UsageError(str(path), "16 bits a sample are written as grey PNG only", "Use .eki")
    if format == "JPEG" and channels in (2, 4):
        raise UsageError(str(path), "JPEG has no alpha", "Use .png")
    write_bytes(path, encode_picture(picture, format, **({} if format == "PNG" else {"quality": 95})))
