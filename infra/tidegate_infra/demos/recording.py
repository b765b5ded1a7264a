"""What was recorded: when people called a chat service, and what two snapshots of GPT-4 answered."""

import csv
import gzip
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

MARCH = "gpt-4-0314"
JUNE = "gpt-4-0613"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one model answered one question, on record.

    Parameters
    ----------
    model
        Snapshot that answered.
    latency_us
        From the request to the whole answer, in microseconds.
    input_tokens, output_tokens, input_chars, output_chars
        Sizes.
    answered
        The model gave an answer, rather than a reason why it has none.
    cost_usd_nano
        What the call cost, in billionths of a dollar.
    """

    model: str
    latency_us: int
    input_tokens: int
    output_tokens: int
    input_chars: int
    output_chars: int
    answered: bool
    cost_usd_nano: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Arrival times and answers.

    Parameters
    ----------
    arrivals_us
        Arrivals of calls, in microseconds after the first.
    answers
        Model -> its answers, by number of the question; all models have the same questions.
    """

    arrivals_us: list[int]
    answers: dict[str, list[Answer]]

    def arrivals(self, seed: int) -> Iterator[tuple[int, int]]:
        """Yield arrivals with the question that is asked, the same for the same seed.

        Yields
        ------
        tuple
            Arrival in microseconds after the first, and number of the question.
        """
        order = random.Random(seed)
        questions = len(self.answers[MARCH])
        for at_us in self.arrivals_us:
            yield at_us, order.randrange(questions)


def _rows(name: str) -> Iterator[dict[str, str]]:
    packed = (resources.files("tidegate_infra.demos") / "data" / name).read_bytes()
    yield from csv.DictReader(gzip.decompress(packed).decode().splitlines())


def load() -> Recording:
    """Read the recording that ships with the package; NOTICE says where it comes from."""
    answers: dict[str, list[Answer]] = {MARCH: [], JUNE: []}
    for row in _rows("answers.csv.gz"):
        answers[row["model"]].append(
            Answer(
                model=row["model"],
                latency_us=int(row["latency_us"]),
                input_tokens=int(row["input_tokens"]),
                output_tokens=int(row["output_tokens"]),
                input_chars=int(row["input_chars"]),
                output_chars=int(row["output_chars"]),
                answered=row["answered"] == "1",
                cost_usd_nano=int(row["cost_usd_nano"]),
            )
        )
    return Recording([int(row["at_us"]) for row in _rows("arrivals.csv.gz")], answers)
