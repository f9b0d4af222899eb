"""Texts that are not what they should be: words where messages belong, bytes that are not UTF-8."""

from __future__ import annotations

import json

import pytest


class TestOddBytes:
    """A caller's name in Latin-1, as Python holds what FreeSWITCH hands on: with surrogate escapes."""

    NAME, TOLD = "Andr\udce9", "Andr\ufffd"

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_metadata(self, talk, dialect):
        one = talk(dialect=dialect, metadata=json.dumps({"caller": self.NAME}, ensure_ascii=False))
        text = one.visit.wait(lambda visit: visit.texts())[0]
        told = json.loads(text)
        assert (told if dialect == "binary" else told["metadata"]) == {"caller": self.TOLD}

    def test_texts(self, talk):
        one = talk()
        one.streamer.send_text(self.NAME)
        one.streamer.send_text("half a pair: \ud83d")
        assert one.visit.wait(lambda visit: len(visit.texts()) == 2)
        assert one.visit.texts() == [self.TOLD, "half a pair: \ufffd"]
        assert one.stop(self.NAME) == self.TOLD
        one.visit.wait_closed()
        assert one.visit.texts()[-1] == self.TOLD

    def test_settings(self, talk):
        headers = json.dumps({"X-Caller": self.NAME}, ensure_ascii=False)
        one = talk(dialect="json", options={"stream_auth_id": self.NAME, "STREAM_EXTRA_HEADERS": headers})
        start = one.visit.wait(lambda visit: visit.events("start"))[0]
        assert start["authId"] == self.TOLD
        assert one.visit.headers["X-Caller"].startswith("Andr")


class TestWords:
    """Servers greet, and log, in plain text."""

    @pytest.mark.parametrize("text", ["line 7 is ready", "<say>hello</say>", "[info] up", "caf\u00e9 \u2615"])
    def test_they_reach_the_application(self, talk, text):
        one = talk()
        one.visit.send(text)
        assert one.events.wait("json") == text
        two = talk(dialect="json")
        two.visit.send(text)
        assert two.events.wait("message_received")["message"] == text
        assert one.events.of("stream_invalid_input") == two.events.of("stream_invalid_input") == []

    @pytest.mark.parametrize("dialect", ["binary", "json"])
    def test_broken_messages_are_none(self, talk, dialect):
        one = talk(dialect=dialect)
        one.visit.send('{"event": "media.play", ')
        assert "not JSON" in one.events.wait("stream_invalid_input")["error"]
        assert not {"json", "message_received"} & set(one.events.names())
