"""How gainstage gets into a training process, and out again without a trace."""
