"""Mark the cases of a test that take long."""

from typing import Any

import pytest
from _pytest.mark import ParameterSet


def slow(*values: Any) -> ParameterSet:
    """Return a case of a parametrized test that the quick run leaves out."""
    return pytest.param(*values, marks=pytest.mark.slow)
