"""One BLAS thread throughout, so that bytes can be compared: the order of a sum follows the threads.

And no test is timed: a busy machine must not fail one.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("untimed"), max_examples=25)  # for `make quick`
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for the processes that tests start
    with threadpool_limits(1, user_api="blas"):
        yield
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = before


@pytest.fixture(scope="session", autouse=True)
def signals_have_their_defaults():
    """A shell starts a background job with SIGINT ignored, and what the tests start would inherit that."""
    handlers = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in numbers.items():
        if before[number] == signal.SIG_IGN:
            signal.signal(number, handler)
    yield
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, handler)
