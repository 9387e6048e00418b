"""The HTTP surface, one module for each family of operations; `core` holds them all."""
