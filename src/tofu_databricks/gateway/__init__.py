"""The HTTP backend protocol of OpenTofu and Terraform over a state backend.

One address per workspace, `/state/WORKSPACE`, for reading, writing, locking and unlocking. Stock
`tofu` and `terraform` use it through their `http` backend.
"""

from tofu_databricks.gateway.access import Access
from tofu_databricks.gateway.app import GatewayApp, Limits
from tofu_databricks.gateway.server import Gateway

__all__ = ["Access", "Gateway", "GatewayApp", "Limits"]
