"""Learned priors for variational autoencoders."""
