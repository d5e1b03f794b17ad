"""The agenda: what is due, in order, and nothing that was dropped."""

from __future__ import annotations

import gc
import weakref
from random import Random

from ttasks.engine.agenda import Agenda


class Incomparable:
    """An item that can only be held."""

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: object) -> bool:
        raise AssertionError("items are compared")

    __eq__ = __gt__ = __le__ = __ge__ = __lt__  # type: ignore[assignment]


def test_items_come_in_the_order_of_their_moments() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add(2.0, "late")
    agenda.add(1.0, "early")
    assert agenda.take(0.5) is None
    assert agenda.next() == 1.0
    assert agenda.take(5.0) == "early"
    assert agenda.take(1.5) is None
    assert agenda.take(2.0) == "late"
    assert agenda.take(5.0) is None
    assert agenda.next() is None


def test_it_is_told_whether_an_item_is_now_the_first() -> None:
    agenda: Agenda[str] = Agenda()
    assert [agenda.add(moment, "item")[1] for moment in (2.0, 3.0, 1.0, 1.0)] == [
        True,
        False,
        True,
        False,
    ]


def test_items_of_one_moment_come_as_they_were_added_and_are_never_compared() -> None:
    agenda: Agenda[Incomparable] = Agenda()
    items = [Incomparable() for _ in range(20)]
    for item in items:
        agenda.add(1.0, item)
    for item in items:
        assert agenda.take(1.0) is item


def test_what_is_dropped_is_neither_taken_nor_waited_for_nor_kept() -> None:
    agenda: Agenda[Incomparable] = Agenda()
    item = Incomparable()
    gone = weakref.ref(item)
    ticket, _ = agenda.add(1.0, item)
    agenda.add(2.0, kept := Incomparable())
    del item
    agenda.drop(ticket)
    gc.collect()
    assert gone() is None
    assert agenda.next() == 2.0
    assert agenda.take(1.0) is None
    assert agenda.take(2.0) is kept
    agenda.drop(ticket)  # twice, and when it is empty: nothing happens


def test_a_ticket_of_what_was_taken_drops_nothing_else() -> None:
    agenda: Agenda[str] = Agenda()
    ticket, _ = agenda.add(1.0, "first")
    agenda.add(1.0, "second")
    assert agenda.take(1.0) == "first"
    agenda.drop(ticket)
    assert agenda.take(1.0) == "second"


def test_random_use_agrees_with_a_list() -> None:
    for seed in range(100):
        random = Random(seed)
        agenda: Agenda[str] = Agenda()
        expected: dict[int, tuple[float, int]] = {}  # ticket to moment and order
        now = 0.0
        for step in range(300):
            action = random.random()
            if action < 0.5:
                moment = now + random.randint(0, 5)
                ticket, is_first = agenda.add(moment, str(step))
                expected[ticket] = moment, step
                assert is_first == (min(expected.values()) == (moment, step))
            elif action < 0.8 and expected:
                ticket = random.choice(list(expected))
                agenda.drop(ticket)
                del expected[ticket]
            else:
                now += random.randint(0, 2)
                due = [entry for entry in expected.values() if entry[0] <= now]
                taken = agenda.take(now)
                assert taken == (str(min(due)[1]) if due else None), seed
                expected = {t: entry for t, entry in expected.items() if str(entry[1]) != taken}
            assert agenda.next() == min((m for m, _ in expected.values()), default=None)
