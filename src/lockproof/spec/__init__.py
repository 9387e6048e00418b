"""The registry: what a state backend must do, each requirement with the clause it comes from.

Test authors cite requirements with `@requirement("LOCK-EXCL-001")`, ask for more than those
requirements need with `@needs("locking.fencing")`, and keep slow tests out of the default tier
with `@tier("full")`. `@faults("net")` says what a test injects.
"""

from lockproof.spec.marks import faults, needs, requirement, tier
from lockproof.spec.registry import Clause, Requirement, capabilities, requirements, requirements_digest

__all__ = [
    "Clause",
    "Requirement",
    "capabilities",
    "faults",
    "needs",
    "requirement",
    "requirements",
    "requirements_digest",
    "tier",
]
