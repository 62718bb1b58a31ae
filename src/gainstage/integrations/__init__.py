"""gainstage as one argument of a training framework. A file a framework, which it imports."""
