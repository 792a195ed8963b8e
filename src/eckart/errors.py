"""Every exception Eckart raises, drawn as a tree.

    EckartError                 the root: catch this to catch them all
    ├── InputError              something given is wrong; the command line exits with 2
    │   ├── UsageError          an argument or a combination of arguments
    │   │   └── NotFittedError  an estimator that is asked before it has seen data
    │   ├── MatrixError         an array that has no decomposition (shape, dtype, NaN)
    │   │   └── DataError       a table of samples that an estimator cannot take
    │   ├── CheckpointError     a checkpoint that cannot be read, or must not be
    │   ├── PairError           two checkpoints that do not belong together
    │   ├── StoreError          a factor store that is damaged or belongs to other sources
    │   ├── AdapterError        an adapter that cannot be read
    │   ├── RatingsError        ratings, or a saved recommender, that cannot be read
    │   ├── ImageError          a picture that cannot be read, or is too large
    │   ├── OutputError         a place that cannot be written
    │   └── MissingExtraError   an optional library that is not installed
    └── CheckFailedError        a check that was asked for did not hold; the command line exits with 1

A message is built from three parts, in this order: where (the call, file or tensor), what (expected
and found), and what to do about it.
"""

from __future__ import annotations


class EckartError(Exception):
    """Root of every exception raised by Eckart.

    Parameters
    ----------
    where : str
        The call, file or tensor at fault, e.g. ``"model.safetensors: lm_head.weight"``.
    what : str
        What was expected and what was found.
    fix : str, optional
        What to type, or what to change.
    """

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        self.where, self.what, self.fix = where, what, fix
        super().__init__(f"`{where}`: {what}." + (f" {fix}." if fix else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.where, self.what, self.fix)  # survives a process pool


class InputError(EckartError):
    """Something the user gave is wrong. For example a truncated file, or ``--energy 2``."""


class UsageError(InputError):
    """An argument is out of range or two exclude each other. For example ``rank=0``."""


class MatrixError(InputError):
    """An array has no decomposition. For example one that holds a NaN."""


class NotFittedError(UsageError, ValueError, AttributeError):
    """An estimator was asked before it had seen data. Also what scikit-learn's error of this name is."""


class DataError(MatrixError, ValueError, TypeError):
    """A table of samples is no table. A ValueError and a TypeError: scikit-learn's checks expect either."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or must not be. For example a pickle."""


class PairError(InputError):
    """Two checkpoints do not belong together. For example because a shape differs."""


class StoreError(InputError):
    """A factor store is damaged, or its sources have changed since it was filled."""


class AdapterError(InputError):
    """An adapter cannot be read. For example a module with A but no B."""


class RatingsError(InputError):
    """Ratings, or a saved recommender, cannot be read. For example a line without a number."""


class ImageError(InputError):
    """A picture cannot be read, or must not be. For example a damaged .eki file."""


class OutputError(InputError):
    """A place cannot be written. For example a folder that is not empty, or a full disk."""


class MissingExtraError(InputError):
    """An optional library is not installed. For example torch, for a GPU."""


class CheckFailedError(EckartError):
    """A check that was asked for did not hold. For example a stated error that is wrong."""
