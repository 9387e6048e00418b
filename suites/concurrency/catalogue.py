"""Every program whose schedules are explored, by its name, as schedules say it."""

from collections.abc import Mapping

from lockproof.explore import Program
from lockproof.suites.concurrency import programs, programs_of_fencing, programs_of_windows

PROGRAMS: Mapping[str, Program] = {
    program.name: program
    for program in (*programs.PROGRAMS, *programs_of_windows.PROGRAMS, *programs_of_fencing.PROGRAMS)
}
