"""Runs a script whose text comes from another file, in place of `python SCRIPT ARGS`.

`python run_changed.py CHANGED SCRIPT ARGS`: to the changed text everything is as if it stood in the
script's own file; tracebacks show its lines.
"""

import linecache
import os
import sys

changed, __file__ = sys.argv[1:3]
del sys.argv[:2]
__file__ = os.path.abspath(__file__)
if not sys.flags.safe_path:
    sys.path[0] = os.path.dirname(os.path.realpath(__file__))
with open(changed, "rb") as file:
    code = compile(file.read(), __file__, "exec", dont_inherit=True)
with open(changed, encoding="utf-8", errors="replace") as file:
    lines = file.readlines()
linecache.cache[__file__] = (sum(map(len, lines)), None, lines, __file__)
__doc__ = None
del linecache, os, sys, changed, file, lines
exec(globals().pop("code"))
