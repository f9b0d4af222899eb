"""SIP messages and audio SDP as plain values: what an agent on loopback needs (RFC 3261, 4566). No I/O."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "c": "content-type"}
_START = re.compile(r"SIP/2\.0 \d{3}( .*)?|[A-Z]+ \S+ SIP/2\.0")
_CSEQ = re.compile(r"\d+ +[A-Z]+")
_ANSWERS = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


class Message(NamedTuple):
    """One request or response: its first line, its headers in order, its body."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: str = ""

    @classmethod
    def parse(cls, datagram: bytes) -> Message:
        """Raises ValueError when the datagram is no SIP message, or lacks what every message must have."""
        head, _, body = datagram.decode("utf-8", "replace").lstrip("\r\n").partition("\r\n\r\n")
        start, *lines = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
        pairs = (line.partition(":") for line in lines if ":" in line)
        message = cls(start, tuple((name.strip(), value.strip()) for name, _, value in pairs), body)
        if not _START.fullmatch(start) or not _CSEQ.fullmatch(message.get("CSeq")):
            raise ValueError(f"not a SIP message: {start[:60]!r}")
        return message

    def encode(self) -> bytes:
        """UTF-8; surrogate escapes (PEP 383) are the bytes they stand for, whatever those are."""
        body = self.body.encode()
        headers = (*self.headers, ("Content-Length", str(len(body))))
        lines = [self.start, *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body

    @property
    def method(self) -> str:
        """The request's method, or the method a response answers."""
        return self.get("CSeq").split()[-1] if self.status else self.start.split()[0]

    @property
    def status(self) -> int:
        """The response's code; 0 for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def cseq(self) -> int:
        return int(self.get("CSeq").split()[0])

    @property
    def branch(self) -> str:
        """Transaction id: the branch of the topmost Via."""
        return _parameter(self.get("Via"), "branch")

    @property
    def to_tag(self) -> str:
        return _parameter(self.get("To"), "tag")

    @property
    def contact_uri(self) -> str:
        return re.sub(r"^[^<]*<|>.*$", "", self.get("Contact"))

    @property
    def reason(self) -> str:
        """Q.850 text of the Reason header, such as NORMAL_CLEARING; empty when there is none."""
        return _parameter(self.get("Reason"), "text").strip('"')

    def all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for key, value in self.headers if _COMPACT.get(key.lower(), key.lower()) == wanted]

    def get(self, name: str) -> str:
        """The header's first value; empty when there is none."""
        return next(iter(self.all(name)), "")

    def reply(self, status: str, extra: Iterable[tuple[str, str]] = (), body: str = "") -> Message:
        """The response to this request; status is code and phrase, such as "200 OK"."""
        to = self.get("To") if self.to_tag else f"{self.get('To')};tag={secrets.token_hex(4)}"
        copied = [("Via", via) for via in self.all("Via")]
        copied += [("To", to), *((name, self.get(name)) for name in ("From", "Call-ID", "CSeq"))]
        return Message(f"SIP/2.0 {status}", (*copied, *extra), body)


class AudioSdp(NamedTuple):
    """The audio line of a session description: where to send, as what, in which directions."""

    host: str
    port: int
    formats: dict[int, str]  # payload type -> encoding, such as {0: "PCMU/8000"}
    direction: str = "sendrecv"

    def payload_type(self, encoding: str) -> int | None:
        """The payload type carrying an encoding such as "PCMU/8000"; None when it is not offered."""
        wanted = encoding.upper()
        return next((number for number, name in self.formats.items() if name.upper() == wanted), None)

    def answer_direction(self) -> str:
        return _ANSWERS[self.direction]


def parse_sdp(text: str) -> AudioSdp:
    """Raises ValueError when the body describes no audio."""
    audio = re.search(r"^m=audio (\d+) \S+ ([\d ]+)", text, re.MULTILINE)
    hosts = re.findall(r"^c=IN IP4 (\S+)", text, re.MULTILINE)
    if audio is None or not hosts:
        raise ValueError(f"no audio in the session description: {text[:80]!r}")
    formats = {0: "PCMU/8000", 8: "PCMA/8000"}
    mapped = re.findall(r"^a=rtpmap:(\d+) (\S+)", text, re.MULTILINE)
    formats.update((int(number), name.removesuffix("/1")) for number, name in mapped)
    offered = [int(number) for number in audio[2].split()]
    direction = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)\s*$", text, re.MULTILINE)
    return AudioSdp(
        host=hosts[-1],
        port=int(audio[1]),
        formats={number: formats[number] for number in offered if number in formats},
        direction=direction[1] if direction else "sendrecv",
    )


def write_sdp(sdp: AudioSdp, session: int, version: int, ptime_ms: int) -> str:
    """The body for an offer or an answer; version rises with every change within one session."""
    events = [number for number, name in sdp.formats.items() if name.startswith("telephone-event/")]
    lines = [
        "v=0",
        f"o=- {session} {version} IN IP4 {sdp.host}",
        "s=call",
        f"c=IN IP4 {sdp.host}",
        "t=0 0",
        f"m=audio {sdp.port} RTP/AVP {' '.join(map(str, sdp.formats))}",
        *(f"a=rtpmap:{number} {name}" for number, name in sdp.formats.items()),
        *(f"a=fmtp:{number} 0-15" for number in events),
        f"a=ptime:{ptime_ms}",
        f"a={sdp.direction}",
    ]
    return "\r\n".join(lines) + "\r\n"


def _parameter(value: str, name: str) -> str:
    found = re.search(rf';\s*{name}=("[^"]*"|[^;\s]+)', value)
    return found[1] if found else ""
