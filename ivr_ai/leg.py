"""A call's leg: what a call asks of its host, and the adapter for FreeSWITCH.

    Leg              the protocol. Everything that ivr_ai.call does to a call goes through it
    FreeSwitchLeg    a session that mod_python3 hands to the dialplan application `python`
    DetachedLeg      a call that stays with the dialplan (ivr_ai/detached.py)
    EmbeddedLeg      a call on the embedded host (ivr_ai/gateways/embedded_leg.py)

`leg_of(session)` finds the adapter for a host's session. A host with a session of its own registers its
adapter there. What the host tells a call (keys, hold, bridge) comes through the call's stream: see
Stream.subscribe() in ivr_ai/audio/stream.py.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, Protocol, runtime_checkable

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import MAIN, Stream, StreamNotFound, StreamStereo, open_streams

BESIDE = "ivr_ai"  # our stream's id where the usual one is taken by a stream to a server
MODULE = "mod_audio_stream"
NOT_LOADED = f"{MODULE} is not loaded in FreeSWITCH: `load {MODULE}` in fs_cli, and in modules.conf.xml"
CLEARED = "NORMAL_CLEARING"
OK = "+OK"
_VIDEO_AND_SIGNALS = frozenset({"h263", "h264", "h265", "vp8", "vp9", "av1", "telephone-event", "cn"})


@runtime_checkable
class Leg(Protocol):
    """One call as its host has it. Names of causes, dialplans and variables are FreeSWITCH's.

    sleep(), answer(), open_stream() and play() belong to the thread that holds the call; the others may be
    called from any thread. After the call is over every method returns and does nothing.
    """

    @property
    def uuid(self) -> str:
        """The call's id on its host."""

    def ready(self) -> bool:
        """Whether the call is up and still ours: False after a hang-up or a transfer."""

    def answered(self) -> bool:
        """Whether the call has been answered."""

    def ring(self) -> None:
        """Tells the caller that it rings (180), unless the call has been answered or has media already."""

    def answer(self) -> None:
        """Answers. Returns when it has been sent; other calls go on meanwhile."""

    def sleep(self, ms: int) -> None:
        """Waits for ms, for wake(), or for the call's end, while the host goes on with the call's audio."""

    def wake(self) -> None:
        """Ends a sleep() early; one that has not begun yet may end at once."""

    def hang_up(self, cause: str = CLEARED) -> None:
        """Ends the call."""

    def transfer(self, extension: str, dialplan: str = "XML", context: str = "") -> None:
        """Sends the call to an extension; the call's own context where none is named. Then it is not ours any
        more."""

    def variable(self, name: str) -> str | None:
        """A channel variable, or else a global one; None where there is neither."""

    def set_variable(self, name: str, value: str) -> None:
        """Sets a channel variable."""

    def expected_format(self, pcm_rate_hz: int) -> Format:
        """The call's audio as far as it is known before media is up: G.711 as offered first, or PCM at this
        rate."""

    def why_no_stream(self) -> str:
        """Why no stream can be opened on this host, to be asked before the answer; "" where one can."""

    def open_stream(self) -> str:
        """Opens a stream for a conversation, or takes the one that the dialplan has opened; its id.

        Raises StreamNotFound: there is none; StreamStereo: it has two channels.
        """

    def stop_stream(self, stream_id: str) -> None:
        """Stops what open_stream() has given."""

    def send_dtmf(self, digits: str) -> None:
        """Sends keys to the far end, as the call carries them (RFC 4733 events, as a rule)."""

    def play(self, path: str) -> None:
        """Plays a WAV file with the host's own player and waits for its end: for when there is no stream."""

    def release(self) -> None:
        """Lets go of the host's session. The last that a call asks of its leg."""


class LegBase:
    """What legs have in common that reach their call by FreeSWITCH's words: variables,
    `uuid_audio_stream`."""

    @property
    def uuid(self) -> str:
        raise NotImplementedError

    def variable(self, name: str) -> str | None:
        raise NotImplementedError

    def stream_command(self, words: str) -> str:
        """Runs `uuid_audio_stream` on the call; the first line of its answer."""
        raise NotImplementedError

    def expected_format(self, pcm_rate_hz: int) -> Format:
        codec = first_codec(self.variable("read_codec")) or first_codec(self.variable("ep_codec_string"))
        return format_of(codec, pcm_rate_hz)

    def open_stream(self) -> str:
        stream_id, words = MAIN, "start embedded"
        if (self.uuid, MAIN) in open_streams(self.uuid):
            if not self.goes_to_a_server(MAIN):
                _check_mono(self.uuid)
                return MAIN
            stream_id, words = BESIDE, f"{BESIDE} {words}"
        result = self.stream_command(words)
        if result != OK:
            why = f"{result or 'no answer'}; is {MODULE} loaded? `ivr-ai doctor` checks"
            raise StreamNotFound(f"no audio stream on call {self.uuid}: {why}")
        return stream_id

    def stop_stream(self, stream_id: str) -> None:
        self.stream_command("stop" if stream_id == MAIN else f"{stream_id} stop")

    def goes_to_a_server(self, stream_id: str) -> bool:
        """Whether an open stream sends its audio to a server, and is not for an application in this
        process."""
        return '"source":"embedded"' not in self.stream_command(f"{stream_id} status")


def _check_mono(uuid: str) -> None:
    """Raises StreamStereo when the stream that the dialplan has opened gives two channels."""
    if Stream.attach(uuid, MAIN).channels != 1:
        raise StreamStereo(
            f"the audio stream that is open on call {uuid} is stereo, and the model hears one channel: "
            "leave out `stereo` in the dialplan's `uuid_audio_stream start embedded`"
        )


def first_codec(offered: str | None) -> str:
    """The name of the first audio codec in a list as FreeSWITCH writes them, in lower case; "" for none.

    "CORE_PCM_MODULE.PCMA@8000h@20i@64000b,opus@48000h" gives "pcma".
    """
    for each in (offered or "").split(","):
        name = each.split("@")[0].rsplit(".", 1)[-1].strip().lower()
        if name and name not in _VIDEO_AND_SIGNALS:
            return name
    return ""


def format_of(codec: str, pcm_rate_hz: int) -> Format:
    """What a stream on a call with this codec carries: G.711 as it is, everything else as PCM."""
    return Format(codec, 8000) if codec in ("pcmu", "pcma") else Format("s16", pcm_rate_hz)


class FreeSwitchLeg(LegBase):
    """A session of mod_python3. The session's thread is FreeSWITCH's media thread for the call while it
    sleeps."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._uuid = str(session.get_uuid())

    @property
    def uuid(self) -> str:
        return self._uuid

    def ready(self) -> bool:
        return self._session is not None and bool(self._session.ready())

    def answered(self) -> bool:
        return self._session is not None and bool(self._session.answered())

    def ring(self) -> None:
        if self.ready() and not self.answered() and not self._has_media():
            self._session.execute("ring_ready", "")

    def _has_media(self) -> bool:
        return bool(self._session.mediaReady())

    def answer(self) -> None:
        if self._session is not None:
            self._session.execute(
                "answer", ""
            )  # unlike the session's own answer(), lets other threads run meanwhile

    def sleep(self, ms: int) -> None:
        if self._session is not None:
            self._session.sleep(ms)

    def wake(self) -> None:
        self._api("uuid_break", self._uuid)

    def hang_up(self, cause: str = CLEARED) -> None:
        if self._session is not None:
            self._session.hangup(cause)

    def transfer(self, extension: str, dialplan: str = "XML", context: str = "") -> None:
        if self._session is not None:
            context = context or self.variable("context") or "default"
            self._session.transfer(extension, dialplan or "XML", context)

    def variable(self, name: str) -> str | None:
        return None if self._session is None else self._session.getVariable(name)

    def set_variable(self, name: str, value: str) -> None:
        if self._session is not None:
            self._session.setVariable(name, value)

    def why_no_stream(self) -> str:
        if self._api("module_exists", MODULE) == "true":
            return ""
        return NOT_LOADED

    def stream_command(self, words: str) -> str:
        # Through the API: an application that does not exist would end the call.
        return self._api("uuid_audio_stream", f"{self._uuid} {words}")

    def send_dtmf(self, digits: str) -> None:
        self._api("uuid_send_dtmf", f"{self._uuid} {digits}")

    def play(self, path: str) -> None:
        if self._session is not None:
            self._session.execute("playback", path)

    def release(self) -> None:
        self._session = None

    @staticmethod
    def _api(command: str, arguments: str) -> str:
        """The first line of an API command's answer."""
        import freeswitch  # there only inside mod_python3

        return str(freeswitch.API().execute(command, arguments) or "").strip().partition("\n")[0]


@singledispatch
def leg_of(session: Any) -> Leg:
    """The leg for a host's session: the session itself where it is a Leg, FreeSWITCH's adapter otherwise."""
    return session if isinstance(session, Leg) else FreeSwitchLeg(session)
