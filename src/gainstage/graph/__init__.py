"""Reading autograd's own graph, which the script builds anyway."""
