"""The command line, ``tidegate``: one module a noun, imported when the noun is said."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from tidegate_infra.cli.app import app

        app()
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("tidegate"):
            raise
        print(  # noqa: T201 - nothing nicer can be imported
            f"tidegate: the module {missing.name} is missing, since the base install is the client alone: "
            "pip install 'tidegate[server]'",
            file=sys.stderr,
        )
        sys.exit(3)
