"""How a store is shown in a notebook: a short repr, a table, and a plot of ranks by layer."""

import re

import pytest

import eckart
from eckart.linalg import Goal
from support.pairs import MATRICES, make_pair


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return eckart.factor(*make_pair(folder).paths, folder / "store", max_rank=6)


def test_the_repr_names_the_folder_and_the_ranks(store):
    assert repr(store) == f"FactorStore('{store.path}', 7 tensors, 4 with factors up to rank 6)"


def test_the_table_has_a_row_per_tensor_with_its_rank_at_90_percent(store):
    rows = re.findall(r"<tr><td>(.*?)</td><td>.*?</td><td>.*?</td><td>(.*?)</td>", store._repr_html_())
    assert [name for name, _ in rows] == [record.name for record in store]
    shown = dict(rows)
    for name in MATRICES:
        assert shown[name] == str(store.spectrum(name).rank_at_energy(0.9))


def test_the_plot_shows_the_rank_of_every_layer_at_each_energy(store):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = store.plot(energies=(0.5, 0.9))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [name.removesuffix(".weight") for name in MATRICES]
    for line, energy in zip(axes.get_lines(), (0.5, 0.9), strict=True):
        expected = [store.spectrum(name).rank_for(Goal("energy", energy)) for name in MATRICES]
        assert list(line.get_xdata()) == expected
        assert list(line.get_ydata()) == list(range(len(MATRICES)))
    matplotlib.pyplot.close(axes.figure)
