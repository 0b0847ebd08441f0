"""Integrations with other packages, one per file."""
