"""scikit-learn's conventions for estimators, implemented without scikit-learn.

An estimator here is a plain class. Where scikit-learn is installed, it can clone the estimator, use it in
pipelines and search over its parameters; where it is not, the estimator works the same. Inheriting from
scikit-learn's base class if it is importable would give one class two behaviours, and would make every
import of Eckart a second slower.
"""

from __future__ import annotations

import inspect
import sys
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from eckart.arrays import Array
from eckart.errors import DataError, NotFittedError, UsageError
from eckart.linalg.backend import SMALL_FLOATS, is_torch, ops_for


class Estimator:
    """Base class with parameters by name, like `sklearn.base.BaseEstimator`.

    ``__init__`` of a subclass stores each argument under its own name and does nothing else. The names of
    attributes that are learnt from data end in an underscore.
    """

    n_features_in_: int
    learnt_attribute = "n_features_in_"  # set by a successful fit; a subclass names the last one that it sets

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool
            Without effect here: scikit-learn uses it for estimators that contain estimators.

        Returns
        -------
        dict
            The arguments of ``__init__``.
        """
        names = list(inspect.signature(type(self)).parameters)
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: object) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params
            New values.

        Returns
        -------
        Estimator
            This estimator.

        Raises
        ------
        UsageError
            If there is no parameter of such a name.
        """
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
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> object:
        """Return scikit-learn's description of this estimator. Only scikit-learn calls this method."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def _check_fitted(self, method: str) -> None:
        if self.learnt_attribute not in vars(self):
            name = type(self).__name__
            raise _not_fitted_error()(f"{name}.{method}", f"this {name} is not fitted yet", "Call fit first")

    def _samples(self, X: ArrayLike, method: str, first: bool, least: int = 1) -> Array:
        """Check a table (n, d) and return it in float32 or float64; ``first`` stores its width and names."""
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


def as_samples(X: ArrayLike, call: str, least: int = 1) -> Array:
    """Check a table of samples.

    Parameters
    ----------
    X : array_like (n, d)
        May be a data frame or a torch tensor.
    call : str
        The call as messages show it.
    least : int
        Minimum number of samples.

    Returns
    -------
    ndarray (n, d)
        In float32 or float64; X itself if it is such an array.

    Raises
    ------
    DataError
        If X is not a table of finite real numbers, or has too few samples.
    """
    if is_torch(X):
        X = ops_for(X).host(X.float() if X.is_floating_point() and X.itemsize < 4 else X)
    sparse = sys.modules.get("scipy.sparse")
    if sparse is not None and sparse.issparse(X):
        raise DataError(call, "got a sparse matrix, which centring would make dense", "Pass X.toarray()")
    if np.ma.is_masked(X):
        raise DataError(
            call, "expected numbers without a mask, got masked entries", "Use X.filled(value) to fill them"
        )
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
        suspect = not np.isfinite(table.sum(dtype=np.float64))  # one pass over finite tables, no mask
    if suspect and not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise DataError(
            call,
            f"X holds NaN or infinity, the first at [{row}, {column}]",
            "Replace them with finite numbers",
        )
    return table


def _column_names(X: object) -> Array | None:
    """Return the column names of a data frame, or None if they are not all strings."""
    columns = getattr(X, "columns", None)
    if columns is None or callable(columns):
        return None
    names = [name for name in columns]
    return np.asarray(names, dtype=object) if names and all(isinstance(n, str) for n in names) else None


def _not_fitted_error() -> type[NotFittedError]:
    """Return the error for an estimator that is not fitted, also scikit-learn's own if that is loaded."""
    sklearn_exceptions = sys.modules.get("sklearn.exceptions")
    if sklearn_exceptions is None:
        return NotFittedError
    return type("NotFittedError", (NotFittedError, sklearn_exceptions.NotFittedError), {})
