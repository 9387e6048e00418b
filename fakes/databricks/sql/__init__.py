"""SQL warehouses on a real Delta engine.

A statement is parsed by `sqlglot` (`parsing`), planned as one SELECT at its snapshot (`planner`, `reads`),
and evaluated by DataFusion inside of `deltalake`; what it changes goes past the commit arbiter (`arbiter`,
CONFLICTS.md) and is written by `deltalake`'s append, MERGE, OPTIMIZE or ALTER as one commit of a Delta log on
disk (`engine`, `tables`). Around that: `service`, `statements`, `results`, `warehouses`, `checkpoints`, and
`steering` for tests. corpus.toml is the SQL that it is known to run.

Why this engine. Measured on 2 cores under load, Python 3.11, one lock table of 5 rows:

=====================  ==========================  =============================  ======================
                       deltalake 1.6.6 + sqlglot   pysail 0.7.2 + pyspark-client  Spark 4 + delta-spark
=====================  ==========================  =============================  ======================
start                  0.2 s (imports)             2.8 s                          JVM, not tried
wheels                 52 + 3 + 1 MB               63 MB + pandas, pyarrow, grpc  hundreds of MB and Java
installed              160 MB                      596 MB                         -
claim by UPDATE, p50   24 ms (plan 8, commit 16)   69 ms                          -
SELECT, p50            13 ms                       14 ms                          -
corpus                 all                         no DESCRIBE HISTORY, DELETE    -
                                                   counts 0 rows, parameters on
                                                   queries only
=====================  ==========================  =============================  ======================

Neither has Databricks' conflict matrix, and both commit inside of the call that evaluates the statement: no
test could come between snapshot and commit. With `deltalake` evaluation and commit are two calls, and in
between stands the arbiter; its own conflict checker and retries are switched off (`max_commit_retries=0`), so
that a commit is a put-if-absent of the next version and nothing else.

Our own share of a statement (`Record.overhead_seconds`: parsing, planning, threads, arbiter) has a p50 of
3.1 ms for the claim, 2.3 ms for a release, 1.2 ms for a SELECT and 4.4 ms for a MERGE.
"""
