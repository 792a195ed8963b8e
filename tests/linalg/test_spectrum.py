"""Spectrum compared with formulas that are written out independently."""

import math
import re
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eckart import Spectrum, svd
from eckart.errors import MissingExtraError, UsageError
from eckart.extras import requirement
from eckart.linalg import Goal
from support.matrices import DECAYS, least_rank, with_values

# Values over nine decades: their squares span eighteen, more than float64 sums can resolve.
values = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40).map(lambda v: sorted(v, reverse=True))
shares = st.floats(1e-3, 1.0)
SUM = 1e-12  # two sums of 40 squares in different order differ by at most 40 eps


@given(values)
def test_energy_grows_to_one_and_error_falls_to_zero(sigma):
    s = Spectrum(sigma)
    energies = [s.energy(r) for r in range(len(sigma) + 1)]
    errors = [s.error(r) for r in range(len(sigma) + 1)]
    assert energies == sorted(energies) and energies[0] == 0
    assert energies[-1] == pytest.approx(1, abs=SUM)
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
    for energy, error in zip(energies, errors, strict=True):
        assert energy + error**2 == pytest.approx(1, abs=SUM)
    assert s.energy(len(sigma) + 5) == energies[-1]


@given(values, shares)
def test_rank_at_energy_is_the_least_that_reaches_it(sigma, energy):
    s = Spectrum(sigma)
    r = s.rank_at_energy(energy)
    assert s.energy(r) >= energy - SUM
    assert r == 0 or s.energy(r - 1) < energy
    assert least_rank(sigma, energy - SUM) <= r <= least_rank(sigma, min(energy + SUM, 1.0))


@given(values, st.floats(0.0, 0.999))
def test_rank_at_error_is_the_least_that_reaches_it(sigma, error):
    s = Spectrum(sigma)
    r = s.rank_at_error(error)
    assert s.error(r) <= error + 1e-12
    assert r == 0 or s.error(r - 1) > error


@given(values, st.data())
def test_leading_values_and_the_exact_tail_give_the_same_ranks(sigma, data):
    known = data.draw(st.integers(0, len(sigma)))
    whole = Spectrum(sigma)
    part = Spectrum(sigma[:known], sum(v**2 for v in sigma[known:]), len(sigma))
    assert part.complete == (known == len(sigma))
    assert part.total == pytest.approx(whole.total, rel=SUM)
    for r in range(known + 1):
        assert part.energy(r) == pytest.approx(whole.energy(r), abs=SUM)
        assert part.error(r) == pytest.approx(whole.error(r), abs=1e-6)  # the root of the same uncertainty
    energy = data.draw(shares)
    rank = whole.rank_at_energy(energy)
    # Rounding of the sums must not decide the rank.
    assume(
        whole.rank_at_energy(max(energy - SUM, 1e-9)) == whole.rank_at_energy(min(energy + SUM, 1)) == rank
    )
    if rank <= known:
        assert part.rank_at_energy(energy) == rank
    else:
        with pytest.raises(UsageError, match=f"leading {known} of {len(sigma)} singular values"):
            part.rank_at_energy(energy)


KNEES = {name: d(120) for name, d in DECAYS.items() if name not in ("flat", "zero")}


@pytest.mark.parametrize("sigma", KNEES.values(), ids=KNEES)
def test_knee_does_not_depend_on_the_length_of_the_list(sigma):
    s = Spectrum(sigma)
    knee, end = s.knee(), s.rank_at_energy(0.95)
    assert knee is None or 1 <= knee <= end
    squares = sigma**2
    for cut in range(end, len(sigma) + 1):
        assert Spectrum(sigma[:cut], squares[cut:].sum(), len(sigma)).knee() == knee
    assert Spectrum(np.concatenate([sigma, np.full(500, min(1e-9 * sigma[0], sigma[-1]))])).knee() == knee


def test_knee_of_simple_spectra():
    # 8 values of 3 and 32 of 0.6: the curve rises straight to 86 % at rank 8, and bends there.
    assert Spectrum([3.0] * 8 + [0.6] * 32).knee() == 8
    # With 32 of 0.3, the 8 hold 96 %, and the curve is straight up to there.
    assert Spectrum([3.0] * 8 + [0.3] * 32).knee() is None
    assert Spectrum(DECAYS["rank 16"](60)).knee() == 7  # 3.0, 2.9, ..., 1.5, and zeros
    assert Spectrum(np.ones(50)).knee() is None
    assert Spectrum(np.zeros(5)).knee() is None
    assert Spectrum([3.0]).knee() == 1


@given(values)
def test_knee_is_the_point_farthest_above_the_chord(sigma):
    s = Spectrum(sigma)
    end = s.rank_at_energy(0.95)
    heights = [s.energy(r) / s.energy(end) - r / end for r in range(1, end + 1)]
    knee = s.knee()
    if knee is None:
        assert max(heights) <= 1e-8
    else:
        assert heights[knee - 1] == pytest.approx(max(heights), abs=SUM)


@given(values)
def test_stable_and_effective_rank_equal_their_definitions(sigma):
    s = Spectrum(sigma)
    assert s.stable_rank == pytest.approx(math.fsum((v / sigma[0]) ** 2 for v in sigma), rel=1e-12)
    p = [v / math.fsum(sigma) for v in sigma]  # of sigma, as in Roy and Vetterli
    assert s.effective_rank == pytest.approx(math.exp(-math.fsum(x * math.log(x) for x in p)), rel=1e-9)
    q = [v**2 / math.fsum(x**2 for x in sigma) for v in sigma]
    entropy = -math.fsum(x * math.log(x) for x in q)
    assert s.entropy == pytest.approx(entropy, rel=1e-9, abs=1e-12)
    assert s.condition == pytest.approx(sigma[0] / sigma[-1])
    # Equal only for a flat spectrum; with sigma^2 the exponential of the entropy is smaller.
    assert 1 - 1e-9 <= math.exp(entropy) <= s.effective_rank + 1e-9
    assert s.effective_rank <= len(sigma) * (1 + 1e-9)


def test_effective_rank_uses_sigma_and_not_its_square():
    # p = (0.75, 0.25): exp(-0.75 ln 0.75 - 0.25 ln 0.25) = 1.7548; with sigma^2, (0.9, 0.1), 1.3842.
    assert Spectrum([3.0, 1.0]).effective_rank == pytest.approx(1.7548, abs=1e-4)
    assert math.exp(Spectrum([3.0, 1.0]).entropy) == pytest.approx(1.3842, abs=1e-4)


@pytest.mark.parametrize("ones", [1, 5, 40])
def test_ranks_of_a_flat_spectrum_equal_its_length(ones):
    s = Spectrum(np.ones(ones))
    assert s.stable_rank == pytest.approx(ones)
    assert s.effective_rank == pytest.approx(ones)
    assert Spectrum([1.0] * ones + [0.0] * 3).effective_rank == pytest.approx(ones)


def test_zero_spectrum():
    s = Spectrum(np.zeros(4))
    assert (s.total, s.energy(0), s.error(0)) == (0, 1, 0)
    assert (s.stable_rank, s.effective_rank, s.entropy) == (0, 0, 0)
    assert s.rank_at_energy(0.9) == s.rank_at_error(0.1) == 0
    assert s.condition == math.inf


def test_fast_and_slow_decay():
    assert Spectrum(DECAYS["exp(-i/20)"](300)).decay() == "fast"
    assert Spectrum(np.ones(50)).decay() == "slow"
    assert Spectrum([1.0], 5.0, 100).decay() == "unknown"
    assert Spectrum(np.ones(10), 90.0, 100).decay() == "slow"


@pytest.mark.parametrize(("ratio", "rank"), [(1.0, 0), (2.9, 2), (3.1, 3), (100, 3)])
def test_ratio_counts_values_strictly_above(ratio, rank):
    assert Spectrum([3.0, 2.0, 1.0]).rank_at(Goal("ratio", ratio)) == rank


@pytest.mark.parametrize(("bar", "rank"), [(0, 3), (1.0, 2), (2.5, 1), (3.0, 0)])
def test_above_counts_values_strictly_above(bar, rank):
    assert Spectrum([3.0, 2.0, 1.0]).rank_at(Goal("above", bar)) == rank


def test_rank_is_unknown_if_all_known_values_are_above_the_threshold():
    part = Spectrum([3.0, 2.0], 1.0, 3)
    assert part.rank_for(Goal("above", 1.5)) is None
    assert part.rank_for(Goal("above", 2.5)) == 1
    assert part.rank_for(Goal("full")) is None
    assert Spectrum([3.0, 2.0]).rank_for(Goal("full")) == 2


@given(values, st.floats(0.5, 0.999))
def test_scaling_changes_no_rank(sigma, energy):
    assume(sigma[-1] > 1e-3)
    s, t = Spectrum(sigma), Spectrum(np.array(sigma) * 2.0**40)  # a power of two rounds nothing
    assert (s.rank_at_energy(energy), s.knee()) == (t.rank_at_energy(energy), t.knee())


def test_spectrum_keeps_its_own_copy():
    values = np.array([3.0, 2.0])
    s = Spectrum(values)
    values[0] = 0.0
    assert s.values.tolist() == [3.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        s.values[0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[3.0]],), "one axis"),
        (([1.0, 2.0],), "largest value first"),
        (([1.0, -1.0],), "at least 0"),
        (([math.nan],), "finite"),
        (([math.inf],), "finite"),
        (([3.0, 2.0], 0.0, 1), "expected at least 2, the number of values, got 1"),
        (([1.0], math.nan, 5), "tail"),
        (([1.0], math.inf, 5), "tail"),
    ],
)
def test_invalid_spectra_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        Spectrum(*arguments)
    assert str(caught.value).startswith("`Spectrum(")


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.energy(3),
        lambda s: s.error(3),
        lambda s: s.rank_at_energy(0.99),
        lambda s: s.rank_at_error(0.01),
        lambda s: s.effective_rank,
        lambda s: s.entropy,
        lambda s: s.condition,
    ],
)
def test_questions_beyond_the_known_values_are_refused(ask):
    with pytest.raises(UsageError, match="leading 2"):
        ask(Spectrum([3.0, 2.0], 1.0, 9))


@pytest.mark.parametrize("ask", [Spectrum.energy, Spectrum.error])
def test_a_negative_rank_is_refused(ask):
    with pytest.raises(UsageError, match=r"\(-1\)`: expected a rank of at least 0"):
        ask(Spectrum([3.0, 2.0]), -1)


def test_stable_rank_needs_one_value():
    with pytest.raises(UsageError, match="expected sigma_1 to be known"):
        _ = Spectrum([], 1.0, 5).stable_rank


def drawn(axes):
    """Return the x and y values of the only line of some axes."""
    (line,) = axes.lines
    return line.get_xdata().tolist(), line.get_ydata().tolist()


@pytest.fixture
def plt():
    """matplotlib without a display; figures are closed afterwards."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    yield pyplot
    pyplot.close("all")


PLOTTED = {
    "all values": Spectrum([3.0, 2.0, 1.0]),
    "leading values": Spectrum([3.0, 2.0], 5.0, 9),
    "a value of 0": Spectrum([3.0, 1.0, 0.0]),
    "one value": Spectrum([2.0]),
    "many values": Spectrum(DECAYS["1/i"](200)),
}


@pytest.mark.parametrize("s", PLOTTED.values(), ids=PLOTTED)
def test_plot_shows_the_values_and_the_energies(s, plt):
    values_ax, energy_ax = s.plot()
    ranks = list(range(1, len(s) + 1))
    assert drawn(values_ax) == (ranks, s.values.tolist())
    assert drawn(energy_ax) == (ranks, pytest.approx([s.energy(r) for r in ranks], abs=SUM))
    assert (values_ax.get_yscale(), energy_ax.get_yscale()) == ("log", "linear")
    assert values_ax.get_xlabel() == "component"
    assert values_ax.get_ylabel() == "singular value" and energy_ax.get_ylabel() == "cumulative energy"
    values_ax.figure.canvas.draw()  # raises no warning


@pytest.mark.parametrize("s", [Spectrum(np.zeros(3)), Spectrum([])], ids=["zeros", "no values"])
def test_plot_without_a_positive_value_has_linear_axes(s, plt):
    values_ax, energy_ax = s.plot()
    ranks = list(range(1, len(s) + 1))
    assert drawn(values_ax) == (ranks, [0.0] * len(s)) and drawn(energy_ax) == (ranks, [1.0] * len(s))
    assert values_ax.get_yscale() == "linear"
    values_ax.figure.canvas.draw()


def test_plot_draws_on_given_axes(plt):
    figure, (left, right) = plt.subplots(1, 2)
    values_ax, energy_ax = Spectrum([3.0, 1.0]).plot(right)
    assert values_ax is right and not left.lines
    assert energy_ax.figure is figure and len(plt.get_fignums()) == 1


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    advice = re.escape(f"matplotlib is not installed. Run: pip install {requirement('plot')}")
    with pytest.raises(MissingExtraError, match=advice):
        Spectrum([1.0]).plot()


def test_html_table_shows_the_main_numbers():
    html = Spectrum([3.0, 2.0, 1.0])._repr_html_()
    for label, value in (
        ("singular values", "all 3"),
        ("total energy", "14"),
        ("stable rank", "1.556"),
        ("effective rank", "2.749"),
        ("rank at 90% energy", "2"),
    ):
        assert f'<th scope="row">{label}</th><td>{value}</td>' in html
    part = Spectrum([3.0, 2.0], 5.0, 9)._repr_html_()
    assert "<td>leading 2 of 9</td>" in part and "effective rank" not in part
    assert '<th scope="row">rank at 90% energy</th><td>more than known</td>' in part
    assert "largest value" not in Spectrum([], 1.0, 3)._repr_html_()


SPREAD = [*np.logspace(0, -16, 33)]  # over sixteen decades, as far as float64 resolves next to sigma_1


@given(values | st.just(SPREAD))
def test_energy_1_and_error_0_leave_out_a_relative_error_of_1e13_at_most(sigma):
    s = Spectrum(sigma)
    rank = s.rank_at_energy(1.0)
    assert rank == s.rank_at_error(0.0)
    beyond = [
        math.sqrt(math.fsum(v * v for v in sigma[r:]) / math.fsum(v * v for v in sigma))
        for r in (rank, rank - 1)
    ]
    assert beyond[0] <= 1.0001e-13 < 1.0002 * beyond[1]


@given(values, st.floats(0.0, 0.999))
def test_an_energy_and_the_error_that_it_leaves_give_the_same_rank(sigma, error):
    s = Spectrum(sigma)
    energy = 1 - error**2
    assume(energy < 1 and error > 1e-3)  # nearer to 1, the energy's own rounding matters
    ranks = {s.rank_at_energy(e) for e in (energy, energy * (1 - 1e-12), min(energy * (1 + 1e-12), 1.0))}
    assert s.rank_at_error(error) in ranks


@pytest.mark.parametrize("goal", [{"energy": 1.0}, {"error": 0.0}], ids=["energy 1", "error 0"])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_svd_finds_the_exact_rank_of_a_float64_matrix(rank, goal):
    sigma = np.logspace(0, -9, 12)[:rank]
    f = svd(with_values(sigma, 40, 30, seed=rank), **goal)
    assert f.rank == rank and f.rank_bounds == (rank, rank)


def test_svd_at_energy_1_keeps_values_down_to_the_tolerance():
    """1e-12 is kept and 1e-16 is not: only the first is a relative error above 1e-13."""
    A = np.diag([1.0, 1e-4, 1e-8, 1e-12, 1e-16])
    assert svd(A, energy=1.0).rank == svd(A, error=0.0).rank == 4
    assert svd(A, energy=1 - 1e-12).rank == 2
