"""A state backend for OpenTofu and Terraform: state in Unity Catalog volumes, locks beside it."""

__version__ = "0.1.0"
