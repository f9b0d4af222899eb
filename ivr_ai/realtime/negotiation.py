"""Which session a connection has: what is wanted, what the server refuses, and what it has agreed to. No I/O.

    session.created   ─▶ the first update
    want(...)         ─▶ another one: the call's codec is known, or turns are decided otherwise
    error             ─▶ the update once more, without the field that the server minds
    session.updated   ─▶ agreed: what the server states counts, not what was asked for

The server applies all of an update or nothing, and OpenAI names the field it minds in `param`. A refused
G.711 format is asked
for again as PCM, a refused voice leaves the model's default, other fields are left out if a call can do
without them.
A complaint that names no field costs the optional ones, one after the other. What was refused once is not
asked for
again on this connection.

While an update is open, nothing may be asked, sent or decoded: see `is_open`.

A server that states other audio formats than asked for is believed: its audio is converted from what it
states. One whose
session.created has the beta interface's shape is spoken to in beta, unless OPENAI_REALTIME_DIALECT says
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ivr_ai.audio.formats import REALTIME_PCM_HZ, Format, FormatError
from ivr_ai.config import Settings
from ivr_ai.conversation.actions import Turns
from ivr_ai.realtime.session_update import (
    FORMATS,
    IF_NAMED,
    OPTIONAL,
    SETTING_OF,
    TURN_DETECTION,
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


# ---- what comes of it: values for the link -----------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send this event."""

    event: Event


@dataclass(frozen=True)
class SpeakBeta:
    """The server speaks the beta interface: translate from now on. temperature: whether to send that, too."""

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
        self._open: list[str] = []  # event_ids of updates without an answer, the oldest first
        self._asked_again = False
        self._complaint = ""  # the first that named no field
        self.agreed: Agreed | None = None

    @property
    def is_open(self) -> bool:
        """Whether an update has been sent that is neither accepted nor refused, or none has been sent."""
        return self.agreed is None or bool(self._open)

    def _build(self) -> Session:
        session = build_session(self._settings, self._wire, self._tools, self._turns)
        for path, value in self._refused.items():
            if value is None:
                session = without(session, path) or session
            elif value_at(session, path) is not None:
                session = with_value(session, path, self._alternative(path, value))
        return session

    def _alternative(self, path: str, value: Any) -> Any:
        return server_vad(self._settings, self._turns) if path == TURN_DETECTION else value

    def _update(self) -> list[Step]:
        self._updates += 1
        self._open.append(f"{UPDATE}{self._updates}")
        # Only what is new: a server may refuse to be told its voice once it has spoken.
        session = self._session if self._accepted is None else changes(self._accepted, self._session)
        return [Send({"type": "session.update", "event_id": self._open[-1], "session": session})]

    # ---- in ------------------------------------------------------------------------------------------------

    def begin(self) -> list[Step]:
        """The first update, for a server that says nothing of its own accord. Once; session.created does it
        too."""
        if self._begun:
            return []
        self._begun = True
        return self._update()

    def want(self, *, wire: Format | None = None, turns: Turns | None = None) -> list[Step]:
        """Asks for another session where this means another one. The same is agreed already."""
        before, self._wire, self._turns = self._session, wire or self._wire, turns or self._turns
        self._session = self._build()
        return self._update() if self._begun and self._session != before else []

    def created(self, session: Mapping[str, Any]) -> list[Step]:
        """session.created."""
        beta = not self._settings.dialect_is_set and is_beta(session) and not self._begun
        return [*([SpeakBeta()] if beta else []), *self.begin()]

    def updated(self, session: Mapping[str, Any]) -> list[Step]:
        """session.updated, whatever it answers."""
        if not self._open:
            return []
        del self._open[0]
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
        turns = stated.turns(self._turns)
        if self._turns.detects and not turns.detects:
            why = "session.updated says turn_detection null: set OPENAI_TURN_DETECTION=none"
            return [Impossible(f"the server does not detect the caller's turns ({why})")]
        expires_at = session.get("expires_at")
        if not isinstance(expires_at, (int, float)):
            expires_at = self.agreed.expires_at if self.agreed else None
        self.agreed = Agreed(heard, said, turns, expires_at)
        self._accepted = self._session
        return [*self._differences(heard, said), Settled()]

    def _ask_for_audio(self) -> list[Step]:
        if self._asked_again:
            why = "it was asked twice for audio (output_modalities)"
            return [Impossible(f"the server answers in text only, says its session.updated; {why}")]
        self._asked_again = True
        return self._update()

    def _differences(self, heard: Format, said: Format) -> list[Step]:
        steps: list[Step] = []
        for path, stated in zip(FORMATS, (heard, said), strict=True):
            if stated.ga_wire != value_at(self._session, path):
                steps.append(Adjusted(path, f"the server uses {stated}: audio is converted"))
        return steps

    # ---- in: refusals --------------------------------------------------------------------------------------

    def is_about_update(self, error: Mapping[str, Any]) -> bool:
        """Whether an error is about the update that is open."""
        if not self._open:
            return False
        event_id, param = error.get("event_id"), error.get("param")
        if event_id:
            return event_id in self._open
        return isinstance(param, str) and (param == "session" or param.startswith("session."))

    def is_about_old_update(self, error: Mapping[str, Any]) -> bool:
        """Whether an error is about an update that has been answered already."""
        event_id = str(error.get("event_id") or "")
        return event_id.startswith(UPDATE) and event_id not in self._open

    def refused(self, error: Mapping[str, Any]) -> list[Step]:
        """An open update was refused: the next try, or why there is none."""
        event_id = error.get("event_id")
        self._open.remove(event_id if event_id in self._open else self._open[0])
        message = str(error.get("message") or error.get("code") or "no reason given")
        named = self._named(error)
        if named is None:
            self._complaint = self._complaint or message
            return self._leave_out_something(message)
        steps = self._do_without(named, message)
        if steps is not None:
            return steps
        setting = f" ({SETTING_OF[named]})" if named in SETTING_OF else ""
        return [Impossible(f"the server does not accept the session: {named}{setting}: {message}")]

    def _named(self, error: Mapping[str, Any]) -> str | None:
        """The field that a complaint names, as a path in our session."""
        param, message = str(error.get("param") or ""), str(error.get("message") or "")
        path = ga_path(param.removeprefix("session.")) if param not in ("", "session") else ""
        while path:
            if path in OPTIONAL or path in IF_NAMED or value_at(self._session, path) is not None:
                return path
            path = path.rpartition(".")[0]
        fields = (*FORMATS, *OPTIONAL, *IF_NAMED)
        quoted = [each for each in fields if each in message or f"'{each.rpartition('.')[2]}'" in message]
        present = [each for each in quoted if value_at(self._session, each) is not None]
        return present[0] if present else None

    def _do_without(self, path: str, message: str) -> list[Step] | None:
        """The next try without a field; None where a call cannot do without it."""
        for audio_format in FORMATS:
            if path == audio_format or path.startswith(f"{audio_format}."):
                return self._ask_for_pcm(message)
        if path == f"{TURN_DETECTION}.type" and self._settings.turn_detection == "semantic_vad":
            return self._put(TURN_DETECTION, "server_vad", path, message)
        for field in (*OPTIONAL, *IF_NAMED):
            if (path == field or path.startswith(f"{field}.")) and value_at(self._session, field) is not None:
                return self._put(field, None, field, message)
        return None

    def _ask_for_pcm(self, message: str) -> list[Step] | None:
        if all(value_at(self._session, path) == _PCM_WIRE for path in FORMATS):
            return None
        self._refused.update(dict.fromkeys(FORMATS, _PCM_WIRE))
        self._session = self._build()
        return [Adjusted("audio.format", f"{message} PCM is used instead."), *self._update()]

    def _put(self, path: str, value: Any, told: str, message: str) -> list[Step] | None:
        if path in self._refused:
            return None
        self._refused[path] = value
        self._session = self._build()
        return [Refused(told, message, SETTING_OF.get(told, "")), *self._update()]

    def _leave_out_something(self, message: str) -> list[Step]:
        """A complaint that names nothing: the optional fields go one by one, then G.711, then the voice."""
        for field in OPTIONAL:
            if value_at(self._session, field) is not None:
                steps = self._put(field, None, field, message)
                if steps is not None:
                    return steps
        for steps in (self._ask_for_pcm(message), self._do_without(VOICE, message)):
            if steps is not None:
                return steps
        return [Impossible(f"the server does not accept the session: {self._complaint}")]


def changes(before: Session, after: Session) -> Session:
    """The fields of a session that differ from another's, and its type. What has gone is left out."""
    return {"type": "realtime", **_changes(before, after, "")}


def _changes(before: Session, after: Session, prefix: str) -> Session:
    differing: Session = {}
    for name, value in after.items():
        path = f"{prefix}{name}"
        if before.get(name) == value:
            continue
        if isinstance(value, dict) and isinstance(before.get(name), dict) and path not in _WHOLE:
            differing[name] = _changes(before[name], value, f"{path}.")
        else:
            differing[name] = value
    return differing


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
        if not isinstance(stated, (str, Mapping)) or (isinstance(stated, Mapping) and not stated.get("type")):
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
