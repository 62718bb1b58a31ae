"""Sites of run folders that an earlier version has written: what is a field now follows by name.

The names are those that earlier versions wrote; an operation that came later is not among them.
"""

from __future__ import annotations

from dataclasses import replace

from gainstage.facts.fault import Site
from gainstage.facts.sites_file import SitesFile

_ADDS = {"add"}
_KEEPS_VALUES = {"t", "transpose", "permute", "view", "reshape", "expand", "unsqueeze", "squeeze"}


def with_traits(file: SitesFile) -> SitesFile:
    """Return the sites with what is known of their operations; recorded ones are left alone."""
    return replace(file, sites=tuple(map(_with_traits, file.sites)))


def _with_traits(site: Site) -> Site:
    if site.adds is not None and site.keeps_values is not None:
        return site
    return replace(site, adds=site.op in _ADDS, keeps_values=site.op in _KEEPS_VALUES)
