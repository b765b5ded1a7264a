import numpy as np
import pytest
import xxhash

from tidegate_streams import users


def sketch(hashes: np.ndarray) -> dict[int, int]:
    found: dict[int, int] = {}
    register, rank = users.registers(hashes)
    for one, its in zip(register.tolist(), rank.tolist(), strict=True):
        found[one] = max(found.get(one, 0), its)
    return found


@pytest.mark.parametrize("n", [0, 1, 10, 300, 5_000, 200_000])
def test_the_estimate_is_near_the_truth(n: int) -> None:
    hashes = users.hash_users(b"acme\0%d" % i for i in range(n))
    assert users.estimate(list(sketch(hashes).values())) == pytest.approx(n, rel=0.05, abs=1)


def test_registers_and_ranks_are_those_of_the_definition() -> None:
    hashes = [0, 1, 2**51, 2**52 - 1, 2**52, 2**64 - 1, xxhash.xxh64_intdigest(b"acme\0u")]
    register, rank = users.registers(np.array(hashes, dtype=np.uint64))
    for value, one, its in zip(hashes, register.tolist(), rank.tolist(), strict=True):
        bits = f"{value:064b}"
        assert one == int(bits[:12], 2)
        assert its == len(bits[12:]) - len(bits[12:].lstrip("0")) + 1


def test_seeing_a_user_again_changes_nothing() -> None:
    hashes = users.hash_users([b"acme\0u"] * 3)
    assert sketch(hashes) == sketch(hashes[:1])
