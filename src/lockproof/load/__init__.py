"""Load: many clients of one backend at once, whose histories are judged like any other.

`run` starts locust in a process of its own (it patches the interpreter that imports it) with `locustfile`;
each user there is an `Operator`, one client behind the recorder. What was recorded is the only source of
all figures (`measure`) and of the verdict.
"""
