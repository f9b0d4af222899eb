"""What a conversation asks of the host of its call: FreeSWITCH, or one of our own with the same session."""

from __future__ import annotations

from typing import Any

from ivr_ai.audio.formats import Format
from ivr_ai.audio.stream import MAIN, StreamNotFound, open_streams
from ivr_ai.config import Settings

BESIDE = "ivr_ai"  # our stream's id where the usual one is taken by a stream to a server


def wake(session: Any) -> None:
    """Ends a session's sleep early, from another thread."""
    own = getattr(session, "wake", None)
    if own is not None:
        own()
        return
    import freeswitch  # there only inside mod_python3

    freeswitch.API().execute("uuid_break", session.get_uuid())


def stream_command(session: Any, words: str) -> str:
    """Runs `uuid_audio_stream` on a session's call; the first line of its answer, without the usage.

    It says so where the module is missing.

    Through FreeSWITCH's API: asked to run an application it does not have, it would hang the call up.
    """
    if hasattr(session, "stream_command"):  # the dialplan has the call
        return str(session.stream_command(words))
    if hasattr(session, "wake"):  # a host of our own
        session.execute("uuid_audio_stream", words)
        return str(session.getVariable("audio_stream_result") or "")
    import freeswitch

    answer = freeswitch.API().execute("uuid_audio_stream", f"{session.get_uuid()} {words}") or ""
    return answer.strip().partition("\n")[0]


def goes_to_a_server(session: Any, stream_id: str) -> bool:
    """Whether an open stream is somebody else's, and not for an application in this process."""
    try:
        status = stream_command(session, f"{stream_id} status")
    except ValueError:  # a host of our own: it has no such streams, and no such command
        return False
    return '"source":"embedded"' not in status


def expected_wire(session: Any, settings: Settings) -> Format:
    """The call's format, as far as it is known before media is up.

    The first codec offered, or the settings'.
    """
    codec = session.getVariable("read_codec") or session.getVariable("ep_codec_string") or ""
    name = codec.split(",")[0].split("@")[0].rsplit(".", 1)[-1].lower()
    return Format(name, 8000) if name in ("pcmu", "pcma") else Format("s16", settings.sample_rate_hz)


def open_stream(session: Any, uuid: str) -> str:
    """Opens a stream for a conversation, or takes the one that the dialplan has opened; its id.

    Raises StreamNotFound: there is none.
    """
    stream_id, words = MAIN, "start embedded"
    if (uuid, MAIN) in open_streams(uuid):
        if not goes_to_a_server(session, MAIN):
            return MAIN
        stream_id, words = BESIDE, f"{BESIDE} {words}"
    result = stream_command(session, words)
    if result != "+OK":
        why = f"{result or 'no answer'}; is mod_audio_stream loaded? `ivr-ai doctor` checks"
        raise StreamNotFound(f"no audio stream on call {uuid}: {why}")
    return stream_id


def stop_stream(session: Any, stream_id: str) -> None:
    """Stops what open_stream() has given."""
    stream_command(session, "stop" if stream_id == MAIN else f"{stream_id} stop")
