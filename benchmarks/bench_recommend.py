"""The recommender against scikit-surprise's SVD and against a truncated SVD of a filled-up matrix."""

from __future__ import annotations

import importlib.util
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import machine
import numpy as np
import targets
from tables import Cell, Table, ratio
from threadpoolctl import threadpool_limits

import eckart
from eckart.applications.completion.choose import Setting, choose, measure
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import rmse
from eckart.applications.simulate import simulate_ratings

FACTORS, EPOCHS = 20, 20
ALS = Setting("als", FACTORS, 0.13, 0.5)
SOFT = Setting("softimpute", FACTORS, 0.33)


def run(threads: int, *, quick: bool, say: Callable[[str], None]) -> list[Table]:
    """Run every row."""
    size: dict[str, int] = {"users": 200, "items": 300, "ratings": 5000} if quick else {}
    made = simulate_ratings(**size)
    r = made.ratings
    entries = Entries.of(r.users, r.items, r.values, r.shape)
    truth = Entries.of(r.users, r.items, made.truth, r.shape)
    with threadpool_limits(threads):
        say("recommend: seconds of a fit")
        speed = _speed(entries)
        say("recommend: errors")
        return [speed, _errors(entries, truth)]


def _speed(entries: Entries) -> Table:
    """Fit all ratings: ours at a fixed setting, and the rival's SVD."""
    m, n = entries.shape
    table = Table(
        f"Fitting {len(entries):,} ratings, {m} x {n}, {FACTORS} factors",
        f"Ours to convergence at a fixed setting, from arrays; scikit-surprise's `SVD(n_factors={FACTORS}, "
        f"n_epochs={EPOCHS})` from its Trainset. In one process, in memory. The last row is "
        "the choice of method, rank and regularisation by `fit`, many fits, beside one of the rival's.",
    )
    data = _trainset(entries)
    theirs = None if data is None else machine.best_seconds(lambda: _surprise(data))
    for name, setting in (("ALS", ALS), ("soft-impute", SOFT)):
        ours = machine.best_seconds(lambda s=setting: s.complete(entries))
        aim = targets.RECOMMEND_OVER_SURPRISE if setting is ALS else None
        table.rows.append(
            {
                **ratio(theirs, ours, aim),
                "ours": name,
                "rival": "surprise SVD",
                "ours, s": ours,
                "rival, s": theirs,
            }
        )
    began = time.perf_counter()
    chosen = choose(entries)
    seconds = time.perf_counter() - began
    table.rows.append(
        {
            **ratio(theirs, seconds, None),
            "ours": f"the choice alone, {len(chosen.tried)} settings",
            "rival": "surprise SVD, one fit",
            "ours, s": seconds,
            "rival, s": theirs,
        }
    )
    return table


def _errors(entries: Entries, truth: Entries) -> Table:
    """Hold a fifth out, and predict it."""
    kept, held = entries.split(0.2, 0)
    floor = rmse(truth.split(0.2, 0)[1].values, held.values)
    table = Table(
        "RMSE on a fifth of the ratings, held out at random",
        f"Simulated ratings of rank 8 with biases, missing not at random; noise alone leaves {floor:.4f}, "
        "which no method can beat. Ratio: the rival's RMSE over that of the setting that `fit` chooses from "
        "the other four fifths. The rank of a truncated SVD of the filled-up matrix is the best for the "
        "held-out ratings themselves, which is more than it could know.",
    )
    setting = choose(kept).best()
    ours = measure(setting.complete(kept), kept, held)
    table.rows.append({**ratio(None, ours, None), "method": f"ours: {setting}", "RMSE": f"{ours:.4f}",
                       "above the noise, %": 100 * (ours / floor - 1)})  # fmt: skip

    def add(name: str, error: float | None, aim: float | None = None) -> None:
        row: dict[str, Cell] = {**ratio(error, ours, aim), "method": name}
        row["RMSE"] = None if error is None else f"{error:.4f}"
        row["above the noise, %"] = None if error is None else 100 * (error / floor - 1)
        table.rows.append(row)

    for name, fixed in (("ours: ALS as timed", ALS), ("ours: soft-impute as timed", SOFT)):
        add(name, measure(fixed.complete(kept), kept, held))
    data = _trainset(kept)
    add("surprise SVD", None if data is None else _surprise_error(data, kept, held), 1.0)
    for name, by_item in (("the item's mean", True), ("the mean of all", False)):
        rank, error = _filled(kept, held, by_item)
        add(f"truncated SVD, filled with {name}, rank {rank}", error, 1.0)
    add("biases alone", measure(Setting("biases").complete(kept), kept, held), 1.0)
    add("the mean", rmse(np.full(len(held), kept.values.mean()), held.values))
    return table


def _trainset(entries: Entries) -> Any:
    """Return the rival's own structure; None where it is not installed."""
    if importlib.util.find_spec("surprise") is None:
        return None
    from surprise import Trainset

    by_user, by_item = defaultdict(list), defaultdict(list)
    triples = zip(entries.rows.tolist(), entries.columns.tolist(), entries.values.tolist(), strict=True)
    for u, i, value in triples:
        by_user[u].append((i, value))
        by_item[i].append((u, value))
    m, n = entries.shape
    names = {k: k for k in range(max(m, n))}
    scale = (float(entries.values.min()), float(entries.values.max()))
    return Trainset(by_user, by_item, m, n, len(entries), scale, names, names)


def _surprise(data: Any) -> Any:
    from surprise import SVD

    return SVD(n_factors=FACTORS, n_epochs=EPOCHS, random_state=0).fit(data)


def _surprise_error(data: Any, kept: Entries, held: Entries) -> float:
    model = _surprise(data)
    rows, columns = held.rows, held.columns
    found = (
        data.global_mean + model.bu[rows] + model.bi[columns] + (model.pu[rows] * model.qi[columns]).sum(1)
    )
    return rmse(np.clip(found, kept.values.min(), kept.values.max()), held.values)


def _filled(kept: Entries, held: Entries, by_item: bool) -> tuple[int, float]:
    """Return the best rank, and its error, of a truncated SVD with means for what is missing."""
    _, counts = kept.counts()
    sums = np.bincount(kept.columns, kept.values, kept.shape[1])
    means = np.where((counts > 0) & by_item, sums / np.maximum(counts, 1), kept.values.mean())
    X = np.tile(means, (kept.shape[0], 1))
    X[kept.rows, kept.columns] = kept.values
    full = eckart.svd(X, method="lapack")
    errors = {}
    for rank in (1, 2, 5, 8, 10, 15, 20, 30, 50):
        cut = full.truncate(rank=rank)
        errors[rank] = rmse((cut.U * cut.s @ cut.Vh)[held.rows, held.columns], held.values)
    best = min(errors, key=lambda rank: errors[rank])
    return best, errors[best]
