"""All topics, in the order in which a lecture would take them."""

from __future__ import annotations

from gainstage.lab.clipping import clip
from gainstage.lab.failing_run import symptoms
from gainstage.lab.initial_scale import init
from gainstage.lab.linear_chain import chain
from gainstage.lab.normalising import norm
from gainstage.lab.questions import exercises
from gainstage.lab.slopes import crossover
from gainstage.lab.through_time import recurrent
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import TopicPage
from gainstage.lab.watched_runs import Progress, quiet


def lecture(*, quick: bool = False, progress: Progress = quiet) -> list[TopicPage]:
    """Return the pages of all topics.

    Args:
        quick: Smaller stacks, and neither the trainings on the adding task nor those that clip.
        progress: Called with a line about each longer computation.
    """
    progress("linear chain, crossover")
    sizes = ((2, 8, 64), (1, 10)) if quick else ()
    topics: list[Topic] = [chain(), crossover(12, 48) if quick else crossover()]
    topics.append(init(64, 30, progress=progress) if quick else init(progress=progress))
    topics.append(recurrent(training=not quick, progress=progress))
    topics.append(clip(runs=not quick, progress=progress))
    topics.append(norm(*sizes, progress=progress))
    topics += [symptoms(progress=progress), exercises()]
    return [topic.topic_page() for topic in topics]
