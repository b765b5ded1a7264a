"""What is wrong with settings, in words that never hold a secret."""

import dataclasses
import difflib
import re
from collections.abc import Mapping

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from tidegate.client.configuration import Configuration

Model = type[BaseModel]

# No settings, and read elsewhere: by commands, crash points, and the client in an app of the same shell.
_OTHERS = frozenset({"CONTEXT", "CONTEXTS", "CRASH_AT", "CRASH_ONCE", "DISABLED"}) | {
    field.name.upper() for field in dataclasses.fields(Configuration)
}

# Kubernetes gives every container such variables for each service whose name begins with "tidegate".
_KUBERNETES = re.compile(r"(.*_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")

# An address may carry a secret in places nobody foresees.
_ADDRESSES = frozenset({"kafka", "clickhouse", "webhook_url", "schema_registry_url"})


def unknown_variables(environment: Mapping[str, str], model: Model, prefix: str) -> list[str]:
    """Return a line for each variable of ours that is no setting, with the nearest that is."""
    known = {prefix + name for name in {field.upper() for field in model.model_fields} | _OTHERS}
    return [
        f"{name} is unknown{_nearest(name, known)}"
        for name in sorted(environment)
        if name.startswith(prefix)
        and name not in known
        and not _KUBERNETES.fullmatch(name.removeprefix(prefix))
    ]


def lines(
    error: ValidationError, values: Mapping[str, object], origins: Mapping[str, str], model: Model
) -> list[str]:
    """Return a line for each value that is wrong, with where it came from."""
    said = []
    for problem in error.errors(include_url=False, include_input=False):
        if not problem["loc"]:
            said.append(_words(problem))
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            said.append(f"{name} ({origins[name]}) is unknown{_nearest(name, set(model.model_fields))}")
        else:
            said.append(f"{origins[name]}: {_why(problem, values, model)}")
    return said


def by_name(error: ValidationError, values: Mapping[str, object], model: Model) -> dict[str, str]:
    """Return why values are wrong, each by itself."""
    found = {str(one["loc"][0]): one for one in error.errors() if one["loc"]}
    return {name: _why(found[name], values, model) for name in values if name in found}


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean {near[0]}?" if near else ": `tidegate config show` lists all"


def _why(problem: ErrorDetails, values: Mapping[str, object], model: Model) -> str:
    name = str(problem["loc"][0])
    is_secret = model.model_fields[name].annotation is SecretStr or name in _ADDRESSES
    return _words(problem) if is_secret else f"{values[name]!r} {_words(problem)}"


def _words(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
