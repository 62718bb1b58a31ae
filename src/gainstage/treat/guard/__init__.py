"""What judges a step last of all: skip, stop, roll back."""
