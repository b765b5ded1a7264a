import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ContractError
from tidegate_infra.kafka.dead_letters import LONGEST_ERROR_BYTES, DeadLetter, read

WORDS = st.text(max_size=30).filter(lambda text: text.isascii())


@given(
    letter=st.builds(
        DeadLetter,
        topic=WORDS,
        topic_id=WORDS,
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 1),
        stage=WORDS,
        reason=WORDS,
        error=WORDS,
    )
)
def test_headers_are_read_back_as_they_were_written(letter: DeadLetter) -> None:
    assert read(letter.headers()) == letter


def test_a_long_error_is_cut_even_inside_a_character() -> None:
    letter = DeadLetter(
        topic="t",
        topic_id="i",
        partition=0,
        offset=1,
        stage="aggregate",
        reason="undecodable",
        error="ä" * 900,
    )
    assert len(dict(letter.headers())["error"]) == LONGEST_ERROR_BYTES
    assert read(letter.headers()).error.startswith("ää")


@pytest.mark.parametrize(
    "headers", [None, [], [("topic", b"llm.calls")], [("topic", None), ("offset", b"x")]]
)
def test_headers_of_somebody_else_are_refused(headers: list[tuple[str, bytes | None]] | None) -> None:
    with pytest.raises(ContractError, match="no dead letter's"):
        read(headers)
