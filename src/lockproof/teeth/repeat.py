"""Several pytest runs in one process, one after the other: `python -m lockproof.teeth.repeat`.

Reads a JSON list from standard input, for each run the words that stand behind `lockproof run`. What
becomes of a run stands in its report; Python's start and the imports are paid once for all.
"""

from __future__ import annotations

import json
import sys

import pytest

from lockproof.cli.run import arguments


def main() -> None:
    """Runs what standard input asks for."""
    for words in json.load(sys.stdin):
        pytest.main(arguments(tuple(words)))


if __name__ == "__main__":
    main()
