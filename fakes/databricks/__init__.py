"""A local Databricks workspace: model objects first, HTTP second.

In process: `with inprocess.activate(FakeWorkspace()) as workspace: …`. As a server: `with
server.FakeServer() as fake: …`. Either is steered by `control.FakeControl`. OPERATIONS.md lists what it
answers.
"""

from lockproof.fakes.databricks.faults import Fault
from lockproof.fakes.databricks.fidelity import Fidelity
from lockproof.fakes.databricks.wire import Request, Response
from lockproof.fakes.databricks.workspace import FakeWorkspace, UnknownRoute

__all__ = ["FakeWorkspace", "Fault", "Fidelity", "Request", "Response", "UnknownRoute"]
