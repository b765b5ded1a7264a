"""Damaged requests to the store of the tests: it answers each, and takes rows afterwards."""

import random
from collections.abc import Iterator

import httpx
import pytest
from tests.fuzz.engine import bears, damaged

# The engine keeps the last words of its errors, and was asked for them as text before every insert.
NO_TEXT = b"INSERT INTO rows FORMAT Values (1\x82, 'x', [])"


@pytest.fixture
def client(store: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=store.removesuffix("default"), timeout=30) as client:
        yield client


def test_rows_go_in_after_an_error_that_quotes_what_is_no_text(client: httpx.Client) -> None:
    bears(client, "default", NO_TEXT)


def test_damaged_requests_are_answered(client: httpx.Client) -> None:
    for user, body in damaged(random.Random(1), 40):
        bears(client, user, body)
