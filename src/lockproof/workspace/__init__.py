"""A real Databricks workspace as the target of a run: what is made, left and missing there.

Nothing here is reached without `--backend-real` on a command line.
"""
