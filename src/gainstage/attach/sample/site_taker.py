"""Takes the sites of graphs: records a forward pass where one of a new shape is expected."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from typing import Any

from torch import nn

from gainstage.attach.names.module_names import module_names
from gainstage.attach.sample.cadence import Cadence
from gainstage.attach.sample.graph_sink import GraphSink
from gainstage.graph.sites.recording import SiteRecording, sites_of
from gainstage.graph.sites.site_map import SiteMap

_SHAPES_AT_ONCE = 4
"""Shapes of graphs whose sites are taken without regard to the budget."""
_NODE_S = 20e-6
"""What taking the site of a node costs, about."""


class SiteTaker:
    """Fills the map of sites. One a process, in the training thread."""

    def __init__(self, sites: SiteMap, sink: GraphSink, model: nn.Module | None) -> None:
        """Begin with no recording.

        Args:
            sites: Filled.
            sink: Told of new sites.
            model: Searched for the names of modules, besides what variables hold.
        """
        self.is_wanted = False
        """Whether the sites of the next forward pass are to be recorded."""
        self.with_modules = True
        """Whether modules are hooked for it; code that is compiled cannot bear that."""
        self._sites = sites
        self._sink = sink
        self._model = None if model is None else weakref.ref(model)
        self.recording: SiteRecording | None = None
        """Of a forward pass whose sites are not taken yet."""
        self.unrestored: SiteRecording | None = None
        """After which torch's anomaly mode is still to be set back."""
        self._due = 0

    def model(self) -> nn.Module | None:
        """Return the model that was given, while it is alive."""
        return None if self._model is None else self._model()

    def begin(self) -> None:
        """Record the sites of the forward pass to come."""
        if self.recording is None:
            self.recording = SiteRecording(with_modules=self.with_modules)

    def begin_where_wanted(self, step: int) -> None:
        """Record the next forward pass where it is wanted and the budget allows it by this step."""
        if len(self._sites) <= _SHAPES_AT_ONCE or step >= self._due:
            self.is_wanted = False
            self.begin()

    def end_forward(self) -> None:
        """Record no further sites; those of the graph at hand are taken as backward begins."""
        if self.recording is not None:
            self.recording.stop()

    def leave_modules(self) -> None:
        """Keep module hooks away from code that is about to be compiled."""
        self.with_modules = False
        if self.recording is not None:
            self.recording.let_go_of_modules()

    def take(self, nodes: Sequence[Any], step: int, cadence: Cadence) -> bool:
        """Take in the sites of the forward pass that has ended; False where none was recorded.

        Args:
            nodes: Of its graph.
            step: The step to come.
            cadence: Of the samples, for the share of the time that the next sites may take.
        """
        recording, self.recording = self.recording, None
        if recording is None:
            return False
        recording.stop()
        self.unrestored = recording if recording.needs_restore else None
        names = module_names(recording.modules, sys._getframe(), self.model())
        shapes, sites = len(self._sites), len(self._sites.sites)
        self._sites.add(nodes, sites_of(nodes, recording.calls, names))
        if len(self._sites) > shapes:
            # Another graph may follow a new one.
            self.is_wanted = True
            self._due = step + cadence.steps_in(_NODE_S * len(nodes) / cadence.share)
        if len(self._sites) > shapes or len(self._sites.sites) > sites:
            self._sink.on_sites(self._sites)
        return True

    def restore_anomaly_mode(self) -> None:
        """Set torch's anomaly mode back, as soon as that can be done."""
        if self.unrestored is not None:
            self.unrestored.restore()
            self.unrestored = self.unrestored if self.unrestored.needs_restore else None

    def end(self) -> None:
        """Let go of torch."""
        if self.recording is not None:
            self.recording.stop()
            self.recording = None
        self.restore_anomaly_mode()

    def retire(self) -> None:
        """Let go of all that is the script's."""
        self.end()
        self.unrestored = None
