"""lockproof proves, or refutes, that an OpenTofu/Terraform state backend is safe."""

__version__ = "0.1.0"
