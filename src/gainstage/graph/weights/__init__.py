"""How each weight is used in a graph, and what follows it."""
