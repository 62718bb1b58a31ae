"""`python -m gainstage`."""

from gainstage.cli import main

main()
