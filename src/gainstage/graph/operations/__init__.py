"""The kinds of autograd's nodes: a table of those that are known, a rule for all others.

An operation is one entry, an `OperationKind`, in the file of its family; `table` puts the families
together. Whoever wants to know what a node is like asks for a trait of its kind, never its name.
"""
