"""Rollout files: what operators write -> `Rollout`, or every mistake at once, each with its line.

``quantities``      ``10%``, ``24h``, ``1.10 odds`` -> numbers
``freezes``         nodes -> when nothing advances
``specification``   nodes -> `Rollout`
``steps``           nodes -> its steps, by strategy
"""

from pathlib import Path

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.limits import check_control
from tidegate.records import Rollout
from tidegate_infra import document
from tidegate_infra.document import MAX_BYTES, FileError, Problem
from tidegate_infra.rollout_file.specification import specification

__all__ = ["MAX_BYTES", "FileError", "Problem", "load", "read"]


def read(path: Path, applied_us: int = 0) -> Rollout:
    """Read a rollout file.

    Parameters
    ----------
    path
        A YAML file of at most 1 MB.
    applied_us
        When it is applied, in microseconds since the epoch: recurring freezes are written out for 400 days
        from there.

    Returns
    -------
    Rollout
        With generation 0, ts 0 and no actor: whoever applies it fills these in.

    Raises
    ------
    FileError
        With all problems of the file.
    """
    return load(document.read(path), str(path), applied_us)


def load(source: Path | str | bytes, name: str = "rollout", applied_us: int = 0) -> Rollout:
    """Load a rollout from a file, or from text.

    Parameters
    ----------
    source
        A path, or the text itself.
    name
        What problems call the text.
    applied_us
        When it is applied, in microseconds since the epoch.

    Returns
    -------
    Rollout
        With generation 0, ts 0 and no actor: whoever applies it fills these in.

    Raises
    ------
    FileError
        With all problems of the text.
    """
    if isinstance(source, Path):
        return read(source, applied_us)
    text, root = document.compose(source, name, "`apiVersion: tidegate/v1` and `kind: Rollout`")
    spec = specification(root, text, applied_us)
    try:
        check_control(spec, len(codec.encode(spec)))
    except ContractError as error:
        raise FileError([Problem(name, 1, 1, "", error.detail)]) from None
    return spec
