"""The directory of a store: its files, who owns it, and whether it is whole."""

import errno
import fcntl
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import ConfigError, DependencyUnavailable, Refused

# What makes a server of the engine: no database that reads files by their names; no rights outside the
# store's own tables, so that the engine itself refuses files, URLs and other servers; no queue of
# asynchronous inserts, so that an answered insert is stored; no time zone of the machine. And what was merged
# stays for eight minutes, where chdb deletes it at once: of a merge that cannot write nothing else is left.
_CONFIG = """<clickhouse>
    <default_database></default_database>
    <database>default</database>
    <users_config>{users}</users_config>
    <logger><level>none</level></logger>
    <max_server_memory_usage_to_ram_ratio>0.6</max_server_memory_usage_to_ram_ratio>
    <merge_tree><old_parts_lifetime>480</old_parts_lifetime></merge_tree>
</clickhouse>
"""
_USERS = """<clickhouse>
    <profiles><default>
        <async_insert>0</async_insert>
        <implicit_select>0</implicit_select>
        <session_timezone>UTC</session_timezone>
        <allow_introspection_functions>0</allow_introspection_functions>
        <constraints>
            <allow_introspection_functions><readonly/></allow_introspection_functions>
            <allow_experimental_eval_table_function><readonly/></allow_experimental_eval_table_function>
        </constraints>
    </default></profiles>
    <quotas><default/></quotas>
    <users><default>
        <password></password>
        <networks><ip>::/0</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
        <grants>{grants}</grants>
    </default></users>
</clickhouse>
"""
_RIGHTS = (
    "SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE FUNCTION, DROP FUNCTION, "
    "CREATE TEMPORARY TABLE, CREATE ARBITRARY TEMPORARY TABLE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, "
    "CHECK, SHOW, KILL QUERY, SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM FLUSH, SYSTEM DROP CACHE"
)
_ENGINES = (
    *(f"{kind}MergeTree" for kind in ("", "Replacing", "Summing", "Aggregating", "Collapsing", "Coalescing")),
    *(
        "VersionedCollapsingMergeTree",
        "Memory",
        "Null",
        "Log",
        "TinyLog",
        "StripeLog",
        "Set",
        "Join",
        "Buffer",
    ),
    *("Merge", "View", "MaterializedView", "GenerateRandom", "Atomic"),
)
_DEFAULT_DATABASE = "ATTACH DATABASE _ UUID '{uuid}'\nENGINE = Atomic\n"

_TABLE = re.compile(
    r"ATTACH TABLE _ UUID '(?P<uuid>[0-9a-f-]{36})'.*^ENGINE = \w*(MergeTree|Log)\b", re.DOTALL | re.MULTILINE
)
# What it takes to open an engine, and to write a few words beside it.
_LEAST_FREE_MIB = 16
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# They separate options in the engine's address of a directory, and it knows no escapes.
_UNUSABLE = re.compile(r"[?&]")


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """Where a store lives: `engine` holds the data, `port` tells clients where it listens."""

    path: Path

    @property
    def engine(self) -> Path:
        """Directory of the engine."""
        return self.path / "engine"

    @property
    def config(self) -> Path:
        """Configuration of the engine, written anew at every start."""
        return self.path / "config.xml"

    @property
    def port(self) -> Path:
        """File with the port, there while the store runs."""
        return self.path / "port"

    def prepare(self, port: int) -> None:
        """Check the directory, make it if it is new, and write the configuration and the port.

        Parameters
        ----------
        port
            Where the store will listen.

        Raises
        ------
        Refused
            Another process has it open.
        ConfigError
            Parts of it are missing, or it cannot be used.
        DependencyUnavailable
            Its disk is full.
        """
        if _UNUSABLE.search(str(self.path)):
            raise ConfigError(f"the store cannot live in {self.path}: its path must not contain ? or &")
        try:
            self.engine.mkdir(parents=True, exist_ok=True)
            self._refuse_locked()
            self._refuse_incomplete()
            self._refuse_full()
            self._write_configuration()
            _replace(self.port, f"{port}\n")
        except OSError as error:
            if error.errno in _FULL:
                raise DependencyUnavailable(f"the disk of {self.path} is full: make room") from None
            raise ConfigError(f"the store cannot use {self.path}: {error.strerror}") from None

    def _refuse_locked(self) -> None:
        status = self.engine / "status"
        if not status.exists():
            return
        with status.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = re.search(r"PID: (\d+)", file.read())
                who = f"process {owner[1]}" if owner else "another process"
                raise Refused(
                    f"{self.engine} is open in {who}: stop it, or use another data directory"
                ) from None

    def _refuse_incomplete(self) -> None:
        metadata = self.engine / "metadata"
        if not (metadata / "default.sql").exists():
            left = [name for name in ("metadata", "data", "store") if _has_entries(self.engine / name)]
            if left:
                raise self._incomplete(f"metadata/default.sql is missing beside {', '.join(left)}")
            return
        for database in metadata.iterdir():
            if database.is_symlink() and not database.exists():
                raise self._incomplete(f"the tables of database {database.name} are missing")
            for table in database.glob("*.sql") if database.is_dir() else ():
                stored = _TABLE.match(table.read_text(errors="replace"))
                if stored and not (self.engine / "store" / stored["uuid"][:3] / stored["uuid"]).exists():
                    raise self._incomplete(f"the rows of table {database.name}.{table.stem} are missing")

    def _refuse_full(self) -> None:
        there = os.statvfs(self.path)
        free_mib = there.f_bavail * there.f_frsize >> 20
        if free_mib < _LEAST_FREE_MIB:
            raise DependencyUnavailable(
                f"{self.path} has {free_mib} MiB left and the store starts with {_LEAST_FREE_MIB}: make room"
            )

    def _incomplete(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.engine} is half-deleted ({what}): restore it from a backup, or remove it to start empty"
        )

    def _write_configuration(self) -> None:
        grants = [
            f"GRANT {_RIGHTS} ON *.*",
            *(f"GRANT TABLE ENGINE ON {name}" for name in _ENGINES),
            # Every connection begins in this database: without it the store is dead.
            "REVOKE DROP DATABASE ON default.*",
        ]
        users = self.path / "users.xml"
        _replace(users, _USERS.format(grants="".join(f"<query>{grant}</query>" for grant in grants)))
        _replace(self.config, _CONFIG.format(users=users))
        default = self.engine / "metadata" / "default.sql"
        if not default.exists():
            default.parent.mkdir(exist_ok=True)
            _replace(default, _DEFAULT_DATABASE.format(uuid=uuid.uuid4()))


def _has_entries(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    os.replace(beside, path)  # noqa: PTH105  # atomic, which Path.rename is only on POSIX
