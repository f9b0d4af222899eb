"""Which session a connection has: what is wanted, what the server refuses, and what it has agreed to. No I/O.

    session.created   ─▶ the first update
    want(...)         ─▶ another one: the call's codec is known, or turns are decided otherwise
    error             ─▶ the update once more, without the field that the server minds
    session.updated   ─▶ agreed: what the server states counts, not what was asked for

The server applies all of an update or nothing, and OpenAI names the field it minds in `param`. A refused
G.711 format is asked for again as PCM, semantic_vad as server_vad, a refused voice leaves the model's
default, other fields are left out if a call can do without them. A complaint that names no field costs the
optional ones, one after the other. What was refused once is not asked for again. Once a session has been
agreed on, an update that cannot be had leaves that one in force.

While an update is open, nothing may be asked, sent or decoded: see `is_open`. Each update repeats what the
open ones before it were to change, so only the answer to the newest counts.

A server that states other audio formats than asked for is believed: its audio is converted from what it
states. One whose session.created has the beta interface's shape, or that does not know a field which every
GA session has, is spoken to in beta, unless OPENAI_REALTIME_DIALECT says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivr_ai.audio.formats import REALTIME_PCM_HZ, Format, FormatError
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.adapter import PASSING_CODES
from ivr_ai.realtime.session_update import (
    FORMATS,
    IF_NAMED,
    OPTIONAL,
    SETTING_OF,
    TURN_DETECTION,
    TURN_DETECTION_TYPE,
    VOICE,
    Session,
    build_session,
    input_format,
    output_format,
    server_vad,
    turns_of,
    value_at,
    with_value,
    without,
)

Event = dict[str, Any]

UPDATE = "update_"  # how the event_id of an update begins
PCM = Format("s16", REALTIME_PCM_HZ)
_PCM_WIRE = {"type": "audio/pcm", "rate": REALTIME_PCM_HZ}
_WHOLE = frozenset({*FORMATS, TURN_DETECTION, VOICE})  # objects that are sent whole or not at all
_GA_ONLY = ("type", "audio", "output_modalities")  # a server that does not know these speaks beta
_TEMPERATURE = "temperature"  # of the beta interface: no field of the GA session
_PASSING_TRIES = 2  # of an update that the server refuses for a reason which may pass
_QUOTED = re.compile(r"""['"`]([A-Za-z_][\w.\[\]]{0,199})['"`]""")
_INDEX = re.compile(r"\[\d{1,9}\]")
_BETA_FIELDS = {
    "modalities": "output_modalities",
    "input_audio_format": "audio.input.format",
    "output_audio_format": "audio.output.format",
    "input_audio_transcription": "audio.input.transcription",
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "turn_detection": TURN_DETECTION,
    "voice": VOICE,
    "speed": "audio.output.speed",
    "max_response_output_tokens": "max_output_tokens",
}
# Fields that can be left out or asked for otherwise; and all that complaints may name.
_DISPENSABLE = (*FORMATS, *OPTIONAL, *IF_NAMED)
_KNOWN = frozenset({*_DISPENSABLE, *SETTING_OF})


# ---- what comes of it: values for the link -----------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send this event."""

    event: Event


@dataclass(frozen=True)
class SpeakBeta:
    """The server speaks the beta interface: translate from now on. temperature: whether it takes one."""

    temperature: bool = True


@dataclass(frozen=True)
class Refused:
    """The session goes on without a field. setting: what it is called in .env."""

    field: str
    message: str
    setting: str = ""


@dataclass(frozen=True)
class Adjusted:
    """The session goes on with another audio format than asked for, and nothing is lost by it."""

    field: str
    message: str


@dataclass(frozen=True)
class Settled:
    """No update is open any more: Negotiation.agreed says what counts."""


@dataclass(frozen=True)
class Impossible:
    """There can be no session."""

    reason: str


Step = Send | SpeakBeta | Refused | Adjusted | Settled | Impossible


@dataclass(frozen=True)
class Agreed:
    """The session as the server has it. heard: caller to model; said: model to caller."""

    heard: Format
    said: Format
    turns: Turns
    expires_at: float | None = None


@dataclass(frozen=True)
class _Update:
    """An update without an answer. sent: its session; session: what the server has once it is accepted."""

    event_id: str
    sent: Session
    session: Session


class Negotiation:
    """That of one connection. Not thread-safe."""

    def __init__(
        self, settings: Settings, wire: Format, turns: Turns | None = None, tools: list[Session] | None = None
    ) -> None:
        """wire: the call's audio as far as it is known. turns: who decides, turns_of() unless given."""
        self._settings = settings
        self._tools = tools
        self._wire = wire
        self._turns = turns or turns_of(settings)
        self._refused: dict[
            str, Any
        ] = {}  # fields by path: None when left out, else the value that goes instead
        self._session = self._build()
        self._accepted: Session | None = None  # what of ours the server has
        self._updates = 0
        self._begun = False
        self._beta = False
        self._open: list[_Update] = []  # the oldest first
        self._asked_again = False
        self._passed_over = 0  # refusals that were to pass
        self._complaint = ""  # the first that named no field
        self.agreed: Agreed | None = None

    @property
    def is_open(self) -> bool:
        """Whether an update has been sent that is neither accepted nor refused, or none has been sent."""
        return self.agreed is None or bool(self._open)

    def _build(self) -> Session:
        session = build_session(self._settings, self._wire, self._tools, self._turns)
        for path, value in self._refused.items():
            if value is not None and value_at(session, path) is not None:
                session = with_value(session, path, self._alternative(path, value))
        for path, value in self._refused.items():  # of what went instead, too
            if value is None:
                session = without(session, path) or session
        return session

    def _alternative(self, path: str, value: Any) -> Any:
        return server_vad(self._settings, self._turns) if path == TURN_DETECTION else value

    def _update(self) -> list[Step]:
        self._updates += 1
        sent = self._session
        if self._accepted is not None:
            # Only what is new: a server may refuse to be told its voice once it has spoken.
            sent = changes([self._accepted, *(update.session for update in self._open)], sent)
        self._open.append(_Update(f"{UPDATE}{self._updates}", sent, self._session))
        return [Send({"type": "session.update", "event_id": self._open[-1].event_id, "session": sent})]

    def _update_if_new(self) -> list[Step]:
        return [Settled()] if self._session == self._accepted and not self._open else self._update()

    # ---- in ------------------------------------------------------------------------------------------------

    def begin(self) -> list[Step]:
        """The first update, for a server that says nothing of its own accord. Once; session.created does it
        too."""
        if self._begun:
            return []
        self._begun = True
        plain_beta = _TEMPERATURE in self._refused and self._settings.effective_dialect == "beta"
        return [*([self._speak_beta()] if plain_beta else []), *self._update()]

    def begin_again(self) -> None:
        """The next connection, where nothing was agreed on the one before. What was refused stays so."""
        self._begun = self._beta = self._asked_again = False
        self._accepted = None
        self._open.clear()

    def want(self, *, wire: Format | None = None, turns: Turns | None = None) -> list[Step]:
        """Asks for another session where this means another one. The same is agreed already."""
        before, self._wire, self._turns = self._session, wire or self._wire, turns or self._turns
        self._session = self._build()
        return self._update() if self._begun and self._session != before else []

    def created(self, session: Mapping[str, Any]) -> list[Step]:
        """session.created."""
        if not (self._may_be_beta and is_beta(session)):
            return self.begin()
        self._beta = True
        return [self._speak_beta(), *(self._update() if self._begun else self.begin())]

    @property
    def _may_be_beta(self) -> bool:
        return not (self._beta or self._settings.dialect_is_set or self.agreed is not None)

    def _speak_beta(self) -> SpeakBeta:
        return SpeakBeta(temperature=_TEMPERATURE not in self._refused)

    def updated(self, session: Mapping[str, Any]) -> list[Step]:
        """session.updated, whatever it answers."""
        if not self._open:
            return []
        self._accepted = self._open.pop(0).session
        if self._open:
            return []  # a later update is on its way: its answer counts
        stated = Stated(session)
        if stated.is_text_only:
            return self._ask_for_audio()
        try:
            heard = stated.format("input", input_format(self._settings, self._wire), self._session)
            said = stated.format("output", output_format(self._settings, self._wire), self._session)
        except FormatError as error:
            return [Impossible(f"the server states an audio format that calls cannot use: {error}")]
        turns = stated.turns(self._turns_said())
        if self._turns.detects and not turns.detects:
            why = "session.updated says turn_detection null: set OPENAI_TURN_DETECTION=none"
            return [Impossible(f"the server does not detect the caller's turns ({why})")]
        expires_at = session.get("expires_at")
        if not isinstance(expires_at, (int, float)):
            expires_at = self.agreed.expires_at if self.agreed else None
        told = self.agreed is not None and (self.agreed.heard, self.agreed.said) == (heard, said)
        self.agreed = Agreed(heard, said, turns, expires_at)
        return [*([] if told else self._differences(heard, said)), Settled()]

    def _turns_said(self) -> Turns:
        """Who decides about turns, as the update said. A refused flag has the interface's default, true."""
        said = value_at(self._session, TURN_DETECTION)
        if not isinstance(said, dict):
            return self._turns
        return Turns(True, said.get("create_response", True), said.get("interrupt_response", True))

    def _ask_for_audio(self) -> list[Step]:
        if self._asked_again:
            why = "it was asked twice for audio (output_modalities)"
            return [Impossible(f"the server answers in text only, says its session.updated; {why}")]
        self._asked_again = True
        self._accepted = None  # all of the session, whatever the server had of it
        return self._update()

    def _differences(self, heard: Format, said: Format) -> list[Step]:
        steps: list[Step] = []
        for path, stated in zip(FORMATS, (heard, said), strict=True):
            if stated.ga_wire != value_at(self._session, path):
                rate = f" at {stated.rate_hz} Hz" if stated.encoding == "s16" else ""
                steps.append(Adjusted(path, f"the server uses {stated.ga_name}{rate}: audio is converted"))
        return steps

    # ---- in: refusals --------------------------------------------------------------------------------------

    def is_about_update(self, error: Mapping[str, Any]) -> bool:
        """Whether an error is about an update that is open.

        Without an event_id and a param, a field in the message tells, while there is no session yet.
        """
        if not self._open:
            return False
        event_id, param = error.get("event_id"), error.get("param")
        if event_id:
            return any(event_id == update.event_id for update in self._open)
        if param:
            return isinstance(param, str) and (param == "session" or param.startswith("session."))
        return self.agreed is None and self._quoted(str(error.get("message") or "")) is not None

    def is_about_old_update(self, error: Mapping[str, Any]) -> bool:
        """Whether an error is about an update that has been answered already."""
        event_id = str(error.get("event_id") or "")
        return event_id.startswith(UPDATE) and all(event_id != update.event_id for update in self._open)

    def refused(self, error: Mapping[str, Any]) -> list[Step]:
        """An open update was refused: the next try, or why there is none."""
        event_id = error.get("event_id")
        about = next((update for update in self._open if update.event_id == event_id), self._open[0])
        is_newest = about is self._open[-1]
        self._open.remove(about)
        if not is_newest:
            return []  # a later update repeats it: its answer counts
        message = str(error.get("message") or error.get("code") or "no reason given")
        if error.get("code") in PASSING_CODES and self._passed_over < _PASSING_TRIES:
            self._passed_over += 1
            return self._update()
        named = self._named(error)
        if named in _GA_ONLY and error.get("code") == "unknown_parameter" and self._may_be_beta:
            self._beta = True
            return [self._speak_beta(), *self._update()]
        if named is None:
            self._complaint = self._complaint or message
            steps = self._leave_out_something(about, message)
        else:
            steps = self._do_without(named, message)
        return steps if steps is not None else self._give_up(named, message)

    def _give_up(self, named: str | None, message: str) -> list[Step]:
        """There is no next try: the session as agreed stays in force, or there can be none."""
        setting = SETTING_OF.get(named or "", "")
        if self.agreed is not None and self._accepted is not None:
            self._session = self._accepted
            return [Refused(named or "session", message, setting), Settled()]
        if named is None:
            return [Impossible(f"the server does not accept the session: {self._complaint}")]
        place = f"{named} ({setting})" if setting else named
        return [Impossible(f"the server does not accept the session: {place}: {message}")]

    # ---- which field is meant ------------------------------------------------------------------------------

    def _named(self, error: Mapping[str, Any]) -> str | None:
        """The field that a complaint names, as a path in our session."""
        param = str(error.get("param") or "")
        path = _path_of(param) if param not in ("", "session") else ""
        while path:
            if path in _KNOWN or value_at(self._session, path) is not None:
                return path
            path = path.rpartition(".")[0]
        return self._quoted(str(error.get("message") or ""))

    def _quoted(self, message: str) -> str | None:
        """The field of our session that a message has in quotes, or else without them."""
        for name in _QUOTED.findall(message):
            path = _path_of(name)
            if name == "semantic_vad" and value_at(self._session, TURN_DETECTION_TYPE) == name:
                return TURN_DETECTION_TYPE
            field = self._dispensable(path) or self._by_last_name(path)
            if field is not None:
                return field
            if name.startswith("session.") and value_at(self._session, path) is not None:
                return path  # no value in quotes, but a field that calls need
        return next((field for field in _DISPENSABLE if field in message and self._has(field)), None)

    def _has(self, field: str) -> bool:
        return value_at(self._session, field) is not None

    def _dispensable(self, path: str) -> str | None:
        """The narrowest field around a path that can be left out, or asked for otherwise."""
        around = [each for each in _DISPENSABLE if f"{path}.".startswith(f"{each}.") and self._has(each)]
        return max(around, key=len, default=None)

    def _by_last_name(self, name: str) -> str | None:
        named = (each for each in _DISPENSABLE if each.rpartition(".")[2] == name and self._has(each))
        return next(named, None)

    # ---- the next try --------------------------------------------------------------------------------------

    def _do_without(self, path: str, message: str) -> list[Step] | None:
        """The next try without a field; None where a call cannot do without it."""
        if path == _TEMPERATURE:
            return self._forget_temperature(message)
        if path in (TURN_DETECTION, TURN_DETECTION_TYPE):
            return self._ask_for_server_vad(message)
        field = self._dispensable(path)
        if field is None:
            return None
        return self._ask_for_pcm(message) if field in FORMATS else self._put(field, None, field, message)

    def _ask_for_pcm(self, message: str) -> list[Step] | None:
        if all(value_at(self._session, path) == _PCM_WIRE for path in FORMATS):
            return None
        self._refused.update(dict.fromkeys(FORMATS, _PCM_WIRE))
        self._session = self._build()
        adjusted = Adjusted("audio.format", f"{message} PCM is used instead.")
        return [adjusted, *self._update_if_new()]

    def _ask_for_server_vad(self, message: str) -> list[Step] | None:
        if value_at(self._session, TURN_DETECTION_TYPE) != "semantic_vad":
            return None
        return self._put(TURN_DETECTION, "server_vad", TURN_DETECTION_TYPE, message)

    def _forget_temperature(self, message: str) -> list[Step] | None:
        speaks_beta = self._beta or self._settings.effective_dialect == "beta"
        if not speaks_beta or _TEMPERATURE in self._refused:
            return None
        refused, *update = self._put(_TEMPERATURE, None, _TEMPERATURE, message) or []
        return [refused, self._speak_beta(), *update]

    def _put(self, path: str, value: Any, told: str, message: str) -> list[Step] | None:
        if path in self._refused:
            return None
        self._refused[path] = value
        self._session = self._build()
        return [Refused(told, message, SETTING_OF.get(told, "")), *self._update_if_new()]

    def _leave_out_something(self, update: _Update, message: str) -> list[Step] | None:
        """A complaint that names nothing: the optional fields of the update go one by one, then semantic_vad,
        G.711 and the voice."""
        for field in (*OPTIONAL, TURN_DETECTION, *FORMATS, VOICE):
            if value_at(update.sent, field) is not None:
                steps = self._do_without(field, message)
                if steps is not None:
                    return steps
        return None


def changes(before: Sequence[Session], after: Session) -> Session:
    """The fields of a session that differ from any of those before, and its type. What has gone is left
    out."""
    return {"type": "realtime", **_changes(before, after, "")}


def _changes(before: Sequence[Session], after: Session, prefix: str) -> Session:
    differing: Session = {}
    for name, value in after.items():
        path, values = f"{prefix}{name}", [each.get(name) for each in before]
        if all(each == value for each in values):
            continue
        if isinstance(value, dict) and path not in _WHOLE:
            places = [each if isinstance(each, dict) else {} for each in values]
            differing[name] = _changes(places, value, f"{path}.")
        else:
            differing[name] = value
    return differing


def _path_of(name: str) -> str:
    """The path in a GA session of what a complaint names, e.g. "session.tools[0].name"."""
    return ga_path(_INDEX.sub("", name).removeprefix("session."))


def ga_path(field: str) -> str:
    """A field's path in the GA session, whichever interface's name it has."""
    head, _, rest = field.partition(".")
    if head in _BETA_FIELDS:
        return f"{_BETA_FIELDS[head]}.{rest}" if rest else _BETA_FIELDS[head]
    return field


def is_beta(session: Mapping[str, Any]) -> bool:
    """Whether a server's session has the beta interface's shape."""
    return "audio" not in session and any(
        name in session for name in ("input_audio_format", "output_audio_format", "modalities")
    )


class Stated:
    """A session as a server states it, GA or beta. What it leaves out is as asked."""

    def __init__(self, session: Mapping[str, Any]) -> None:
        self._session = session

    def _value(self, path: str, beta: str) -> Any:
        value = value_at(dict(self._session), path)
        return self._session.get(beta) if value is None else value

    @property
    def is_text_only(self) -> bool:
        modalities = self._value("output_modalities", "modalities")
        return isinstance(modalities, list) and bool(modalities) and "audio" not in modalities

    def format(self, side: str, asked: Format, session: Session) -> Format:
        """The audio format of the side "input" or "output". Raises FormatError for one nobody here can
        read."""
        asked_wire = value_at(session, f"audio.{side}.format")
        asked = Format.from_wire(asked_wire) if asked_wire else asked
        stated = self._value(f"audio.{side}.format", f"{side}_audio_format")
        named = stated.get("type") if isinstance(stated, Mapping) else stated
        if not named or not isinstance(stated, (str, Mapping)):
            return asked
        rate_hz = asked.rate_hz if asked.encoding == "s16" else REALTIME_PCM_HZ
        return Format.from_wire(stated, rate_hz)

    def turns(self, asked: Turns) -> Turns:
        """Who decides about turns."""
        audio = self._session.get("audio")
        audio_input = audio.get("input") if isinstance(audio, Mapping) else None
        places = (audio_input, self._session)
        place = next(
            (each for each in places if isinstance(each, Mapping) and "turn_detection" in each), None
        )
        if place is None:
            return asked
        detection = place["turn_detection"]
        if not isinstance(detection, Mapping):
            return Turns(detects=False, asks=False, interrupts=False)
        asks, interrupts = detection.get("create_response"), detection.get("interrupt_response")
        return Turns(
            detects=True,
            asks=asks if isinstance(asks, bool) else asked.asks,
            interrupts=interrupts if isinstance(interrupts, bool) else asked.interrupts,
        )
