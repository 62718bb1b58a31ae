"""The kinds of autograd's nodes: a table of those that are known, a rule for all others."""
