"""The five exercises: each question's answer is computed, and a reader's is judged by computing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gainstage.errors import ConfigError
from gainstage.lab.clipping import example
from gainstage.lab.failing_run import symptoms
from gainstage.lab.linear_chain import chain
from gainstage.lab.through_time import power
from gainstage.lab.topic import Topic
from gainstage.lab.topic_page import Table, TopicPage, number, vector

TOLERANCE = 0.005
"""Relative: an answer rounded to three digits is right."""

Answer = tuple[float, ...] | str
"""Numbers, or one word."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is asked."""

    key: str
    """As `--check` files name it: `exercise1.w3`."""
    text: str
    truth: Callable[[], Answer]
    hint: Callable[[Answer], str]
    """What to tell about a wrong answer, from its own numbers."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One answer, judged."""

    key: str
    reply: Answer | None
    truth: Answer
    is_right: bool
    why: str


@dataclass(frozen=True, slots=True)
class ExercisesTopic(Topic):
    """All questions with their computed answers, or with a reader's, marked."""

    marks: tuple[Mark, ...]
    is_marked: bool

    def topic_page(self) -> TopicPage:
        """Return answers, or marks."""
        if self.is_marked:
            right = sum(mark.is_right for mark in self.marks)
            rows = tuple(
                (
                    mark.key,
                    "-" if mark.reply is None else as_text(mark.reply),
                    "right" if mark.is_right else "wrong" if mark.reply is not None else "missing",
                    mark.why,
                )
                for mark in self.marks
            )
            table = Table("Marks", ("question", "answer:", "", "why:"), rows)
            return TopicPage("exercises", f"{right} of {len(self.marks)} right", (table,))
        texts = {question.key: question.text for question in QUESTIONS}
        rows = tuple((m.key, texts[m.key], as_text(m.truth)) for m in self.marks)
        table = Table("Answers, computed just now", ("question", "asked:", "answer:"), rows)
        note = (
            f"exercise 2: the other vector clips to the same one. exercise 3: {number(1.01)} and "
            f"{number(0.99)} differ by 2% and their powers by a factor of "
            f"{number(power(1.01, 100).gradient / power(0.99, 100).gradient, 3)}. exercise 4: "
            "the small tensor is divided by 100 as well, though nothing was wrong with it: clip "
            "per parameter, or adaptively. exercise 5: `gainstage lab symptoms` shows the run."
        )
        return TopicPage("exercises", "The five exercises", (table, note))


def exercises(answers: Mapping[str, Answer] | None = None) -> ExercisesTopic:
    """Return the five exercises with computed answers, or a reader's answers marked.

    Args:
        answers: By key, such as `{"exercise1.w3": (81.0,)}`; None for the answers themselves.

    Raises:
        ConfigError: If an answer names no question.
    """
    if answers is None:
        right = (Mark(q.key, None, q.truth(), is_right=True, why="") for q in QUESTIONS)
        return ExercisesTopic(tuple(right), is_marked=False)
    keys = [question.key for question in QUESTIONS]
    for key in answers:
        if key not in keys:
            raise ConfigError(f"no question {key!r}; there are {', '.join(keys)}")
    marks = tuple(
        mark(question, answers[question.key])
        if question.key in answers
        else Mark(question.key, None, "", is_right=False, why="")
        for question in QUESTIONS
    )
    return ExercisesTopic(marks, is_marked=True)


def mark(question: Question, reply: Answer) -> Mark:
    """Judge one answer by computing the right one."""
    truth = question.truth()
    if not isinstance(reply, str) and not all(map(math.isfinite, reply)):
        return Mark(question.key, reply, truth, is_right=False, why="finite numbers are asked for")
    if isinstance(truth, str) or isinstance(reply, str):
        right = isinstance(reply, str) and reply.strip().lower() == truth
    else:
        right = len(reply) == len(truth) and all(
            math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-6)
            for one, other in zip(reply, truth, strict=True)
        )
    return Mark(question.key, reply, truth, right, "" if right else question.hint(reply))


def as_text(answer: Answer) -> str:
    """Return an answer as a reader would write it."""
    if isinstance(answer, str):
        return answer
    return (
        number(answer[0], 8 if abs(answer[0]) >= 100 else 6)
        if len(answer) == 1
        else vector(list(answer), 4)
    )


def as_answer(text: str) -> Answer:
    """Return what a reader typed: a number, numbers between commas, or a word.

    Example:
        >>> as_answer("[1.2, 1.6]"), as_answer("81"), as_answer("update")
        ((1.2, 1.6), (81.0,), 'update')
    """
    try:
        return tuple(float(each) for each in text.strip().strip("[]()").split(","))
    except ValueError:
        return text.strip()


def _delta(weight: float) -> Callable[[], Answer]:
    return lambda: (chain(weight, 5, dtype="float64").given.layers[0].delta_output,)


def _chain_hint(weight: float) -> Callable[[Answer], str]:
    def hint(reply: Answer) -> str:
        if isinstance(reply, str) or len(reply) != 1 or not reply[0] > 0:
            return "one number above 0 is asked for"
        factors = math.log(reply[0]) / math.log(weight)
        said = f"{number(reply[0])} is {number(weight)} to the power {number(factors, 3)}"
        if abs(factors - 5) < 0.05:
            return f"{said}: that multiplies once too often, for δ5 is 1 before any layer"
        return f"{said}; from the output to layer 1 the chain multiplies 4 times"

    return hint


def _constant_hint(reply: Answer) -> str:
    if isinstance(reply, str) or len(reply) != 1 or not reply[0]:
        return "one number is asked for"
    delta = chain(reply[0], 5, dtype="float64").given.layers[0].delta_output
    return f"with w = {number(reply[0])}, δ1 is {number(delta)}, run just now, while δ5 is 1"


def _is_constant() -> Answer:
    """Return the size of w at which δ is 1 in every layer, found by halving on real chains."""
    low, high = 0.5, 2.0
    for _step in range(40):
        middle = (low + high) / 2
        grows = chain(middle, 5, dtype="float64").given.layers[0].delta_output > 1
        low, high = (low, middle) if grows else (middle, high)
    return (round(high, 9),)


def _clip(values: Sequence[float], limit: float, what: str) -> Callable[[], Answer]:
    def truth() -> Answer:
        found = example([torch.tensor(list(values))], limit)
        return {
            "norm": (found.norm,),
            "factor": (found.coefficient,),
            "clipped": found.after[0],
        }[what]

    return truth


def _norm_hint(reply: Answer) -> str:
    return f"{as_text(reply)}: square the entries, add them up, take the root"


def _factor_hint(reply: Answer) -> str:
    if isinstance(reply, str) or len(reply) != 1:
        return "one number is asked for"
    scaled = example([torch.tensor([3.0 * reply[0], 4.0 * reply[0]])], math.inf).norm
    return f"a factor of {number(reply[0])} leaves a norm of {number(scaled)}, not 2"


def _vector_hint(values: Sequence[float], limit: float) -> Callable[[Answer], str]:
    def hint(reply: Answer) -> str:
        if isinstance(reply, str) or len(reply) != len(values):
            return f"{len(values)} numbers are asked for, such as 1, 2"
        one, other = torch.tensor(list(values)).double(), torch.tensor(list(reply)).double()
        length = float(other.norm())
        if length > limit * (1 + TOLERANCE):
            return f"its norm is {number(length, 4)}, above {number(limit)}"
        cosine = float(one @ other) / (float(one.norm()) * length) if length else 0.0
        if cosine < 1 - 1e-4:
            return f"its direction has turned: cosine {cosine:.4f} to the gradient"
        return f"its norm is {number(length, 4)}, below {number(limit)}: more than needed was cut"

    return hint


def _power_hint(weight: float) -> Callable[[Answer], str]:
    def hint(reply: Answer) -> str:
        if isinstance(reply, str) or len(reply) != 1 or not reply[0] > 0:
            return "one number above 0 is asked for"
        steps = math.log(reply[0]) / math.log(weight)
        return f"{number(reply[0])} is {number(weight)} to the power {number(steps, 3)}, not 100"

    return hint


def _pair(what: str) -> Callable[[], Answer]:
    def truth() -> Answer:
        found = example([torch.tensor([100.0, 0.0]), torch.tensor([0.0, 0.1])], 1.0)
        return {"norm": (found.norm,), "large": found.after[0], "small": found.after[1]}[what]

    return truth


def _pair_hint(before: Sequence[float]) -> Callable[[Answer], str]:
    def hint(reply: Answer) -> str:
        if isinstance(reply, str) or len(reply) != 2:
            return "2 numbers are asked for, such as 1, 2"
        factor = float(torch.tensor(reply).norm()) / float(torch.tensor(list(before)).norm())
        return f"that is a factor of {number(factor, 3)}; all tensors share one, 1 / norm"

    return hint


def _first_alarm() -> Answer:
    rang = {d.name: d.first_step for d in symptoms().diagnostics}
    order = {"loss": "mean loss", "norm": "gradient norm", "update": "update / weight"}
    steps = {word: rang[name] for word, name in order.items()}
    return min(order, key=lambda word: math.inf if steps[word] is None else float(steps[word] or 0))


def _alarm_hint(reply: Answer) -> str:
    rang = ", ".join(f"{d.name} at step {d.first_step}" for d in symptoms().diagnostics)
    return f"you said {as_text(reply)}; in the run: {rang}"


QUESTIONS = (
    Question("exercise1.w3", "5 linear layers, w = 3, δ5 = 1: δ1?", _delta(3.0), _chain_hint(3.0)),
    Question("exercise1.w09", "the same with w = 0.9: δ1?", _delta(0.9), _chain_hint(0.9)),
    Question(
        "exercise1.constant",
        "at which |w| does δ neither grow nor shrink?",
        _is_constant,
        _constant_hint,
    ),
    Question("exercise2.norm", "gradient [3, 4]: norm?", _clip((3, 4), 2, "norm"), _norm_hint),
    Question(
        "exercise2.factor",
        "clipped at 2: by which factor?",
        _clip((3, 4), 2, "factor"),
        _factor_hint,
    ),
    Question(
        "exercise2.clipped",
        "clipped at 2: the vector?",
        _clip((3, 4), 2, "clipped"),
        _vector_hint((3, 4), 2),
    ),
    Question(
        "exercise2.other",
        "[6, 8] clipped at 2: the vector?",
        _clip((6, 8), 2, "clipped"),
        _vector_hint((6, 8), 2),
    ),
    Question(
        "exercise3.grow",
        "w = 1.01 through 100 time steps: the gradient's factor?",
        lambda: (power(1.01, 100).gradient,),
        _power_hint(1.01),
    ),
    Question(
        "exercise3.shrink",
        "w = 0.99 through 100 time steps?",
        lambda: (power(0.99, 100).gradient,),
        _power_hint(0.99),
    ),
    Question(
        "exercise4.norm",
        "gradients [100, 0] and [0, 0.1]: global norm?",
        _pair("norm"),
        _norm_hint,
    ),
    Question(
        "exercise4.large",
        "clipped to 1 together: what is left of [100, 0]?",
        _pair("large"),
        _pair_hint((100, 0)),
    ),
    Question(
        "exercise4.small",
        "and of [0, 0.1]?",
        _pair("small"),
        _pair_hint((0, 0.1)),
    ),
    Question(
        "exercise5.first",
        "a net dies in epoch 4: which rings first, `loss` by epoch, `norm` by step, or `update` "
        "/ weight by tensor?",
        _first_alarm,
        _alarm_hint,
    ),
)
