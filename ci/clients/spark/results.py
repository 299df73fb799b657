"""What a job hands back, and how two runs of it are compared."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Rows and their checksum must be equal; values, whose sums depend on the order of arrival, must be close."""

    rows: int
    checksum: str
    values: tuple = ()
    facts: tuple = ()
    tolerance: float = 0.0


def difference(measure, found):
    """What tells the second run from the first, or None."""
    if found.rows != measure.rows:
        return f"{found.rows} rows, not {measure.rows}"
    if found.checksum != measure.checksum:
        return f"checksum {found.checksum}, not {measure.checksum}"
    if len(found.values) != len(measure.values):
        return f"{len(found.values)} values, not {len(measure.values)}"
    for index, (wanted, value) in enumerate(zip(measure.values, found.values)):
        if not math.isclose(wanted, value, rel_tol=measure.tolerance, abs_tol=measure.tolerance):
            return f"value {index} is {value}, not {wanted}"
    return None


def prove():
    """Each planted difference must be told; returns how many."""
    measure = Outcome(3, "abc", (1.0, 2.0), tolerance=1e-3)
    planted = (
        Outcome(2, "abc", (1.0, 2.0)), Outcome(3, "abd", (1.0, 2.0)), Outcome(3, "abc", (1.0,)),
        Outcome(3, "abc", (1.0, 2.1)), Outcome(3, "abc", (1.0, math.nan)), Outcome(0, "", ()),
    )
    assert difference(measure, Outcome(3, "abc", (1.0, 2.0 + 1e-6))) is None, "equal outcomes were found to differ"
    for outcome in planted:
        assert difference(measure, outcome), f"{outcome} was taken for {measure}"
    return len(planted)
