"""The fine-tune that the tests of several commands read. No test may write into its folder."""

import pytest

from support.fine_tune import FineTune, make_fine_tune


@pytest.fixture(scope="session")
def fine_tune(tmp_path_factory: pytest.TempPathFactory) -> FineTune:
    return make_fine_tune(tmp_path_factory.mktemp("fine_tune"))
