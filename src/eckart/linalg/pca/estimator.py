"""scikit-learn's conventions for estimators, kept without scikit-learn.

An estimator here is a plain class: it is cloned, put in a pipeline or searched over by scikit-learn
where that is installed, and works the same where it is not. Inheriting from its base class where
it can be imported would give one class two behaviours, and every import of Eckart a second more.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Self

import numpy as np

from eckart.arrays import Array
from eckart.errors import DataError, NotFittedError, UsageError
from eckart.linalg.backend import SMALL_FLOATS, is_torch, ops_for


class Estimator:
    """Parameters by name, as `sklearn.base.BaseEstimator` keeps them.

    A subclass stores every argument of ``__init__`` under its own name and does nothing else there; what
    is learnt from data ends in an underscore.
    """

    n_features_in_: int

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name. ``deep`` is scikit-learn's, for estimators inside estimators."""
        names = list(inspect.signature(type(self)).parameters)
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name and return the estimator."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise UsageError(
                    f"{type(self).__name__}.set_params({name}=...)", f"expected one of {list(known)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        params = self.get_params().items()
        told = ", ".join(f"{n}={v!r}" for n, v in params if repr(v) != repr(defaults[n].default))
        return f"{type(self).__name__}({told})"

    def __sklearn_tags__(self) -> Any:
        """Say what kind of estimator this is. Only scikit-learn calls it, so only then is it imported."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def _check_fitted(self, method: str) -> None:
        if "n_features_in_" not in vars(self):
            name = type(self).__name__
            raise _not_fitted_error()(
                f"{name}.{method}", f"this {name} has not seen data yet", "Call fit first"
            )

    def _samples(self, X: Any, method: str, first: bool, least: int = 1) -> Array:
        """Return a table (n, d) in float32 or float64, checked; ``first`` learns its width and names."""
        call = f"{type(self).__name__}.{method}(X)"
        names = _column_names(X)
        table = as_samples(X, call, least)
        if first:
            self.n_features_in_ = table.shape[1]
            self.__dict__.pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = names
        elif table.shape[1] != self.n_features_in_:
            raise DataError(
                call,
                f"X has {table.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input",
            )
        elif names is not None and not np.array_equal(names, getattr(self, "feature_names_in_", names)):
            raise DataError(call, "The feature names should match those that were passed during fit")
        return table


def as_samples(X: Any, call: str, least: int = 1) -> Array:
    """Return a table (n, d) of at least ``least`` samples in float32 or float64, itself if it is one."""
    if is_torch(X):
        X = ops_for(X).host(X.float() if X.is_floating_point() and X.itemsize < 4 else X)
    sparse = sys.modules.get("scipy.sparse")
    if sparse is not None and sparse.issparse(X):
        raise DataError(call, "got a sparse matrix, and centring would fill it", "Pass X.toarray()")
    if np.ma.is_masked(X):
        raise DataError(call, "got masked entries, and every entry counts here", "Fill them: X.filled(value)")
    try:
        table = np.asarray(X)
        if np.iscomplexobj(table):
            raise DataError(call, "Complex data not supported")
        if table.dtype in SMALL_FLOATS or table.dtype == np.float16:
            table = table.astype(np.float32)
        elif table.dtype.kind in "USMmV":
            raise DataError(call, f"expected a table of numbers, got dtype {table.dtype}")
        elif table.dtype not in (np.float32, np.float64):
            table = table.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as reason:
        if isinstance(reason, DataError):
            raise
        raise DataError(call, f"expected a table of numbers: {reason}") from None
    if table.ndim != 2:
        raise DataError(
            call,
            f"expected a table (n_samples, n_features), got an array of shape {table.shape}",
            "Reshape your data: X.reshape(-1, 1) for one feature, X.reshape(1, -1) for one sample",
        )
    if table.shape[1] < 1:
        raise DataError(call, f"0 feature(s) (shape={table.shape}) while a minimum of 1 is required")
    if table.shape[0] < least:
        raise DataError(
            call,
            f"{table.shape[0]} sample(s), n_samples={table.shape[0]}, while a minimum of {least} is required",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        suspect = not np.isfinite(table.sum(dtype=np.float64))  # one pass; the mask only where it tells
    if suspect and not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(
            call, f"X holds NaN or infinity, the first at [{row}, {column}]", "Mend or mask it first"
        )
    return table


def _column_names(X: Any) -> Array | None:
    """Return the names of a data frame's columns, where they are all strings."""
    columns = getattr(X, "columns", None)
    if columns is None or callable(columns):
        return None
    names = [name for name in columns]
    return np.asarray(names, dtype=object) if names and all(isinstance(n, str) for n in names) else None


def _not_fitted_error() -> type[NotFittedError]:
    """Return the error for an estimator without data; also scikit-learn's own, where that is loaded."""
    theirs = sys.modules.get("sklearn.exceptions")
    if theirs is None:
        return NotFittedError
    return type("NotFittedError", (NotFittedError, theirs.NotFittedError), {})
