"""A path as the user gave it: ``~`` stands for the home folder; URLs and Hub names are recognised."""

from __future__ import annotations

import os
import re
from pathlib import Path

from eckart.errors import InputError, UsageError
from eckart.text import clip

# Two letters or more, because C:/ is a drive. `Path` turns the second slash into none, so one is enough.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?=[^/])")
_HUB_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://", re.IGNORECASE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?(?::[\w./-]+)?", re.ASCII)
_FILE_SUFFIX = re.compile(r"\.(?:safetensors|json|bin|pth?|ckpt|gguf|npy|npz|zip|tar|gz)", re.IGNORECASE)


def user_path(path: str | Path) -> Path:
    """Return a path as the user gave it, with ``~`` replaced by the home folder.

    Parameters
    ----------
    path : str or Path
        A text keeps what `Path` would change, such as the slashes of a URL.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If it is a URL. The message says how to download what it stands for.

    Examples
    --------
    >>> user_path("models/base").as_posix()
    'models/base'
    >>> user_path("https://huggingface.co/org/model")
    Traceback (most recent call last):
    ...
    eckart.errors.UsageError: `https://huggingface.co/org/model`: expected a path, found a URL. Download it \
first: hf download org/model --local-dir model. Then pass the path model.
    """
    text = os.fspath(path)
    match = _URL.match(text)
    if match and not os.path.lexists(text):
        url = f"{match[1]}://{text[match.end() :]}"
        raise UsageError(clip(url), "expected a path, found a URL", _download_page(url))
    if text.startswith((f".{os.sep}~", "./~")):
        return Path(os.path.abspath(text))  # `Path` drops the dot, and ~ would be the home folder
    return Path(os.path.expanduser(text))


def real_path(path: str | Path) -> Path:
    """Return the absolute path of a user's path, with links followed as far as they lead.

    Parameters
    ----------
    path : str or Path
        It need not exist.

    Returns
    -------
    Path
        `Path.resolve` gives the same, but raises RuntimeError for a link to itself (up to Python 3.12).
    """
    return Path(os.path.realpath(user_path(path)))


def input_path(path: str | Path) -> Path:
    """Return the path of a model or an adapter that is read. The file or folder need not exist.

    Parameters
    ----------
    path : str or Path
        What the user gave.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If it is a URL; or the name of a model on the Hugging Face Hub, and there is no such file or folder.

    Examples
    --------
    >>> input_path("meta-llama/Llama-3.2-1B")
    Traceback (most recent call last):
    ...
    eckart.errors.UsageError: `meta-llama/Llama-3.2-1B`: there is no such file or folder, and a name on the \
Hugging Face Hub is not read directly. Download it first: hf download meta-llama/Llama-3.2-1B --local-dir \
Llama-3.2-1B. Then pass the path Llama-3.2-1B.
    """
    place = user_path(path)
    # `Path` writes backslashes on Windows.
    text = place.as_posix() if isinstance(path, Path) else path
    if is_hub_name(text) and not os.path.lexists(place) and not place.parent.is_dir():
        raise UsageError(
            clip(text),
            "there is no such file or folder, and a name on the Hugging Face Hub is not read directly",
            _download_model(text),
        )
    return place


def require(path: Path, error: type[InputError]) -> None:
    """Raise if there is nothing at the path of an input, before its output is looked at.

    Parameters
    ----------
    path : Path
        The input.
    error : type
        The class of the error.
    """
    if not os.path.lexists(path):
        raise error(str(path), "there is no such file or folder", "Check the path")


def is_hub_name(text: str) -> bool:
    """Return whether a text has the form of a Hub name: ``org/model``, ``@revision``, ``:subfolder``.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> is_hub_name("org/model@main:unet"), is_hub_name("models/lora.safetensors"), is_hub_name("a/b/c")
    (True, False, False)
    """
    return bool(_HUB_NAME.fullmatch(text)) and not _FILE_SUFFIX.fullmatch(Path(text).suffix)


def _download_page(url: str) -> str:
    """Return the fix for a URL."""
    page = _HUB_PAGE.match(url)
    if page is None:
        return "Download it first, then pass the path of the file or folder"
    # org/model/tree/REVISION/SUBFOLDER, org/model/resolve/REVISION/FILE, or an hf:// address
    parts = [part for part in re.split(r"[?#]", url[page.end() :])[0].split("/") if part]
    if parts and parts[0] in ("models", "datasets", "spaces"):
        parts = parts[1:]
    if len(parts) < 2:
        return "Download the model first: hf download ORG/MODEL --local-dir MODEL. Then pass the path MODEL"
    name = "/".join(parts[:2])
    if len(parts) > 3 and parts[2] in ("tree", "blob", "resolve"):
        name += f"@{parts[3]}"
        if len(parts) > 4:
            name += ":" + "/".join(parts[4:])
    return _download_model(name)


def _download_model(name: str) -> str:
    """Return the fix for a Hub name, which may hold a revision and a subfolder."""
    model, _, rest = name.partition("@")
    revision, _, subfolder = rest.partition(":")
    if not rest:
        model, _, subfolder = name.partition(":")
    folder = model.rpartition("/")[2]
    command = f"hf download {model}"
    if revision:
        command += f" --revision {revision}"
    if subfolder:
        is_file = _FILE_SUFFIX.fullmatch(Path(subfolder).suffix)
        command += f" {subfolder}" if is_file else f" --include '{subfolder}/*'"
    path = f"{folder}/{subfolder}" if subfolder else folder
    return (
        f"Download it first: {clip(command, 300)} --local-dir {clip(folder)}. Then pass the path {clip(path)}"
    )
