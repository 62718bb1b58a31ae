"""All topics, in the order in which a lecture would take them."""

from __future__ import annotations

from gainstage.lab.clipping import clip
from gainstage.lab.failing_run import symptoms
from gainstage.lab.initial_scale import init
from gainstage.lab.linear_chain import chain
from gainstage.lab.normalising import norm
from gainstage.lab.questions import exercises
from gainstage.lab.sheet import Sheet, Shown
from gainstage.lab.slopes import crossover
from gainstage.lab.through_time import recurrent
from gainstage.lab.watched import Tell, quiet


def lecture(*, quick: bool = False, tell: Tell = quiet) -> list[Sheet]:
    """Return the sheets of all topics.

    Args:
        quick: Smaller stacks, and neither the trainings on the adding task nor those that clip.
        tell: Hears what is being done.
    """
    tell("linear chain, crossover")
    made: list[Shown] = [chain(), crossover(12, 48) if quick else crossover()]
    made.append(init(64, 30, tell=tell) if quick else init(tell=tell))
    made.append(recurrent(training=not quick, tell=tell))
    made.append(clip(runs=not quick, tell=tell))
    made.append(norm((2, 8, 64), (1, 10), tell=tell) if quick else norm(tell=tell))
    made += [symptoms(tell=tell), exercises()]
    return [each.sheet() for each in made]
