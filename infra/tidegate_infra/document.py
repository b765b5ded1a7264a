"""YAML -> nodes that know where they stand, and readers that collect every problem before they complain."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tidegate.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
"""Our files nest four levels; what nests deeper is an attack on the parser."""

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file.

    Parameters
    ----------
    file, line, column
        Where; line and column count from 1.
    path
        Which key, such as ``steps[1].weight``; empty for the whole file.
    message
        What is wrong, the value, and what to do.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}"


class FileError(ConfigError):
    """A file that a person wrote has mistakes; nothing was applied.

    Parameters
    ----------
    problems
        All of them; they are kept in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda one: (one.line, one.column, one.path))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def read(path: Path) -> bytes:
    """Read a file, as far as one byte above `MAX_BYTES`.

    Raises
    ------
    FileError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        _refuse(str(path), None, f"cannot be read: {error.strerror}; give the path of a file")


def compose(source: str | bytes, name: str, begins_with: str) -> tuple[str, "Element"]:
    """Parse one plain YAML document.

    Parameters
    ----------
    source
        Text, or its bytes in UTF-8.
    name
        What problems call it.
    begins_with
        What such a file begins with, for who gives an empty one.

    Returns
    -------
    tuple
        The text, and the root of its nodes.

    Raises
    ------
    FileError
        Not UTF-8, no YAML, empty, over 1 MB, several documents, aliases, or nested too deeply. Nothing is
        expanded before these are checked.
    """
    data = source.encode(errors="surrogatepass") if isinstance(source, str) else source
    if len(data) > MAX_BYTES:
        _refuse(name, None, f"over {MAX_BYTES:,} bytes: a few hundred lines are enough")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        _refuse(name, None, f"not UTF-8 at byte {error.start}: save the file as UTF-8")
    try:
        _check_events(text, name)
        node = YAML().compose(text)
    except MarkedYAMLError as error:
        _refuse(name, error.problem_mark or error.context_mark, f"no YAML: {error.problem or error.context}")
    except YAMLError as error:
        _refuse(name, None, f"no YAML: {str(error).splitlines()[0]}")
    if node is None:
        _refuse(name, None, f"empty: begin with {begins_with}")
    return text, Element(node, "", Problems(name))


def _check_events(text: str, name: str) -> None:
    documents = depth = 0
    for event in YAML().parse(text):
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                _refuse(name, event.start_mark, "a second document: keep one a file")
        elif kind == "AliasEvent":
            _refuse(name, event.start_mark, f"alias *{event.anchor}: write the value out instead")
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            depth += 1
            if depth > MAX_DEPTH:
                _refuse(name, event.start_mark, f"nested over {MAX_DEPTH} levels deep: four are enough")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1


def _refuse(name: str, mark: Any, message: str) -> NoReturn:
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    raise FileError([Problem(name, line, column, "", message)])


class Problems:
    """What is wrong so far.

    Parameters
    ----------
    name
        Of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[Problem] = []

    def add(self, node: Node, path: str, message: str) -> None:
        """Note a problem at a node."""
        mark = node.start_mark
        self.found.append(Problem(self.name, mark.line + 1, mark.column + 1, path, message))


class Element:
    """A node, where it stands, and where its problems go.

    Parameters
    ----------
    node
        Of the document.
    path
        Keys that lead to it.
    problems
        Shared by all elements of a document.
    """

    def __init__(self, node: Node, path: str, problems: Problems) -> None:
        self.node = node
        self.path = path
        self.problems = problems
        if node.tag not in _PLAIN_TAGS:
            self.complain(f"tag {node.tag}: plain values only are taken, remove it")

    def complain(self, message: str) -> None:
        """Note a problem here."""
        self.problems.add(self.node, self.path, message)

    @property
    def is_scalar(self) -> bool:
        """Whether it is a single value."""
        return isinstance(self.node, ScalarNode)

    def value(self, parse: Callable[[str], T]) -> T | None:
        """Parse a single value; None, and a problem, when it is none or `parse` raises ValueError."""
        if not isinstance(self.node, ScalarNode):
            self.complain("a single value is needed here, not a list or a mapping")
            return None
        try:
            return parse(self.node.value)
        except ValueError as error:
            self.complain(str(error))
            return None

    def items(self) -> list["Element"]:
        """Return the elements of a list; none, and a problem, when it is none."""
        if not isinstance(self.node, SequenceNode):
            self.complain("a list is needed here: put `- ` before each entry")
            return []
        return [Element(node, f"{self.path}[{i}]", self.problems) for i, node in enumerate(self.node.value)]

    def section(self) -> "Section":
        """Return the keys of a mapping; none, and a problem, when it is none."""
        return Section(self)


class Section:
    """Keys of a mapping, each asked for once; `close` complains about the others.

    Parameters
    ----------
    element
        What should be a mapping.
    """

    def __init__(self, element: Element) -> None:
        self.element = element
        self._values: dict[str, Element] = {}
        self._keys: dict[str, Element] = {}
        self._known: dict[str, None] = {}
        if not isinstance(element.node, MappingNode):
            element.complain("keys and values are needed here, such as `name: value`")
            return
        for key_node, value_node in element.node.value:
            if not isinstance(key_node, ScalarNode):
                Element(key_node, element.path, element.problems).complain("a key must be a plain word")
                continue
            key = key_node.value
            path = f"{element.path}.{key}" if element.path else key
            if key in self._values:
                first = self._keys[key].node.start_mark.line + 1
                element.problems.add(key_node, path, f"{key} is given twice, first in line {first}: keep one")
                continue
            self._keys[key] = Element(key_node, path, element.problems)
            self._values[key] = Element(value_node, path, element.problems)

    def __iter__(self) -> Iterator[tuple[str, Element]]:
        return iter(self._values.items())

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def key(self, key: str) -> Element:
        """Where a key stands; the section itself when it is not there."""
        return self._keys.get(key, self.element)

    def take(self, key: str) -> Element | None:
        """Return the element of a key, if it is there."""
        self._known[key] = None
        return self._values.get(key)

    def optional(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """Return the value of a key, or the default when it is absent, or wrong and complained about."""
        element = self.take(key)
        value = default if element is None else element.value(parse)
        return default if value is None else value

    def required(self, key: str, parse: Callable[[str], T], example: str) -> T | None:
        """Return the value of a key; None, and a problem, when it is absent or wrong."""
        element = self.take(key)
        if element is None:
            self.element.complain(f"{key} is missing: add `{key}: {example}`")
            return None
        return element.value(parse)

    def close(self, later: Iterable[str] = ()) -> None:
        """Complain about keys that nobody asked for.

        Parameters
        ----------
        later
            Keys that are planned: they are said to be not there yet, rather than unknown.
        """
        for key, element in self._keys.items():
            if key in self._known:
                continue
            if key in later:
                element.complain(f"{key} is not there yet: remove it")
            else:
                element.complain(f"unknown key {key!r}: {suggestion(key, self._known)}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or what there is."""
    known = list(known)
    lowered = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f"did you mean {lowered[close[0]]}?" if close else f"use one of {', '.join(known)}"
