"""The conformance suites. Run them with `pytest --backend=SPEC` or `lockproof run SPEC`."""
