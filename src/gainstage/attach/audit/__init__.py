"""What the script does, as far as its calls show it."""
