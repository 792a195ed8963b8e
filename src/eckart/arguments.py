"""Arguments in messages: ``rank=4`` in Python, ``--rank 4`` in a terminal. Their names in other tools."""

from __future__ import annotations

import ast
import difflib
import re
import shlex
from collections.abc import Collection

# Noncharacters of Unicode: no text that is read from a file is printed with them, because `escape` replaces
# characters that cannot be printed.
_START, _MIDDLE, _END = "\ufdd0", "\ufdd1", "\ufdd2"
_MARKED = re.compile(f"{_START}([a-z_]+){_MIDDLE}([^{_MIDDLE}]*){_MIDDLE}([^{_END}]*){_END}")

OPTIONS = {"out": "--output", "consumers": "--for", "topic": "TOPIC"}
"""Keywords that the command line spells otherwise. As a rule, ``max_rank`` is ``--max-rank``."""

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("r", "lora_rank", "lora_r", "lora_dim", "dim", "network_dim"), ("rank",)),
    **dict.fromkeys(("new_rank", "ranks", "k", "n_components", "bottleneck"), ("rank",)),
    **dict.fromkeys(("max_lora_rank", "rank_max", "maximum_rank"), ("max_rank",)),
    **dict.fromkeys(("rank_min", "minimum_rank"), ("min_rank",)),
    **dict.fromkeys(("threshold", "cutoff"), ("energy", "error", "ratio")),
    **dict.fromkeys(("sv_cumulative", "variance", "explained_variance", "quantile"), ("energy",)),
    **dict.fromkeys(("sv_ratio",), ("ratio",)),
    **dict.fromkeys(("tol", "tolerance", "max_error", "epsilon", "sv_fro"), ("error", "energy")),
    **dict.fromkeys(("max_size", "max_params", "params", "max_bytes"), ("budget", "size")),
    **dict.fromkeys(("target_modules", "targets", "target", "modules", "layers", "only"), ("include",)),
    **dict.fromkeys(("exclude_modules", "ignore", "skip", "skip_modules", "exclude_regex"), ("exclude",)),
    **dict.fromkeys(("out", "output_dir", "output_path", "out_path", "out_dir", "outdir"), ("out",)),
    **dict.fromkeys(("save_to", "save_path", "save_dir", "save", "dest", "destination"), ("out",)),
    **dict.fromkeys(("outfile", "output_file", "output_folder", "o"), ("out",)),
    **dict.fromkeys(("output_format", "out_format", "type", "to", "format"), ("to", "format")),
    **dict.fromkeys(("torch_dtype", "save_precision", "precision", "outtype", "out_dtype"), ("dtype",)),
    **dict.fromkeys(("weight", "ratios", "scale", "scales", "alphas", "strength"), ("weights",)),
    **dict.fromkeys(("threads", "num_workers", "num_threads", "jobs", "n_jobs"), ("workers",)),
    **dict.fromkeys(("gpu", "cuda", "use_gpu"), ("device",)),
    **dict.fromkeys(("force", "f", "yes", "y", "exist_ok", "replace"), ("overwrite",)),
    **dict.fromkeys(("program", "programs", "backend", "engine", "server", "serve"), ("consumers",)),
    **dict.fromkeys(("consumers", "consumer"), ("consumers",)),
    **dict.fromkeys(("base_model", "model", "base_model_name_or_path"), ("base", "base_name")),
    **dict.fromkeys(("silent", "no_progress"), ("quiet",)),
}
"""Keywords of ours by the names that other tools give them (PEFT, mergekit, kohya's scripts), best first."""


def argument(keyword: str, value: object = ...) -> str:
    """Return an argument for a message of an `EckartError`, which each reader sees in their own language.

    Parameters
    ----------
    keyword : str
        The keyword argument, for example ``"max_rank"``.
    value : object
        Its value; without one, the result is the name alone.

    Returns
    -------
    str
        A marked text that only the class `EckartError` can show.

    Examples
    --------
    >>> in_python(argument("max_rank", 4)), in_terminal(argument("max_rank", 4))
    ('max_rank=4', '--max-rank 4')
    >>> in_python(argument("overwrite", True)), in_terminal(argument("overwrite", True))
    ('overwrite=True', '--overwrite')
    >>> in_python(argument("include")), in_terminal(argument("include", "q_proj|v_proj"))
    ('include', "--include 'q_proj|v_proj'")
    """
    if value is ...:
        return f"{_START}{keyword}{_MIDDLE}{_MIDDLE}{_END}"
    typed = "" if value is True else _typed(value)
    return f"{_START}{keyword}{_MIDDLE}={_plain(repr(value))}{_MIDDLE}{_plain(typed)}{_END}"


def argument_in(text: str) -> str:
    """Return ``keyword=value`` as an `argument`, and any other text unchanged.

    Parameters
    ----------
    text : str
        For example ``"rank=4"``, or the path of a file.

    Examples
    --------
    >>> in_terminal(argument_in("max_rank=4")), in_terminal(argument_in("runs/rank=4"))
    ('--max-rank 4', 'runs/rank=4')
    """
    keyword, separator, value = text.partition("=")
    if not separator or not re.fullmatch("[a-z_]+", keyword):
        return text
    if value.lstrip("-") in ("nan", "inf"):
        return argument(keyword, float(value))
    try:
        return argument(keyword, ast.literal_eval(value))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _typed(value: object) -> str:
    if isinstance(value, float):
        return f" {value:.12g}"
    if isinstance(value, list | tuple):
        return " " + ",".join(str(part) for part in value)
    return " " + shlex.quote(str(value))


def _plain(text: str) -> str:
    return re.sub(f"[{_START}{_MIDDLE}{_END}]", "", text)


def in_python(text: str) -> str:
    """Return a text with its arguments written as in Python.

    Parameters
    ----------
    text : str
        May hold any number of results of `argument`.
    """
    return _MARKED.sub(lambda match: match[1] + match[2], text)


def in_terminal(text: str) -> str:
    """Return a text with its arguments written as options of the command line.

    Parameters
    ----------
    text : str
        May hold any number of results of `argument`.
    """
    return _MARKED.sub(lambda match: option_of(match[1]) + match[3], text)


def option_of(keyword: str) -> str:
    """Return the option that stands for a keyword argument on the command line.

    Parameters
    ----------
    keyword : str
        For example ``"max_rank"``.

    Examples
    --------
    >>> option_of("max_rank"), option_of("consumers")
    ('--max-rank', '--for')
    """
    return OPTIONS.get(keyword, "--" + keyword.replace("_", "-"))


def nearest(name: str, known: Collection[str]) -> list[str]:
    """Return the keywords that a user may have meant by an unknown one.

    Parameters
    ----------
    name : str
        What the user wrote, with or without dashes, for example ``"--target-modules"``.
    known : collection of str
        The keywords that are possible.

    Returns
    -------
    list of str
        The best first; empty if nothing is similar.

    Examples
    --------
    >>> nearest("ranks", ["rank", "include"]), nearest("--target-modules", ["rank", "include"])
    (['rank'], ['include'])
    """
    plain = name.lstrip("-").replace("-", "_").lower()
    if plain in known:
        return [plain]
    others = [keyword for keyword in OTHER_NAMES.get(plain, ()) if keyword in known]
    return others or difflib.get_close_matches(plain, list(known), n=2)
