"""Named contexts: the places a person works with, each under a name, in a file of that person's.

A context says where, and nothing else: secrets stay in ``TIDEGATE_*`` variables.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from tidegate.errors import ConfigError
from tidegate_infra import document
from tidegate_infra.document import Element, FileError, Problem, Section, suggestion
from tidegate_infra.settings import PREFIX, WHERE, Settings

VARIABLE = "TIDEGATE_CONTEXT"
"""Names the context where no ``--context`` does."""

FILE_VARIABLE = "TIDEGATE_CONTEXTS"
"""Names another file of contexts."""

_EXAMPLE = "`production:` and below it `kafka: host:9092` and `clickhouse: https://host:8443/tidegate`"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEFAULTS = ("tenant", "environment")
_PATHS = ("data_dir", "kafka_ca", "clickhouse_ca")


@dataclass(frozen=True, slots=True)
class Context:
    """A place under a name.

    Parameters
    ----------
    name
        As ``--context`` says it.
    file
        Where it stands.
    where
        Its settings, by name: addresses, users and the topics' prefix, or the directory of a local stack.
    defaults
        What ``--tenant`` and ``--environment`` are where the command line says none.
    """

    name: str
    file: Path
    where: Mapping[str, str]
    defaults: Mapping[str, str]

    @property
    def origin(self) -> str:
        """Where its settings come from, in words."""
        return f"context {self.name} ({self.file})"


def path() -> Path:
    """Return where the contexts stand, whether or not the file is there."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.environ.get(FILE_VARIABLE) or f"{home}/tidegate/contexts.yaml").expanduser().absolute()


def find(name: str) -> Context:
    """Return the context of a name.

    Raises
    ------
    ConfigError
        There is none.
    FileError
        It has mistakes, or the file is none of contexts. Mistakes of other contexts do not matter.
    """
    file = path()
    if not file.exists():
        raise ConfigError(f"there is no context {name!r}, since {file} is not there: write {_EXAMPLE}")
    _, root = document.compose(document.read(file), str(file), _EXAMPLE)
    known = dict(root.section())
    _check(root)
    if name not in known:
        raise ConfigError(f"{file} has no context {name!r}: {suggestion(name, known)}")
    found = _context(file, name, known[name])
    _check(root)
    return found


def advice(words: str, context: str) -> str:
    """Return advice as it helps in a context: with its keys for the variables that it stands above."""
    keys = "|".join(name.upper() for name in WHERE)
    return re.sub(rf"{PREFIX}({keys})\b", lambda found: f"{found[1].lower()} of context {context}", words)


def read(file: Path) -> tuple[dict[str, Context], list[Problem]]:
    """Read every context of a file that is right, by name, and the mistakes of the file.

    Raises
    ------
    FileError
        It holds no contexts at all.
    """
    _, root = document.compose(document.read(file), str(file), _EXAMPLE)
    right, mistakes = {}, root.problems.found
    for name, element in _named(root.section()):
        before = len(mistakes)
        context = _context(file, name, element)
        if len(mistakes) == before:
            right[name] = context
    return right, mistakes


def _check(root: Element) -> None:
    if root.problems.found:
        raise FileError(root.problems.found)


def _named(top: Section) -> list[tuple[str, Element]]:
    for name, _ in top:
        if not _NAME.fullmatch(name):
            top.key(name).complain("a context's name is letters, digits, dots, dashes and underscores")
    return list(top)


def _context(file: Path, name: str, element: Element) -> Context:
    section = element.section()
    where = _given(section, WHERE, file)
    defaults = _given(section, _DEFAULTS, file)
    for key, why in Settings.refusals(where).items():
        (section.take(key) or element).complain(advice(why, name))
    for key, setting in Settings.model_fields.items():
        if key not in WHERE and section.take(key) is not None:
            what = "is a secret" if setting.annotation is SecretStr else "does not say where something is"
            section.key(key).complain(f"{what}: it belongs in {PREFIX}{key.upper()}")
    section.close()
    if "data_dir" in where and len(where) > 1:
        element.complain(
            "data_dir names a local stack, which says the rest itself: remove the other addresses"
        )
    elif "data_dir" not in where and not {"kafka", "clickhouse"} <= where.keys():
        element.complain("a context is a whole place: add kafka and clickhouse, or data_dir of a local stack")
    return Context(name, file, where, defaults)


def _given(section: Section, keys: tuple[str, ...], file: Path) -> dict[str, str]:
    """Return what a section says of some keys; relative paths are taken from the file's directory."""

    def text(value: str) -> str:
        if not value:
            raise ValueError("is empty: write a value or remove the key")
        return value

    def place(value: str) -> str:
        try:
            return str(file.parent / Path(text(value)).expanduser())
        except RuntimeError:
            raise ValueError(f"{value!r} begins with a home directory that is not there") from None

    values = {
        key: element.value(place if key in _PATHS else text)
        for key in keys
        if (element := section.take(key)) is not None
    }
    return {key: value for key, value in values.items() if value is not None}
