"""`python -m lockproof` is the command `lockproof`."""

from lockproof.cli import main

main()
