"""The recommender compared with scikit-surprise's SVD and with a truncated SVD of the completed matrix."""

from __future__ import annotations

import importlib.util
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import machine
import numpy as np
import targets
from tables import Table, ratio
from threadpoolctl import threadpool_limits

import eckart
from eckart.applications.completion.choose import Setting, choose, measure
from eckart.applications.completion.entries import Entries
from eckart.applications.completion.model import rmse
from eckart.applications.simulate import simulate_ratings

FACTORS, EPOCHS = 20, 20
ALS = Setting("als", FACTORS, 0.13, 0.5)
SOFT_IMPUTE = Setting("softimpute", FACTORS, 0.33)
TRUNCATED_RANKS = (1, 2, 5, 8, 10, 15, 20, 30, 50)
QUICK_SIZE = {"users": 200, "items": 300, "ratings": 5000}


def run(threads: int, *, quick: bool, notify: Callable[[str], None]) -> list[Table]:
    """Fill both tables."""
    simulated = simulate_ratings(**(QUICK_SIZE if quick else {}))
    ratings = simulated.ratings
    entries = Entries.of(ratings.users, ratings.items, ratings.values, ratings.shape)
    truth = Entries.of(ratings.users, ratings.items, simulated.truth, ratings.shape)
    with threadpool_limits(threads):
        notify("recommend: seconds of a fit")
        seconds = _seconds_table(entries)
        notify("recommend: errors")
        return [seconds, _errors_table(entries, truth)]


def _seconds_table(entries: Entries) -> Table:
    """Fit all ratings: ours with fixed settings, and Surprise's SVD."""
    m, n = entries.shape
    table = Table(
        f"Fitting {len(entries):,} ratings, {m} x {n}, {FACTORS} factors",
        "Ours runs to convergence with a fixed setting, from arrays; scikit-surprise's "
        f"`SVD(n_factors={FACTORS}, n_epochs={EPOCHS})` starts from its Trainset. In memory, in one process. "
        "The last row compares the choice of method, rank and regularisation by `fit`, which takes many "
        "fits, with one fit of the rival.",
    )
    trainset = _trainset(entries)
    rival = None if trainset is None else machine.best_seconds(lambda: _fit_surprise(trainset))

    def add(ours: str, seconds: float, rival_name: str, target: float | None = None) -> None:
        cells = {"ours": ours, "rival": rival_name, "ours, s": seconds, "rival, s": rival}
        table.rows.append({**ratio(rival, seconds, target), **cells})

    als_seconds = machine.best_seconds(lambda: ALS.complete(entries))
    add("ALS", als_seconds, "surprise SVD", targets.RECOMMEND_OVER_SURPRISE)
    add("soft-impute", machine.best_seconds(lambda: SOFT_IMPUTE.complete(entries)), "surprise SVD")
    started = time.perf_counter()
    chosen = choose(entries)
    seconds = time.perf_counter() - started
    add(f"the choice alone, {len(chosen.tried)} settings", seconds, "surprise SVD, one fit")
    return table


def _errors_table(entries: Entries, truth: Entries) -> Table:
    """Hold out a fifth of the ratings, and predict them from the others."""
    training, heldout = entries.split(0.2, 0)
    noise = rmse(truth.split(0.2, 0)[1].values, heldout.values)
    table = Table(
        "RMSE on a fifth of the ratings, held out at random",
        "Simulated ratings of rank 8 with biases, missing not at random. The RMSE of the noise alone is "
        f"{noise:.4f}; no method can do better. Ratio: the rival's RMSE over that of the setting which `fit` "
        "chooses from the other four fifths. The rank of each truncated SVD is the best for the held-out "
        "ratings themselves, an advantage that it would not have in practice.",
    )
    setting = choose(training).best()
    ours = measure(setting.complete(training), training, heldout)

    def add(
        method: str, error: float | None, target: float | None = None, *, is_reference: bool = False
    ) -> None:
        cells = {
            "method": method,
            "RMSE": None if error is None else f"{error:.4f}",
            "above the noise, %": None if error is None else 100 * (error / noise - 1),
        }
        ratio_cells = ratio(error, ours, target)
        if is_reference:
            ratio_cells = {"ratio": None, "target": None, "verdict": "reference"}
        table.rows.append({**ratio_cells, **cells})

    add(f"ours: {setting}", ours, is_reference=True)
    for method, fixed in (("ours: ALS as timed", ALS), ("ours: soft-impute as timed", SOFT_IMPUTE)):
        add(method, measure(fixed.complete(training), training, heldout))
    trainset = _trainset(training)
    add("surprise SVD", None if trainset is None else _surprise_error(trainset, training, heldout), 1.0)
    for filling, by_item in (("the item's mean", True), ("the overall mean", False)):
        rank, error = _truncated_error(training, heldout, by_item)
        add(f"truncated SVD, completed with {filling}, rank {rank}", error, 1.0)
    biases = Setting("biases").complete(training)
    add("biases alone", measure(biases, training, heldout), 1.0)
    add("the mean", rmse(np.full(len(heldout), training.values.mean()), heldout.values))
    return table


def _trainset(entries: Entries) -> Any:
    """Return Surprise's own data structure, or None if Surprise is not installed."""
    if importlib.util.find_spec("surprise") is None:
        return None
    from surprise import Trainset

    by_user, by_item = defaultdict(list), defaultdict(list)
    triples = zip(entries.rows.tolist(), entries.columns.tolist(), entries.values.tolist(), strict=True)
    for user, item, rating in triples:
        by_user[user].append((item, rating))
        by_item[item].append((user, rating))
    m, n = entries.shape
    identity = {index: index for index in range(max(m, n))}
    scale = (float(entries.values.min()), float(entries.values.max()))
    return Trainset(by_user, by_item, m, n, len(entries), scale, identity, identity)


def _fit_surprise(trainset: Any) -> Any:
    from surprise import SVD

    return SVD(n_factors=FACTORS, n_epochs=EPOCHS, random_state=0).fit(trainset)


def _surprise_error(trainset: Any, training: Entries, heldout: Entries) -> float:
    model = _fit_surprise(trainset)
    rows, columns = heldout.rows, heldout.columns
    interactions = (model.pu[rows] * model.qi[columns]).sum(axis=1)
    predicted = trainset.global_mean + model.bu[rows] + model.bi[columns] + interactions
    predicted = np.clip(predicted, training.values.min(), training.values.max())
    return rmse(predicted, heldout.values)


def _truncated_error(training: Entries, heldout: Entries, by_item: bool) -> tuple[int, float]:
    """Return the best rank of a truncated SVD, and its error, with means in place of the missing ratings."""
    _, counts = training.counts()
    sums = np.bincount(training.columns, training.values, training.shape[1])
    use_item_mean = (counts > 0) & by_item
    means = np.where(use_item_mean, sums / np.maximum(counts, 1), training.values.mean())
    X = np.tile(means, (training.shape[0], 1))
    X[training.rows, training.columns] = training.values
    full = eckart.svd(X, method="lapack")
    errors = {}
    for rank in TRUNCATED_RANKS:
        truncated = full.truncate(rank=rank)
        completed = truncated.U * truncated.s @ truncated.Vh
        errors[rank] = rmse(completed[heldout.rows, heldout.columns], heldout.values)
    best = min(errors, key=lambda rank: errors[rank])
    return best, errors[best]
