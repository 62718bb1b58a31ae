"""Runs when Python starts below `gainstage run`, which puts this folder on PYTHONPATH.

Takes the folder off `sys.path` again, so that the script finds the path it would have without us,
runs the `sitecustomize` that this one hides, and then lets gainstage begin.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
_hidden = importlib.machinery.PathFinder.find_spec("sitecustomize")
if _hidden is not None and _hidden.loader is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(_hidden)
    _hidden.loader.exec_module(sys.modules["sitecustomize"])

# A child process may run another Python, which does not have gainstage: nothing to do there.
if importlib.util.find_spec("gainstage") is not None:
    from gainstage.attach.process import begin

    begin()

if _hidden is None:
    # What `site` expects where there is no such module; it leaves none in `sys.modules`.
    raise ImportError("no other sitecustomize", name="sitecustomize")
