"""What parameters, modules and columns of a training are called."""
