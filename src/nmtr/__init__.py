"""nmtr: recommendations that learn from everything users do."""

__version__ = "0.1.0"
