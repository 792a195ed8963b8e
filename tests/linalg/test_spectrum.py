"""Spectrum: what it answers, against formulas written out independently."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eckart import Spectrum
from eckart.errors import UsageError
from eckart.linalg import Goal
from support.matrices import DECAYS, least_rank

# Values over nine decades: squares over eighteen, more than a sum of float64 can hold apart.
values = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40).map(lambda v: sorted(v, reverse=True))
shares = st.floats(1e-3, 1.0)
SUM = 1e-12  # two sums of 40 squares in another order differ by 40 eps at most


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
def test_leading_values_with_the_exact_rest_answer_the_same_or_refuse(sigma, data):
    known = data.draw(st.integers(0, len(sigma)))
    whole = Spectrum(sigma)
    part = Spectrum(sigma[:known], sum(v**2 for v in sigma[known:]), len(sigma))
    assert part.complete == (known == len(sigma))
    assert part.total == pytest.approx(whole.total, rel=SUM)
    for r in range(known + 1):
        assert part.energy(r) == pytest.approx(whole.energy(r), abs=SUM)
        assert part.error(r) == pytest.approx(whole.error(r), abs=1e-6)  # root of the same doubt
    energy = data.draw(shares)
    near = {whole.rank_at_energy(max(energy - SUM, 1e-9)), whole.rank_at_energy(min(energy + SUM, 1))}
    try:
        assert part.rank_at_energy(energy) in near
    except UsageError as refused:
        assert not part.complete and max(near) > known
        assert str(len(sigma)) in str(refused)


KNEES = {name: d(120) for name, d in DECAYS.items() if name not in ("flat", "zero")}


@pytest.mark.parametrize("sigma", KNEES.values(), ids=KNEES)
def test_the_knee_does_not_move_when_the_list_does(sigma):
    s = Spectrum(sigma)
    knee, end = s.knee(), s.rank_at_energy(0.95)
    assert knee is None or 1 <= knee <= end
    squares = sigma**2
    for cut in range(end, len(sigma) + 1):
        assert Spectrum(sigma[:cut], squares[cut:].sum(), len(sigma)).knee() == knee
    assert Spectrum(np.concatenate([sigma, np.full(500, min(1e-9 * sigma[0], sigma[-1]))])).knee() == knee


def test_where_the_knee_is():
    # 8 values of 3 over 32 of 0.6: the curve climbs straight to 8, where it holds 86 %, and bends.
    assert Spectrum([3.0] * 8 + [0.6] * 32).knee() == 8
    # Over 32 of 0.3 the 8 hold 96 %, and up to there the curve is straight.
    assert Spectrum([3.0] * 8 + [0.3] * 32).knee() is None
    assert Spectrum(DECAYS["rank 16"](60)).knee() in range(7, 16)
    assert Spectrum(np.ones(50)).knee() is None
    assert Spectrum(np.zeros(5)).knee() is None
    assert Spectrum([3.0]).knee() == 1


@given(values)
def test_the_knee_is_the_point_farthest_above_the_chord(sigma):
    s = Spectrum(sigma)
    end = s.rank_at_energy(0.95)
    heights = [s.energy(r) / s.energy(end) - r / end for r in range(1, end + 1)]
    knee = s.knee()
    if knee is None:
        assert max(heights) <= 1e-8
    else:
        assert heights[knee - 1] == pytest.approx(max(heights), abs=SUM)


@given(values)
def test_stable_and_effective_rank_by_their_definitions(sigma):
    s = Spectrum(sigma)
    assert s.stable_rank == pytest.approx(math.fsum((v / sigma[0]) ** 2 for v in sigma), rel=1e-12)
    p = [v / math.fsum(sigma) for v in sigma]  # of sigma, as Roy and Vetterli have it
    assert s.effective_rank == pytest.approx(math.exp(-math.fsum(x * math.log(x) for x in p)), rel=1e-9)
    q = [v**2 / math.fsum(x**2 for x in sigma) for v in sigma]
    entropy = -math.fsum(x * math.log(x) for x in q)
    assert s.entropy == pytest.approx(entropy, rel=1e-9, abs=1e-12)
    assert s.condition == pytest.approx(sigma[0] / sigma[-1])
    # Equal only for a flat spectrum; with sigma^2 the exp of the entropy would be smaller.
    assert 1 - 1e-9 <= math.exp(entropy) <= s.effective_rank + 1e-9
    assert s.effective_rank <= len(sigma) * (1 + 1e-9)


def test_effective_rank_is_of_sigma_and_not_of_its_square():
    # p = (0.75, 0.25): exp(-0.75 ln 0.75 - 0.25 ln 0.25) = 1.7548; with sigma^2, (0.9, 0.1), 1.3842.
    assert Spectrum([3.0, 1.0]).effective_rank == pytest.approx(1.7548, abs=1e-4)
    assert math.exp(Spectrum([3.0, 1.0]).entropy) == pytest.approx(1.3842, abs=1e-4)


@pytest.mark.parametrize("ones", [1, 5, 40])
def test_flat_spectra_count_their_values(ones):
    s = Spectrum(np.ones(ones))
    assert s.stable_rank == pytest.approx(ones)
    assert s.effective_rank == pytest.approx(ones)
    assert Spectrum([1.0] * ones + [0.0] * 3).effective_rank == pytest.approx(ones)


def test_a_zero_spectrum():
    s = Spectrum(np.zeros(4))
    assert (s.total, s.energy(0), s.error(0), s.stable_rank, s.effective_rank, s.entropy) == (
        0,
        1,
        0,
        0,
        0,
        0,
    )
    assert s.rank_at_energy(0.9) == s.rank_at_error(0.1) == 0
    assert s.condition == math.inf


def test_fast_and_slow_decay():
    assert Spectrum(DECAYS["exp(-i/20)"](300)).decay() == "fast"
    assert Spectrum(np.ones(50)).decay() == "slow"
    assert Spectrum([1.0], 5.0, 100).decay() == "unknown"
    assert Spectrum(np.ones(10), 90.0, 100).decay() == "slow"


@pytest.mark.parametrize(("ratio", "rank"), [(1.0, 0), (2.9, 2), (3.1, 3), (100, 3)])
def test_ratio_counts_what_is_strictly_above(ratio, rank):
    assert Spectrum([3.0, 2.0, 1.0]).rank_at(Goal("ratio", ratio)) == rank


@pytest.mark.parametrize(("bar", "rank"), [(0, 3), (1.0, 2), (2.5, 1), (3.0, 0)])
def test_above_counts_what_is_strictly_above(bar, rank):
    assert Spectrum([3.0, 2.0, 1.0]).rank_at(Goal("above", bar)) == rank


def test_leading_values_all_above_a_threshold_cannot_tell():
    part = Spectrum([3.0, 2.0], 1.0, 3)
    assert part.rank_for(Goal("above", 1.5)) is None
    assert part.rank_for(Goal("above", 2.5)) == 1
    assert part.rank_for(Goal("full")) is None
    assert Spectrum([3.0, 2.0]).rank_for(Goal("full")) == 2


@given(values, st.floats(0.5, 0.999))
def test_scaling_changes_no_share(sigma, energy):
    assume(sigma[-1] > 1e-3)
    s, t = Spectrum(sigma), Spectrum(np.array(sigma) * 2.0**40)  # a power of two rounds nothing
    assert (s.rank_at_energy(energy), s.knee()) == (t.rank_at_energy(energy), t.knee())


def test_a_spectrum_keeps_its_own_copy():
    mine = np.array([3.0, 2.0])
    s = Spectrum(mine)
    mine[0] = 0.0
    assert s.values.tolist() == [3.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        s.values[0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([[3.0]],), "one axis"),
        (([1.0, 2.0],), "largest value first"),
        (([1.0, -1.0],), "at least 0"),
        (([math.nan],), "finite"),
        (([math.inf],), "finite"),
        (([3.0, 2.0], 0.0, 1), "1 for 2 values"),
        (([1.0], math.nan, 5), "tail"),
        (([1.0], math.inf, 5), "tail"),
    ],
)
def test_what_is_no_spectrum(arguments, words):
    with pytest.raises(UsageError, match=words) as caught:
        Spectrum(*arguments)
    assert str(caught.value).startswith("`Spectrum(")


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.energy(3),
        lambda s: s.energy(-1),
        lambda s: s.error(3),
        lambda s: s.error(-1),
        lambda s: s.rank_at_energy(0.99),
        lambda s: s.rank_at_error(0.01),
        lambda s: s.effective_rank,
        lambda s: s.entropy,
        lambda s: s.condition,
    ],
)
def test_leading_values_do_not_guess(ask):
    with pytest.raises(UsageError, match="leading 2"):
        ask(Spectrum([3.0, 2.0], 1.0, 9))


def test_the_stable_rank_needs_one_value():
    with pytest.raises(UsageError):
        _ = Spectrum([], 1.0, 5).stable_rank
