"""What every topic of the lab has in common: a page, which a notebook displays."""

from __future__ import annotations

from abc import ABC, abstractmethod

from gainstage.lab.markup import section
from gainstage.lab.topic_page import TopicPage


class Topic(ABC):
    """The result of a topic; it displays itself in a notebook."""

    @abstractmethod
    def topic_page(self) -> TopicPage:
        """Return the topic as text, tables and figures."""

    def _repr_html_(self) -> str:
        return section(self.topic_page())
