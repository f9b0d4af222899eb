"""Plug-ins: what other installed packages bring, found by entry point and loaded once, when ivr_ai is warmed
up.

    [project.entry-points."ivr_ai.tools"]
    order_status = "shop.voice:order_status"     # a function of a dict of arguments: what the model may call

    [project.entry-points."ivr_ai.observers"]
    crm = "shop.voice:on_event"                  # a function of one CallEvent, called on a thread of its own
    webhook = "shop.voice:observe"               # def observe(bus): subscribes as it likes

An observer whose only parameter is called `bus`, or annotated as Bus, is given the bus; any other is
subscribed to it. A plug-in that cannot be loaded is logged with its name and left out.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ivr_ai.bus import Bus

log = logging.getLogger("ivr_ai.plugins")

TOOLS = "ivr_ai.tools"
OBSERVERS = "ivr_ai.observers"


def load_tools() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """The functions of group ivr_ai.tools, by name. Raises nothing."""
    return dict(_load(TOOLS))


def load_observers(bus: Bus) -> None:
    """Subscribes those of group ivr_ai.observers. Raises nothing."""
    for name, observer in _load(OBSERVERS):
        try:
            if _wants_bus(observer):
                observer(bus)
            else:
                bus.subscribe(name, observer)
        except BaseException as error:  # a stranger's code
            _broken(OBSERVERS, name, error)


def _load(group: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, callable) of a group, the broken ones logged; of two with one name, the first."""
    names: set[str] = set()
    for point in _points(group):
        if point.name in names:
            log.error(
                "plug-in %s of %s: there are two of this name, %s is left out", point.name, group, point.value
            )
            continue
        names.add(point.name)
        try:
            loaded = point.load()
            if not callable(loaded):
                raise TypeError(f"{point.value} is a {type(loaded).__name__}, not a function")
        except BaseException as error:  # a stranger's code may even exit
            _broken(group, point.name, error)
            continue
        log.info("plug-in %s of %s: %s", point.name, group, point.value)
        yield point.name, loaded


def _points(group: str) -> list[EntryPoint]:
    try:
        return list(entry_points(group=group))
    except Exception as error:  # metadata of some package that cannot be read
        log.error("plug-ins of %s cannot be looked for: %s: %s", group, type(error).__name__, error)
        return []


def _broken(group: str, name: str, error: BaseException) -> None:
    log.error("plug-in %s of %s is left out: %s: %s", name, group, type(error).__name__, error)


def _wants_bus(observer: Callable[..., Any]) -> bool:
    try:
        [parameter] = inspect.signature(observer).parameters.values()
    except (TypeError, ValueError):  # none to be seen, or not just one
        return False
    return parameter.name == "bus" or parameter.annotation in (Bus, "Bus", "bus.Bus", "ivr_ai.bus.Bus")
