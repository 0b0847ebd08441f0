"""Comparison of priors over seeds: runs, their differences on the same rows, tables, pictures, a page."""
