"""What to type when an optional library is missing. It depends on where Eckart was installed from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from eckart.errors import MissingExtraError


def missing_extra(where: str, what: str, extra: str) -> MissingExtraError:
    """Return the error for an optional library that is not installed.

    Parameters
    ----------
    where : str
        The call that needs the library.
    what : str
        Which library is missing, and why it is needed.
    extra : str
        The extra of Eckart that brings it, for example ``"explain"``.

    Returns
    -------
    MissingExtraError
    """
    return MissingExtraError(where, what, f"Run: pip install {requirement(extra)}")


def requirement(extra: str) -> str:
    """Return what pip must be given to install an extra, as it is typed in a shell.

    Parameters
    ----------
    extra : str
        For example ``"explain"``.

    Returns
    -------
    str
        ``'eckart[explain]'`` if Eckart comes from an index. For a clone the path of its folder,
        ``'.[explain]'`` in that folder, because an index may not have Eckart. For a repository its address.
    """
    url = _origin()
    folder = _source_folder() if url is None else None
    if url is not None and url.startswith("file:"):
        from urllib.request import url2pathname  # 20 ms, needed for this error only

        folder = Path(url2pathname(urlsplit(url).path))
    if folder is not None and folder.is_dir():
        place = "." if os.path.realpath(folder) == os.path.realpath(os.curdir) else str(folder)
        return _quoted(f"{place}[{extra}]")
    if url is not None and not url.startswith("file:"):
        return _quoted(f"eckart[{extra}] @ {url}")
    return _quoted(f"eckart[{extra}]")


def _quoted(text: str) -> str:
    mark = '"' if os.name == "nt" or "'" in text else "'"
    return mark + text + mark


def _origin() -> str | None:
    """Return where the installed package came from, as PEP 610 records it; None for an index."""
    from importlib.metadata import Distribution, PackageNotFoundError  # 35 ms, needed for this error only

    try:
        record = Distribution.from_name("eckart").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    try:
        origin = json.loads(record or "{}")
        url = origin["url"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(url, str):
        return None
    control = origin.get("vcs_info")
    if isinstance(control, dict):
        return f"{control.get('vcs', 'git')}+{url}"
    return url if "dir_info" in origin or not url.startswith("file:") else None


def _source_folder() -> Path | None:
    """Return the clone that this file is a part of; None if it is installed."""
    folder = Path(__file__).parents[2]
    return folder if (folder / "pyproject.toml").is_file() and (folder / "src" / "eckart").is_dir() else None
