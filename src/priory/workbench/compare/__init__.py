"""Priors compared over seeds: runs, their differences on the same rows, tables, pictures, what a page of it needs."""
