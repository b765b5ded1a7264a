"""Rollout files: what operators write -> `Rollout`, or every mistake at once, each with its line.

``document``        YAML -> nodes with positions; what is no plain document is refused here
``quantities``      ``10%``, ``24h``, ``1.10 odds`` -> numbers
``specification``   nodes -> `Rollout`
"""

from pathlib import Path

from tidegate.records import Rollout
from tidegate_infra.rollout_file.document import MAX_BYTES, Problem, RolloutFileError, compose
from tidegate_infra.rollout_file.specification import specification

__all__ = ["MAX_BYTES", "Problem", "RolloutFileError", "load", "read"]


def read(path: Path) -> Rollout:
    """Read a rollout file.

    Parameters
    ----------
    path
        A YAML file of at most 1 MB.

    Returns
    -------
    Rollout
        With generation 0, ts 0 and no actor: whoever applies it fills these in.

    Raises
    ------
    RolloutFileError
        With all problems of the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror}; give the path of a rollout file"
        raise RolloutFileError([Problem(str(path), 1, 1, "", what)]) from error
    return load(data, str(path))


def load(source: Path | str | bytes, name: str = "rollout") -> Rollout:
    """Load a rollout from a file, or from text.

    Parameters
    ----------
    source
        A path, or the text itself.
    name
        What problems call the text.

    Returns
    -------
    Rollout
        With generation 0, ts 0 and no actor: whoever applies it fills these in.

    Raises
    ------
    RolloutFileError
        With all problems of the text.
    """
    if isinstance(source, Path):
        return read(source)
    text, root = compose(source, name)
    return specification(root, text)
