"""`eckart inspect`: its numbers against NumPy's, in JSON and in the printed table."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import eckart
from eckart.checkpoint import write_safetensors
from eckart.text import rank_range
from support.fine_tune import LINEAR, MATRICES, SHAPES
from support.pairs import EPS, write_pair
from support.printed_tables import recorded
from support.terminal import Ran, run, table_rows, tree


def test_json_holds_the_numbers_of_numpy(fine_tune):
    pair = fine_tune.pair
    done = run("inspect", *pair.paths, "--json")
    layers = {row["name"]: row for row in json.loads(done.out)["layers"]}
    assert list(layers) == MATRICES
    for name, row in layers.items():
        sigma = pair.sigma(name)
        energy = np.cumsum(sigma**2) / (sigma**2).sum()
        for percent, share in (("80%", 0.8), ("90%", 0.9), ("95%", 0.95), ("99%", 0.99)):
            assert row["ranks"][percent] == 1 + int(np.argmax(energy >= share))
        tolerance = 20 * EPS  # of LAPACK in float32, relative to sigma_1
        assert row["sigma_1"] == pytest.approx(sigma[0], rel=tolerance)
        assert row["stable_rank"] == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=2 * tolerance)
        shares = sigma / sigma.sum()
        entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum()
        # Each of the n values is off by up to eps sigma_1, which is n times that of their sum.
        assert row["effective_rank"] == pytest.approx(np.exp(entropy), rel=len(sigma) * tolerance)
        base = np.linalg.norm(pair.before[name].astype(np.float64))
        assert row["relative"] == pytest.approx(np.linalg.norm(sigma) / base, rel=1e-6)
        assert row["unchanged"] == np.count_nonzero(pair.update(name) == 0) / pair.update(name).size
        assert row["shape"] == list(SHAPES[name])


def test_the_table_shows_the_same_numbers(fine_tune):
    pair = fine_tune.pair
    done = run("inspect", *pair.paths)
    rows = table_rows(done.out)
    header = "shape |dW|/|W| sigma_1 stable effective r80 r90 r95 r99 knee above noise decay unchanged"
    assert rows["layer"] == header.split()
    for name in MATRICES:
        sigma = pair.sigma(name)
        energy = np.cumsum(sigma**2) / (sigma**2).sum()
        cells = rows[name.removesuffix(".weight")]
        m, n = SHAPES[name]
        base = np.linalg.norm(pair.before[name].astype(np.float64))
        expected = [np.linalg.norm(sigma) / base, sigma[0], (sigma**2).sum() / sigma[0] ** 2]
        assert cells[0] == f"{m}x{n}"
        # Three significant digits are printed: half of the last is at most 0.5 %.
        assert [float(cell) for cell in cells[1:4]] == pytest.approx(expected, rel=5e-3)
        ranks = [1 + int(np.argmax(energy >= e)) for e in (0.8, 0.9, 0.95, 0.99)]
        assert [int(cell) for cell in cells[5:9]] == ranks
        floor = eckart.FactorStore.open(fine_tune.store).record(name).noise_floor
        assert int(cells[10]) == int((sigma > floor).sum())
    in_matrices = sum((pair.sigma(name) ** 2).sum() for name in MATRICES)
    total = sum((pair.update(name) ** 2).sum() for name in SHAPES)
    assert (
        f"\n{100 * in_matrices / total:.1f}% of the change's energy is in 3 matrices, "
        "the rest in 2 other tensors\n"
    ) in done.out


@pytest.mark.parametrize(
    ("matrices", "vectors", "totals"),
    [
        (1, 0, "100.0% of the change's energy is in 1 matrix"),
        (2, 0, "100.0% of the change's energy is in 2 matrices"),
        (1, 1, "50.0% of the change's energy is in 1 matrix, the rest in 1 other tensor"),
        (3, 1, "75.0% of the change's energy is in 3 matrices, the rest in 1 other tensor"),
    ],
)
def test_the_line_of_totals_has_correct_plurals(tmp_path, matrices, vectors, totals):
    after = {f"layers.{i}.weight": np.eye(4, dtype=np.float32) for i in range(matrices)}
    after |= {f"layers.{i}.bias": np.ones(4, np.float32) for i in range(vectors)}
    pair = write_pair(tmp_path, {name: np.zeros_like(array) for name, array in after.items()}, after)
    assert totals in run("inspect", *pair.paths).out.splitlines()


def test_one_checkpoint_alone_shows_the_spectra_of_its_weights(fine_tune):
    pair = fine_tune.pair
    summary = json.loads(run("inspect", pair.tuned, "--json").out)
    assert summary["diagnosis"] == []
    layers = {row["name"]: row for row in summary["layers"]}
    for name in MATRICES:
        sigma = np.linalg.svd(pair.after[name].astype(np.float64), compute_uv=False)
        assert layers[name]["sigma_1"] == pytest.approx(sigma[0], rel=20 * EPS)
        assert layers[name]["relative"] is None
    cells = table_rows(run("inspect", pair.tuned).out)[MATRICES[0].removesuffix(".weight")]
    assert cells[1] == "-"


def test_a_base_of_zeros_has_no_relative_size(tmp_path):
    zeros, update = np.zeros((4, 3), np.float32), np.eye(4, 3, dtype=np.float32)
    pair = write_pair(tmp_path, {"a.weight": zeros}, {"a.weight": update})
    done = run("inspect", *pair.paths)
    assert done.code == 0, done.err
    assert table_rows(done.out)["a"][:3] == ["4x3", "-", "1"]


def test_a_store_is_kept_and_used_again(fine_tune, tmp_path):
    pair = fine_tune.pair
    first = run("inspect", *pair.paths, "--store", tmp_path / "store")
    assert eckart.FactorStore.open(tmp_path / "store").spectrum(MATRICES[0]).complete
    kept = tree(tmp_path)
    second = run("inspect", *pair.paths, "--store", tmp_path / "store")
    assert (second.out, tree(tmp_path)) == (first.out, kept)


def test_a_dry_run_reads_only_headers(tmp_path):
    """Two sparse files of 6 GB each: reading them would take longer than a test may."""
    shapes = {"0.q.weight": (40_000, 30_000), "1.q.weight": (7, 300), "embed.weight": (90, 7), "b": (40_000,)}
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries).encode()
    for file in ("base", "tuned"):
        with (tmp_path / f"{file}.safetensors").open("wb") as sparse:
            sparse.write(len(text).to_bytes(8, "little") + text)
            sparse.truncate(8 + len(text) + end)
    before = sorted(p.name for p in tmp_path.iterdir())
    pair = [tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"]
    estimate = json.loads(run("inspect", *pair, "--dry-run", "--json").out)
    assert estimate["tensors"] == 4 and estimate["matrices"] == 3
    assert estimate["parameters"] == sum(int(np.prod(s)) for s in shapes.values())
    assert estimate["bytes_read"] == 2 * end
    assert set(estimate["adapter_bytes"]) == {"8", "16", "32", "64", "128"}
    for rank, size in estimate["adapter_bytes"].items():
        r = int(rank)
        assert size == 4 * (r * 70_000 + min(r, 7) * 307)  # r (m + n) numbers of four bytes, r <= min(m, n)
    assert estimate["peak_bytes"] >= 3 * 4 * 40_000 * 30_000  # both originals and their difference
    table = run("inspect", *pair, "--dry-run").out
    assert "4 (3 matrices)" in table and f"{2 * end / 1e9:.1f} GB" in table
    assert sorted(p.name for p in tmp_path.iterdir()) == before


# What to type next


def next_command(done: Ran, **placeholders: object) -> list[str]:
    """Return the words of the last line on stderr, which begins with "Next: eckart"."""
    line = done.err.splitlines()[-1]
    assert line.startswith("Next: eckart ")
    return [str(placeholders.get(word, word)) for word in shlex.split(line)[2:]]


def write_models(folder: Path, **updates: np.ndarray) -> list[Path]:
    """Write a base and one tuned model for each update of four layers; return their paths."""
    random = np.random.default_rng(0)
    before = {f"layers.{i}.weight": random.standard_normal((64, 48)).astype(np.float32) for i in range(4)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "base.safetensors"]
    write_safetensors(paths[0], before)
    for name, update in updates.items():
        paths.append(folder / f"{name}.safetensors")
        write_safetensors(paths[-1], {key: array + update for key, array in before.items()})
    return paths


def low_rank_update(rank: int) -> np.ndarray:
    random = np.random.default_rng(1)
    update = random.standard_normal((64, rank)) @ random.standard_normal((rank, 48))
    return (0.05 * update).astype(np.float32)


def test_a_full_fine_tune_leads_to_extract_at_the_cost_that_is_stated(fine_tune, tmp_path):
    done = run("inspect", *fine_tune.pair.paths, "--store", tmp_path / "s")
    words = next_command(done, ADAPTER=tmp_path / "a")
    base, tuned = map(str, fine_tune.pair.paths)
    expected = ["extract", base, tuned, "-o", tmp_path / "a", "--energy", "0.9", "--store", tmp_path / "s"]
    assert words == [str(word) for word in expected]
    extracted = json.loads(run(*words, "--json").out)
    ranks = [module["rank"] for module in extracted["modules"].values()]
    whole = sum(int(np.prod(SHAPES[name])) for name in LINEAR)
    assert (
        f"Keeping 90% of the energy in every layer takes {rank_range(ranks)}: {extracted['parameters']:,} "
        f"parameters in place of {whole:,}.\n"
    ) in done.out


def test_a_merged_lora_leads_to_the_noise_floor_which_recovers_its_rank(tmp_path):
    folder = tmp_path / "a folder's name"  # needs quotes
    base, tuned = write_models(folder, tuned=low_rank_update(3))
    words = next_command(run("inspect", base, tuned), ADAPTER=tmp_path / "a")
    assert words == ["extract", str(base), str(tuned), "-o", str(tmp_path / "a"), "--noise-floor"]
    extracted = json.loads(run(*words, "--json").out)
    assert {module["rank"] for module in extracted["modules"].values()} == {3}


def test_a_budget_is_proposed_where_factors_would_be_larger_than_the_matrices(tmp_path):
    random = np.random.default_rng(5)
    base, tuned = write_models(tmp_path, tuned=0.1 * random.standard_normal((64, 48)).astype(np.float32))
    done = run("inspect", base, tuned)
    cost, whole = re.search(r"takes .*: ([\d,]+) parameters in place of ([\d,]+)\.", done.out).groups()
    assert int(cost.replace(",", "")) > int(whole.replace(",", ""))
    words = next_command(done, ADAPTER=tmp_path / "a")
    assert words[-2:] == ["--budget", "5%"]
    assert run(*words).code == 0


def test_an_implausible_base_leads_to_another_base(tmp_path):
    random = np.random.default_rng(5)
    base, tuned = write_models(tmp_path, tuned=3 * random.standard_normal((64, 48)).astype(np.float32))
    assert next_command(run("inspect", base, tuned)) == ["inspect", "OTHER_BASE", str(tuned)]


def test_models_that_are_the_same_lead_nowhere(tmp_path):
    base, tuned = write_models(tmp_path, tuned=np.zeros((64, 48), np.float32))
    done = run("inspect", base, tuned)
    assert "Nothing changed" in done.out and "Keeping" not in done.out
    assert "Next" not in done.err


def test_one_checkpoint_an_adapter_and_a_dry_run_lead_on(fine_tune, tmp_path):
    base, tuned = map(str, fine_tune.pair.paths)
    assert next_command(run("inspect", base)) == ["inspect", base, "TUNED"]
    assert next_command(run("inspect", base, tuned, "--dry-run")) == ["inspect", base, tuned]
    assert next_command(run("inspect", base, "--dry-run")) == ["inspect", base]
    for line in ([fine_tune.adapter], [base, fine_tune.adapter]):
        words = next_command(run("inspect", *line), SMALLER=tmp_path / str(len(line)))
        assert words[:2] == ["resize", str(fine_tune.adapter)]
        assert run(*words).code == 0


@pytest.mark.parametrize("options", [["-q"], ["--json"]])
def test_nothing_leads_on_if_quiet_or_in_json(fine_tune, options):
    assert "Next" not in run("inspect", *fine_tune.pair.paths, *options).err


# What the columns mean


@pytest.mark.parametrize("kind", ["pair", "adapter", "base and adapter"])
def test_every_column_is_explained_on_request(fine_tune, kind):
    base, tuned = fine_tune.pair.paths
    line = {
        "pair": [base, tuned],
        "adapter": [fine_tune.adapter],
        "base and adapter": [base, fine_tune.adapter],
    }
    with recorded() as tables:
        done = run("inspect", *line[kind], "--explain")
    table, legend = tables
    assert done.code == 0
    described = {title: meaning for titles, meaning in legend.read()[1] for title in titles.split(", ")}
    assert list(described) == [column.title for column in table.columns]
    assert all(meaning.endswith(".") for meaning in described.values())
    assert done.out.index("meaning") > done.out.index(table.printed[-1])


def test_a_terminal_gets_a_short_legend_and_a_pipe_none(fine_tune):
    on_terminal = " ".join(run("inspect", *fine_tune.pair.paths, width=80).out.split())
    assert "r90: least rank with 90% of the energy" in on_terminal
    assert "--explain describes every column." in on_terminal
    assert "effective: " not in on_terminal  # which is hidden at this width
    assert "--explain" not in run("inspect", *fine_tune.pair.paths).out


@pytest.mark.parametrize("other", ["--json", "--dry-run"])
def test_explain_is_refused_where_there_is_no_table(fine_tune, other):
    done = run("inspect", *fine_tune.pair.paths, "--explain", other)
    assert done.code == 2 and "--explain" in done.err and f"Remove --explain or {other}" in done.err
