"""Runs of the generative topographic mapping on the command line: settings, folder, model, jobs, figures."""
