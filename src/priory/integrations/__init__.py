"""Packages of somebody else's, one a file."""
