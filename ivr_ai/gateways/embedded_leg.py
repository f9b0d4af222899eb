"""A call on the embedded host, as ivr_ai.call sees it."""

from __future__ import annotations

from ivr_ai.gateways.embedded_session import EmbeddedSession
from ivr_ai.leg import CLEARED, LegBase, leg_of


class EmbeddedLeg(LegBase):
    """Leg over an EmbeddedSession."""

    def __init__(self, session: EmbeddedSession) -> None:
        self._session = session

    @property
    def uuid(self) -> str:
        return self._session.get_uuid()

    def ready(self) -> bool:
        return self._session.ready()

    def answered(self) -> bool:
        return self._session.answered()

    def ring(self) -> None:
        self._session.ring()

    def answer(self) -> None:
        self._session.answer()

    def sleep(self, ms: int) -> None:
        self._session.sleep(ms)

    def wake(self) -> None:
        self._session.wake()

    def hang_up(self, cause: str = CLEARED) -> None:
        self._session.hangup(cause)

    def transfer(self, extension: str, dialplan: str = "XML", context: str = "") -> None:
        self._session.transfer(extension, dialplan, context or self.variable("context") or "default")

    def variable(self, name: str) -> str | None:
        return self._session.getVariable(name)

    def set_variable(self, name: str, value: str) -> None:
        self._session.setVariable(name, value)

    def why_no_stream(self) -> str:
        return ""

    def stream_command(self, words: str) -> str:
        self._session.execute("uuid_audio_stream", words)
        return str(self._session.getVariable("audio_stream_result") or "")

    def goes_to_a_server(self, stream_id: str) -> bool:
        return False  # the embedded host has no streams to servers

    def send_dtmf(self, digits: str) -> None:
        self._session.send_dtmf(digits)

    def play(self, path: str) -> None:
        self._session.streamFile(path)

    def release(self) -> None:
        """Nothing to let go of: the session belongs to the host."""


leg_of.register(EmbeddedSession, EmbeddedLeg)
