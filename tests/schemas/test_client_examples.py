"""The examples in the client's documentation do what they say."""

import doctest
from types import ModuleType

import pytest

from tidegate import intake, router, testing
from tidegate.client import completion


@pytest.mark.parametrize("module", [completion, intake, router, testing], ids=lambda module: module.__name__)
def test_the_examples_of_a_module_hold(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
