"""What a stage is told to do."""

from dataclasses import dataclass, field

import pytest

from bico import InputError
from bico.settings.stage import stage_settings


@dataclass(frozen=True)
class Inner:
    rate: float


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    inner: Inner
    sources: tuple[int | None, ...] = ()
    tiled: bool = False
    other: Inner = field(default_factory=lambda: Inner(0.5))


GIVEN = {"name": "a", "steps": 3, "inner": {"rate": 1}}


def test_settings_come_as_a_frozen_value_of_the_stages_own_type():
    stage = stage_settings(Stage, GIVEN | {"sources": [1, None]})
    assert stage == Stage("a", 3, Inner(1), sources=(1, None))
    assert hash(stage) == hash(stage_settings(Stage, GIVEN | {"sources": [1, None]}))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"stepz": 4}, "settings: 'stepz' is unknown; did you mean 'steps'"),
        ({"steps": "3"}, "settings: 'steps' is '3'; expected: int"),
        ({"steps": True}, "settings: 'steps' is True; expected: int"),
        ({"tiled": 1}, "settings: 'tiled' is 1; expected: bool"),
        ({"inner": {"rate": "fast"}}, "settings: 'inner.rate' is 'fast'; expected: float"),
        ({"inner": {}}, "settings: 'inner.rate' is missing"),
        ({"inner": 3}, "settings: 'inner' is 3; expected: Inner"),
        ({"sources": [1, "two"]}, "settings: 'sources' is"),
    ],
)
def test_what_is_unknown_missing_or_of_another_type_is_named(change, says):
    with pytest.raises(InputError) as problem:
        stage_settings(Stage, GIVEN | change)
    assert says in str(problem.value)


def test_all_problems_are_listed_at_once():
    with pytest.raises(InputError) as problem:
        stage_settings(Stage, {"steps": None, "size": 1})
    assert len(problem.value.problems) == 4
