"""Requirements of locks whose tests cannot hold together when one thing is broken."""

UNDER_LOAD = ("LOCK-EXCL-002", "LOCK-REL-004", "LOCK-WAIT-001", "LOCK-WAIT-003")
REFUSALS = (
    *("LOCK-EXCL-001", "LOCK-EXCL-002", "LOCK-ERR-001", "LOCK-SCOPE-001", "LOCK-STATE-001"),
    *("LOCK-HOLD-001", "LOCK-HOLD-002", "LOCK-HOLD-003", "LOCK-HOLD-004", "LOCK-INFO-001"),
    *("LOCK-REL-002", "LOCK-REL-003", "LOCK-REL-004", "LOCK-IDEM-001", "LOCK-IDEM-002", "LOCK-IDEM-003"),
    *("LOCK-FORCE-001", "LOCK-FORCE-002", "LOCK-CRASH-001"),
    *("LOCK-WAIT-001", "LOCK-WAIT-002", "LOCK-WAIT-003"),
)
"""Requirements whose tests need a refusal of a held lock to show anything."""
INTERLEAVED = (
    *UNDER_LOAD,
    *("LOCK-EXCL-001", "LOCK-REL-001", "LOCK-REL-003", "LOCK-ERR-001", "LOCK-IDEM-002", "LOCK-STATE-001"),
    *("LOCK-HOLD-001", "LOCK-CRASH-001", "LOCK-FORCE-002", "LOCK-FENCE-001", "LOCK-FENCE-003"),
    *("LOCK-SCOPE-001", "WS-DEL-005", "WS-ISO-002", "STATE-ORDER-001"),
)
"""Requirements of explored programs: one window in a backend is met by several of them."""
