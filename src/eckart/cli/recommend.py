"""`eckart recommend`: ratings in, predictions out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from eckart.applications.completion.choose import Setting
from eckart.applications.ratings import Ratings, read_ratings
from eckart.applications.recommender import HOLDOUT, Recommender, fit
from eckart.cli import console
from eckart.cli import options as opt
from eckart.errors import OutputError, UsageError
from eckart.parallel import Progress


def recommend(
    ratings: Annotated[
        Path,
        typer.Argument(
            help="u.data, ratings.dat, ratings.csv or any CSV of user,item,rating; or a saved .safetensors.",
            show_default=False,
        ),
    ],
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="Suggest items for this user.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many.")] = 10,
    item: Annotated[
        str | None,
        typer.Option("--item", help="With --user: predict this rating.", show_default=False),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="als, softimpute, biases, or auto: what predicts best.")
    ] = "auto",
    rank: Annotated[
        int | None, typer.Option("--rank", help="Number of factors.", show_default="chosen")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws and the fits.")] = 0,
    holdout: Annotated[
        float, typer.Option("--holdout", help="Share of the ratings that the error is measured on.")
    ] = HOLDOUT,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad lines out.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Save the model, .safetensors.", show_default=False)
    ] = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Predict ratings from a low-rank model, and suggest items; what is not rated counts as missing.

    Chooses method, rank and regularisation on ratings held out, states the error on others that had no
    part in the choice, and then fits all ratings.

    Examples: **eckart recommend ml-100k/u.data** · **eckart recommend ratings.csv --user 7 --top 5** ·
    **eckart recommend ratings.csv --out model.safetensors**, then
    **eckart recommend model.safetensors --user 7**
    """
    if item is not None and user is None:
        raise UsageError("--item", "expected --user with it")
    if out is not None:
        _check_out(out, ratings, overwrite)
    data = None
    if ratings.suffix == ".safetensors":
        _refuse_to_fit(ratings, method=method != "auto", rank=rank is not None, holdout=holdout != HOLDOUT,
                       seed=seed != 0, skip_bad=skip_bad, out=out is not None)  # fmt: skip
        found = Recommender.load(ratings)
    else:
        data = read_ratings(ratings, skip_bad)
        found = _fit(data, method, rank, holdout, seed, quiet)
    for note in found.notes:
        console.say(f"note: {note}", quiet)
    if user is not None:
        _say_if_cold(found, user, item, quiet)
    if out is not None:
        found.save(out)
        console.say(f"saved: {out}", quiet)
    if json:
        console.print_json(_as_json(found, user, item, top))
        return
    if data is not None or user is None:
        _print_fit(found, data)
    if user is not None and item is not None:
        line = f"user {user}, item {item}: {console.figure(found.predict(user, item), 4)}"
        console.out().print(line, markup=False)
    elif user is not None:
        rows = [[s.item, f"{s.rating:.2f}"] for s in found.top(user, top)]
        console.print_table([f"for user {user}", "predicted"], rows)
        if not rows:
            console.say(f"note: user {user} has rated every item", quiet)


def _refuse_to_fit(ratings: Path, **given: bool) -> None:
    """Refuse what was asked of a fit where there is none, and would be overlooked."""
    names = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if names:
        said = " and ".join(names)
        raise UsageError(
            said, f"{ratings} is a saved model already", f"Leave {said} away, or give the ratings"
        )


def _check_out(out: Path, ratings: Path, overwrite: bool) -> None:
    """Refuse a place that cannot or must not be written, before the fit and not after it."""
    if out.suffix != ".safetensors":
        raise OutputError(str(out), "expected a name that ends in .safetensors")
    if out.is_dir():
        raise OutputError(str(out), "it is a folder", "Give a file")
    if out.exists() and not overwrite:
        raise OutputError(str(out), "the file is there already", "Replace it with --overwrite")
    if not out.absolute().parent.is_dir():
        raise OutputError(str(out), "it cannot be written (there is no such folder)", "Make the folder first")


def _fit(data: Ratings, method: str, rank: int | None, holdout: float, seed: int, quiet: bool) -> Recommender:
    tried: list[Setting] = []  # some of them more than once
    with console.progress_bar(quiet, "choosing") as bar:

        def tell(setting: Setting, error: float) -> None:
            tried.append(setting)
            if bar is not None:
                bar(Progress(len(tried), None, str(setting)))  # nobody knows how many there will be

        found = fit(data, method, rank, holdout=holdout, seed=seed, tell=tell)
    if tried:
        console.say(f"chose {found.setting} of {len(set(tried))} settings tried", quiet)
    return found


def _say_if_cold(found: Recommender, user: str, item: str | None, quiet: bool) -> None:
    cold_item = item is not None and item not in found.items
    if user in found.users and not cold_item:
        return
    basis = (
        f"user {user} has no rating: items are ordered by their bias"
        if item is None
        else found.basis(user, item)
    )
    console.say(f"note: {basis}", quiet)


def _print_fit(found: Recommender, data: Ratings | None) -> None:
    out = console.out()
    m, n = len(found.user_ids), len(found.item_ids)
    known = len(found.rated)
    out.print(
        f"{known:,} ratings from {found.low:g} to {found.high:g}, {m:,} users, {n:,} items, "
        f"{console.percent(known / (m * n))} known",
        markup=False,
    )
    out.print(f"model: {found.setting}", markup=False)
    said = found.measured
    if said is None:
        out.print("RMSE: nothing was held out\n", markup=False)
        return
    out.print(
        f"RMSE {said.rmse:.4f} on {said.ratings:,} held-out ratings "
        f"({console.percent(said.share, 0)}, seed {said.seed}); biases alone {said.rmse_biases:.4f}, "
        f"the mean {said.rmse_mean:.4f}",
        markup=False,
    )
    if said.cold_users or said.cold_items:
        out.print(
            f"of these, {said.cold_users:,} of users and {said.cold_items:,} of items without any other rating",
            markup=False,
        )


def _as_json(found: Recommender, user: str | None, item: str | None, top: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "ratings": len(found.rated),
        "users": len(found.user_ids),
        "items": len(found.item_ids),
        "range": [found.low, found.high],
        "setting": found.setting.to_json(),
        "factors": found.model.rank,
        "measured": None if found.measured is None else asdict(found.measured),
        "notes": list(found.notes),
    }
    if user is not None and item is not None:
        answer["prediction"] = {
            "user": user,
            "item": item,
            "rating": found.predict(user, item),
            "basis": found.basis(user, item),
        }
    elif user is not None:
        answer["suggestions"] = {
            "user": user,
            "known": user in found.users,
            "items": [s._asdict() for s in found.top(user, top)],
        }
    return answer
