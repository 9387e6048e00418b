"""Maps the top-level folders `suites/` and `fakes/` into the package `lockproof`."""

from setuptools import find_packages, setup

setup(
    package_dir={"": "src", "lockproof.suites": "suites", "lockproof.fakes": "fakes"},
    packages=[
        *find_packages("src"),
        *("lockproof.suites", *(f"lockproof.suites.{name}" for name in find_packages("suites"))),
        *("lockproof.fakes", *(f"lockproof.fakes.{name}" for name in find_packages("fakes"))),
    ],
)
