"""Price tables on Kafka: written before the first claim that names one, read when a redo names another."""

import time
from collections.abc import Iterator

from tidegate import codec
from tidegate.errors import InvariantBroken
from tidegate.records import PriceTable
from tidegate.topics import PRICES
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings


class PriceLog:
    """The price tables that ranges were priced with.

    Parameters
    ----------
    settings
        Where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._books: dict[str, PriceBook] = {}

    def present(self) -> PriceBook:
        """Return the prices of this release, after making sure that the log holds them.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        book = PriceBook.load()
        if all(record.hash != book.hash for record in self._records()):
            value = codec.encode(book.record(ts_us=time.time_ns() // 1_000))
            send(self._settings, [Outgoing(topic=PRICES, key=book.hash, value=value)])
        self._books[book.hash] = book
        return book

    def find(self, hash_: str) -> PriceBook:
        """Return the prices that a claim names.

        Raises
        ------
        InvariantBroken
            The log does not hold them: pricing with others would count a range differently in its redo.
        """
        if hash_ not in self._books:
            found = next((record for record in self._records() if record.hash == hash_), None)
            if found is None:
                topic = self._settings.topic_prefix + PRICES
                raise InvariantBroken(
                    f"a claim names price table {hash_}, which is not in {topic}: "
                    "restore that topic, or start a release that brings this table"
                )
            self._books[hash_] = PriceBook.of(found)
        return self._books[hash_]

    def _records(self) -> Iterator[PriceTable]:
        return (record for _, record in scan.records(self._settings, PRICES) if record is not None)
