"""What is measured: all benchmarks of `lockproof bench`, in the order in which they run."""

from __future__ import annotations

from lockproof.bench.subjects.checkers import CHECKERS
from lockproof.bench.subjects.exploring import EXPLORE_LAKEBASE, EXPLORE_MEMORY
from lockproof.bench.subjects.files import BACKEND_FILES, FAKE_FILES, FAKE_IN_PROCESS, FAKE_SDK
from lockproof.bench.subjects.gateway import GATEWAY, GATEWAY_MEMORY
from lockproof.bench.subjects.locks import DELTA, DELTA_DIRECT, LAKEBASE
from lockproof.bench.subjects.proxy import PROXY_CROWD, PROXY_HTTP, PROXY_SQL
from lockproof.bench.subjects.races import RACES
from lockproof.bench.subjects.recording import RECORDING

BENCHMARKS = (
    LAKEBASE,
    DELTA,
    DELTA_DIRECT,
    RACES,
    BACKEND_FILES,
    GATEWAY,
    GATEWAY_MEMORY,
    FAKE_FILES,
    FAKE_SDK,
    FAKE_IN_PROCESS,
    PROXY_HTTP,
    PROXY_SQL,
    PROXY_CROWD,
    RECORDING,
    CHECKERS,
    EXPLORE_MEMORY,
    EXPLORE_LAKEBASE,
)
