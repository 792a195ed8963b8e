"""The exceptions that Eckart raises.

    EckartError                 base class of all of them
    ├── InputError              invalid input; the command line exits with 2
    │   ├── UsageError          an argument, or a combination of arguments, is invalid
    │   │   ├── KeywordError    a keyword argument is unknown
    │   │   └── NotFittedError  an estimator is used before it is fitted
    │   ├── MatrixError         an array cannot be decomposed (shape, dtype, NaN)
    │   │   └── DataError       samples that an estimator cannot use
    │   ├── CheckpointError     a checkpoint cannot be read or is unsafe to read
    │   ├── PairError           two checkpoints do not belong together
    │   ├── StoreError          a factor store is damaged or belongs to other checkpoints
    │   ├── AdapterError        an adapter cannot be read
    │   ├── RatingsError        ratings or a saved recommender cannot be read
    │   ├── ImageError          an image cannot be read or is too large
    │   ├── OutputError         the output cannot be written
    │   └── MissingExtraError   an optional library is not installed
    ├── WorkerError             a process of an executor ended before its task was finished
    └── CheckFailedError        a requested check failed; the command line exits with 1

A message has three parts, in this order: where (the call, file or tensor), what (what was expected and
what was found), and how to fix it.
"""

from __future__ import annotations

from eckart.arguments import argument_in, in_python, in_terminal


class EckartError(Exception):
    """Base class of every exception that Eckart raises.

    Parameters
    ----------
    where : str
        The call, file or tensor at fault, e.g. ``"model.safetensors: lm_head.weight"``.
    what : str
        What was expected and what was found, without a final period.
    fix : str, optional
        What to type or to change, as an imperative sentence without a final period.

    Notes
    -----
    A part names an argument by `eckart.arguments.argument`, which the command line shows as an option.

    Examples
    --------
    >>> print(EckartError("rank=0", "expected at least 1", "Use rank=1"))
    `rank=0`: expected at least 1. Use rank=1.
    """

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        self._parts = (where, what, fix)
        self.where, self.what, self.fix = (in_python(part) for part in self._parts)
        super().__init__(_line(self.where, self.what, self.fix))

    def for_terminal(self) -> str:
        """Return the message with arguments as options: ``--rank 0`` instead of ``rank=0``."""
        return _line(*(in_terminal(part) for part in self._parts))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Pickling by the three parts lets an error cross the boundary of a process pool.
        return type(self), self._parts


def _line(where: str, what: str, fix: str) -> str:
    return f"`{where}`: {what}." + (f" {fix}." if fix else "")


class InputError(EckartError):
    """Invalid input, for example a truncated file or ``--energy 2``."""


class UsageError(InputError):
    """An argument is out of range, or two arguments exclude each other. For example ``rank=0``.

    A `where` of the form ``keyword=value``, with a value as Python writes it, names an argument.
    """

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        super().__init__(argument_in(where), what, fix)


class KeywordError(UsageError, TypeError):
    """A keyword argument is unknown. It is a TypeError because Python raises one for an unknown keyword."""


class MatrixError(InputError):
    """An array cannot be decomposed, for example because it holds a NaN."""


class NotFittedError(UsageError, ValueError, AttributeError):
    """An estimator is used before it is fitted. The bases are those of scikit-learn's class of this name."""


class DataError(MatrixError, ValueError, TypeError):
    """The samples do not form a 2-D table of numbers.

    It is both a ValueError and a TypeError because scikit-learn's estimator checks expect either.
    """


class CheckpointError(InputError):
    """A checkpoint cannot be read or is unsafe to read, for example a pickle."""


class PairError(InputError):
    """Two checkpoints do not belong together, for example because a shape differs."""


class StoreError(InputError):
    """A factor store is damaged, or its source checkpoints have changed since it was filled."""


class AdapterError(InputError):
    """An adapter cannot be read, for example because a module has A but no B."""


class RatingsError(InputError):
    """Ratings or a saved recommender cannot be read, for example because a line has no number."""


class ImageError(InputError):
    """An image cannot be read or is too large, for example a damaged .eki file."""


class OutputError(InputError):
    """The output cannot be written, for example because the folder is not empty or the disk is full."""


class MissingExtraError(InputError):
    """An optional library is not installed, for example torch for the GPU route."""


class WorkerError(EckartError):
    """A worker of an executor ended before its task was finished, for example because memory ran out."""


class CheckFailedError(EckartError):
    """A requested check failed, for example because a stated error is wrong."""
