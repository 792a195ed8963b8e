"""`eckart recommend`: fit a recommender to ratings, predict ratings and suggest items."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eckart.applications.ratings import HOLDOUT, Ratings, read_ratings
from eckart.checkpoint.output import OutputFile
from eckart.cli import console
from eckart.cli import options as opt
from eckart.cli.tables import Cells, Column, print_table
from eckart.errors import OutputError, RatingsError, UsageError
from eckart.parallel import Progress
from eckart.paths import require
from eckart.text import count

if TYPE_CHECKING:  # imported where they are used, so that other commands start faster
    from eckart.applications.completion.choose import Setting
    from eckart.applications.recommender import Measured, Recommender


def recommend(
    ratings: Annotated[
        Path,
        typer.Argument(
            help="File of ratings (u.data, ratings.dat, ratings.csv or any CSV of user,item,rating), "
            "or a saved model (.safetensors).",
            show_default=False,
        ),
    ],
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="Suggest items for this user.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Number of items to suggest.")] = 10,
    item: Annotated[
        str | None,
        typer.Option("--item", help="Predict the user's rating of this item.", show_default=False),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="als, softimpute, biases, or auto for the one that predicts best.")
    ] = "auto",
    rank: Annotated[
        int | None, typer.Option("--rank", help="Number of factors.", show_default="chosen")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of the splits and the fits.")] = 0,
    holdout: Annotated[
        float,
        typer.Option(
            "--holdout",
            help="Share of the ratings on which the error is measured.",
            metavar="SHARE",
            parser=opt.share("holdout"),
        ),
    ] = HOLDOUT,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip invalid lines.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Save the model to this .safetensors file.", show_default=False),
    ] = None,
    overwrite: opt.Overwrite = False,
    quiet: opt.Quiet = False,
    json: opt.Json = False,
) -> None:
    """Predict ratings with a low-rank model, and suggest items.

    Ratings that are not in the file count as missing. The method, rank and regularisation are chosen on
    held-out ratings. The reported error is measured on other held-out ratings, which play no part in the
    choice. Then the model is fitted to all ratings.

    Examples: **eckart recommend ml-100k/u.data** · **eckart recommend ratings.csv --user 7 --top 5** ·
    **eckart recommend ratings.csv -o model.safetensors**, then
    **eckart recommend model.safetensors --user 7**
    """
    if item is not None and user is None:
        raise UsageError("--item", "this option needs --user", "Pass both --user and --item")
    require(ratings, RatingsError)
    if output is not None:
        _check_output(output, overwrite)
    data = None
    if ratings.suffix == ".safetensors":
        fit_options = {
            "--method": method != "auto",
            "--rank": rank is not None,
            "--holdout": holdout != HOLDOUT,
            "--seed": seed != 0,
            "--skip-bad": skip_bad,
            "--output": output is not None,
        }
        _refuse_options(ratings, [name for name, is_given in fit_options.items() if is_given])
        from eckart.applications.recommender import Recommender

        recommender = Recommender.load(ratings)
    else:
        from eckart.applications.recommender import check_settings

        method = check_settings(method, rank, holdout)
        data = read_ratings(ratings, skip_bad)
        recommender = _fit(data, method, rank, holdout, seed, quiet)
    for note in recommender.notes:
        console.say(f"note: {note}", quiet)
    if user is not None:
        _report_cold_start(recommender, user, item, quiet)
    if output is not None:
        recommender.save(output, overwrite=overwrite)
        console.say(f"saved: {output}", quiet)
    if json:
        console.print_json(_as_json(recommender, user, item, top))
        return
    if data is not None or user is None:
        _print_fit(recommender)
    if user is not None and item is not None:
        line = f"user {user}, item {item}: {console.figure(recommender.predict(user, item), 4)}"
        console.out().print(line, markup=False)
    elif user is not None:
        rows = [[s.item, f"{s.rating:.2f}"] for s in recommender.top(user, top)]
        print_table((Column(f"items for user {user}", Cells.NAME), Column("predicted")), rows)
        if not rows:
            console.say(f"note: user {user} has rated every item", quiet)


def _refuse_options(model: Path, options: list[str]) -> None:
    """Refuse options that only matter when fitting, because a saved model is not fitted again."""
    if options:
        names = " and ".join(options)
        raise UsageError(
            names,
            f"{model} is a saved model, which is not fitted again",
            f"Remove {names}, or pass the file of ratings",
        )


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuse an output file that cannot or must not be written, before the fit starts."""
    from eckart.applications.savedmodel import RECOMMENDER

    if output.suffix != ".safetensors":
        raise OutputError(
            str(output),
            "expected a name that ends in .safetensors",
            f"Use {output.with_suffix('.safetensors')}",
        )
    OutputFile(output, RECOMMENDER, overwrite).check()


def _fit(data: Ratings, method: str, rank: int | None, holdout: float, seed: int, quiet: bool) -> Recommender:
    from eckart.applications.recommender import fit

    trials: list[Setting] = []  # the finalists occur more than once
    with console.progress_bar(quiet, "choosing") as bar:

        def on_trial(setting: Setting, error: float) -> None:
            trials.append(setting)
            bar(Progress(len(trials), None, str(setting), noun="setting"))  # the total is not known

        recommender = fit(data, method, rank, holdout=holdout, seed=seed, on_trial=on_trial)
    if trials:
        console.say(f"chose {recommender.setting} from {count(set(trials), 'setting')}", quiet)
    return recommender


def _report_cold_start(recommender: Recommender, user: str, item: str | None, quiet: bool) -> None:
    is_known_item = item is None or item in recommender.items
    if user in recommender.users and is_known_item:
        return
    if item is None:
        basis = f"user {user} has no ratings; items are ranked by their bias"
    else:
        basis = recommender.basis(user, item)
    console.say(f"note: {basis}", quiet)


def _print_fit(recommender: Recommender) -> None:
    out = console.out()
    m, n = len(recommender.user_ids), len(recommender.item_ids)
    known = len(recommender.rated)
    out.print(
        f"{count(known, 'rating')} from {recommender.low:g} to {recommender.high:g}, {count(m, 'user')}, "
        f"{count(n, 'item')}, {console.percent(known / (m * n))} known",
        markup=False,
    )
    out.print(f"model: {recommender.setting}", markup=False)
    _print_measured(recommender.measured)


def _print_measured(measured: Measured | None) -> None:
    out = console.out()
    if measured is None:
        out.print("RMSE: not measured, because no ratings were held out\n", markup=False)
        return
    out.print(
        f"RMSE {measured.rmse:.4f} on {measured.ratings:,} held-out ratings "
        f"({console.percent(measured.share, 0)}, seed {measured.seed}); for comparison: "
        f"{measured.rmse_biases:.4f} with biases only, {measured.rmse_mean:.4f} with the mean",
        markup=False,
    )
    if measured.cold_users or measured.cold_items:
        out.print(
            f"cold-start ratings among them: {measured.cold_users:,} by new users, "
            f"{measured.cold_items:,} of new items",
            markup=False,
        )


def _as_json(recommender: Recommender, user: str | None, item: str | None, top: int) -> dict[str, object]:
    answer: dict[str, object] = {
        "ratings": len(recommender.rated),
        "users": len(recommender.user_ids),
        "items": len(recommender.item_ids),
        "range": [recommender.low, recommender.high],
        "setting": recommender.setting.to_json(),
        "factors": recommender.model.rank,
        "measured": None if recommender.measured is None else asdict(recommender.measured),
        "notes": list(recommender.notes),
    }
    if user is not None and item is not None:
        answer["prediction"] = {
            "user": user,
            "item": item,
            "rating": recommender.predict(user, item),
            "basis": recommender.basis(user, item),
        }
    elif user is not None:
        answer["suggestions"] = {
            "user": user,
            "known": user in recommender.users,
            "items": [s._asdict() for s in recommender.top(user, top)],
        }
    return answer
