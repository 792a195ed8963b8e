"""Alternatives to NumPy functions that have no derivative rule; error messages suggest them."""

from __future__ import annotations

from ..hooks import ALTERNATIVES

ALTERNATIVES.update(
    {
        "apply_along_axis": "vmap",
        "vectorize": "vmap",
        "piecewise": "np.select or np.where",
        "put": "np.where",
        "apply_over_axes": "np.sum(x, axis=(0, 1), keepdims=True)",
        "insert": "np.concatenate",
        "fix": "np.trunc",
        "place": "np.where",
        "putmask": "np.where",
        "copyto": "np.where",
        "put_along_axis": "np.where",
        "fill_diagonal": "np.where(np.eye(n), ..)",
        "nanmedian": "np.median(x[~np.isnan(x)])",
        "nanquantile": "np.quantile(x[~np.isnan(x)], q)",
        "nanpercentile": "np.percentile(x[~np.isnan(x)], q)",
        "histogram": "np.searchsorted, which returns integers",
        "ix_": "x[i][:, j] with plain integers",
        "polyder": "p[:-1] * np.arange(len(p) - 1, 0, -1)",
        "polymul": "np.convolve",
        "sort_complex": "np.sort",
        "logspace": "10 ** np.linspace(a, b)",
        "geomspace": "np.exp(np.linspace(a, b))",
        "meshgrid": "np.broadcast_arrays(x, y[:, None])",
        "choose": "np.select",
        "real_if_close": "np.real",
        "bincount": "np.where(i == np.arange(n)[:, None], weights, 0).sum(1)",
        "ediff1d": "np.diff(np.ravel(x))",
    }
)
