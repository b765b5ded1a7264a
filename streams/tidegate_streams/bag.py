"""Rows that keep arriving and are added up only now and then, since adding up costs more than keeping."""

from dataclasses import dataclass

from tidegate_streams import rollups
from tidegate_streams.rollups import Frames

_FEW = 10_000


@dataclass(slots=True)
class Bag:
    """A multiset of rows, the finest or rolled up, that never holds much more than their sum.

    Parameters
    ----------
    tables
        The rows; begin with a table without rows.
    """

    tables: list[Frames]
    height: int = 0
    _settled: int = 0

    def add(self, rows: Frames) -> None:
        """Put rows in."""
        more = sum(table.height for table in rows.values())
        if not more:
            return
        self.tables.append(rows)
        self.height += more
        if self.height > max(2 * self._settled, _FEW):
            self.settle()

    def rows(self) -> Frames:
        """All rows; those of one key may be many."""
        if len(self.tables) > 1:
            self.tables = [rollups.concat(self.tables)]
        return self.tables[0]

    def settle(self) -> Frames:
        """All rows, added up."""
        rows = rollups.merge(self.rows())
        self.tables = [rows]
        self.height = self._settled = sum(table.height for table in rows.values())
        return rows
