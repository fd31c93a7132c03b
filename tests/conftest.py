"""Prepare the process in which the tests run, and what several of their files need."""

import signal
from collections.abc import Iterator

import pytest

from tests.service.server import BatchServer

# Some tests press Ctrl-C, which what a shell starts in the background, and its children, ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    """Have a service, or an endpoint of live requests."""
    with BatchServer() as server:
        yield server
