"""Prepare the process in which the tests run, and what several of their files need."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from batch_frames.files import cloud
from tests.service.server import BatchServer
from tests.service.storage import ObjectServer

# Some tests press Ctrl-C, which what a shell starts in the background, and its children, ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes that tests start reuse what is compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Loading certificates takes most of the time in which a client is made, and no test needs them.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)

# A process that is killed loses nothing that the system has; only a loss of power would.
os.fsync = os.fstat  # type: ignore[assignment]

QUICK, THOROUGH = 12, 200


def pytest_configure(config: pytest.Config) -> None:
    """Try more examples where the slow tests run, too; others in each run only if asked for."""
    settings.register_profile(
        "here",
        max_examples=QUICK if config.option.markexpr == "not slow" else THOROUGH,
        derandomize=config.getoption("--hypothesis-seed") is None,
        # How long an example takes says nothing while other tests run beside it.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("here")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run single tests and files in this process, where they start at once.

    All others have one process more than there are processors, as many tests wait for others.
    """
    if all("::" in name or name.endswith(".py") for name in config.args):
        return 0
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def server() -> Iterator[BatchServer]:
    """Have a service, or an endpoint of live requests."""
    with BatchServer() as server:
        yield server


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """Have an object store, which URLs such as s3://lake/r.jsonl are in."""
    with ObjectServer() as lake:
        for name, value in lake.environment.items():
            monkeypatch.setenv(name, value)
        cloud.open_bucket.cache_clear()
        with monkeypatch.context() as patch:
            patch.delenv("SSL_CERT_DIR")  # without any certificate, no store is opened
            cloud.open_bucket("s3://lake")
        yield lake
