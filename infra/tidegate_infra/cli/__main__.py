"""``python -m tidegate_infra.cli``: the same as ``tidegate``, for children of the command line itself."""

from tidegate_infra.cli import main

main()
