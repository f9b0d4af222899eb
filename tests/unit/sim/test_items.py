"""Items of a conversation, as clients make, look at, cut and delete them."""

from __future__ import annotations

import base64

import pytest

from ivr_ai.audio.formats import Format
from ivr_ai.sim.items import KEPT_AUDIO_MAX_BYTES, Conversation

PCM24 = Format("s16", 24000)
ONE_LINE = {"turn": [{"heard": "Good day.", "say": "one two three four"}]}
LONG = {"voice": "tone:440:5000", "pace": 1.0}
TRANSCRIBED = {"input": {"transcription": {"model": "any"}}}


def retrieve(client, item_id: str) -> dict:
    client.send("conversation.item.retrieve", item_id=item_id)
    return client.until("conversation.item.retrieved")["item"]


# ---- truncation and deletion -------------------------------------------------------------------------------


def test_truncate(start, dial) -> None:
    client = dial(start())
    client.talk()
    item_id = client.until("response.done")["response"]["output"][0]["id"]
    user_id = next(e["item_id"] for e in client.events if e["type"] == "input_audio_buffer.committed")

    def truncate(**body: object) -> dict:
        client.send("conversation.item.truncate", **{"content_index": 0, "audio_end_ms": 0, **body})
        while True:
            event = client.read()
            if event["type"] in ("error", "conversation.item.truncated"):
                return event

    assert truncate(item_id="item_none")["error"]["code"] == "item_truncate_invalid_item_id"
    assert truncate(item_id=user_id)["error"]["code"] is None
    assert truncate()["error"]["code"] == "missing_required_parameter"
    assert truncate(item_id=item_id, audio_end_ms=-1)["error"]["code"] == "invalid_value"
    beyond = truncate(item_id=item_id, audio_end_ms=401)["error"]
    assert (beyond["code"], beyond["param"]) == ("invalid_value", "audio_end_ms")
    assert beyond["message"] == "Audio content of 400ms is already shorter than 401ms"
    assert truncate(item_id=item_id, audio_end_ms=400)["type"] == "conversation.item.truncated"
    assert truncate(item_id=item_id, audio_end_ms=120)["audio_end_ms"] == 120
    assert truncate(item_id=item_id, audio_end_ms=200)["error"]["code"] == "invalid_value", "it is 120 now"
    [part] = retrieve(client, item_id)["content"]
    assert "transcript" not in part, "the transcript goes whole"
    assert len(base64.b64decode(part["audio"])) == PCM24.bytes_for_ms(120)
    assert truncate(item_id=item_id, audio_end_ms=0)["audio_end_ms"] == 0
    assert truncate(item_id=item_id, audio_end_ms=0)["audio_end_ms"] == 0, "again, and nothing is left to cut"


def test_truncate_during_a_reply_counts_what_was_sent(start, dial) -> None:
    sim = start(**LONG)
    client = dial(sim)
    client.send("response.create")
    item_id = client.until("response.output_audio.delta")["item_id"]
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=4000)
    assert "already shorter" in client.until("error")["error"]["message"]
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=50)
    client.until("conversation.item.truncated")
    assert [event["audio_end_ms"] for event in sim.sessions[0].truncations] == [4000, 50]


def test_a_truncation_outlives_the_end_of_the_item(start, dial) -> None:
    client = dial(start(voice="tone:440:1500", pace=5.0))
    client.send("response.create")
    item_id = client.until("response.output_audio.delta")["item_id"]
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=50)
    client.until("conversation.item.truncated")
    assert client.until("response.done")["response"]["status"] == "completed"
    item = retrieve(client, item_id)
    [part] = item["content"]
    assert (item["status"], part["type"], "transcript" in part) == ("completed", "output_audio", False)
    assert len(base64.b64decode(part["audio"])) == PCM24.bytes_for_ms(50), "nothing is added after the cut"


def test_a_truncation_by_barge_in_is_kept(start, dial) -> None:
    client = dial(start(**LONG, cancel_lag_ms=100))
    client.send("response.create")
    item_id = client.until("response.output_audio.delta")["item_id"]
    client.speech()
    client.until("input_audio_buffer.speech_started")
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=20)
    client.until("conversation.item.truncated")
    client.until("response.done")
    assert "transcript" not in retrieve(client, item_id)["content"][0]


def test_no_done_comes_for_an_item_deleted_while_it_was_said(start, dial) -> None:
    client = dial(start(voice="tone:440:1500", pace=5.0))
    client.send("response.create")
    item_id = client.until("response.output_audio.delta")["item_id"]
    client.send("conversation.item.delete", item_id=item_id)
    client.until("conversation.item.deleted")
    client.until("response.done")
    assert not [event for event in client.events if event["type"] == "conversation.item.done"]
    client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=0)
    assert client.until("error")["error"]["code"] == "item_truncate_invalid_item_id"


# ---- what is retrieved -------------------------------------------------------------------------------------


def test_the_transcript_of_a_turn_is_null_until_it_has_come(start, dial) -> None:
    client = dial(start(dialogue=ONE_LINE))
    client.update(audio=TRANSCRIBED)
    client.talk(ms=500)
    item_id = client.until("input_audio_buffer.committed")["item_id"]
    added = client.until("conversation.item.added")["item"]
    assert added["content"] == [{"type": "input_audio", "transcript": None}]
    client.until("conversation.item.input_audio_transcription.completed")
    [part] = retrieve(client, item_id)["content"]
    assert (part["type"], part["transcript"]) == ("input_audio", "Good day.")


def test_both_sides_audio_is_retrieved(start, dial) -> None:
    client = dial(start(dialogue=ONE_LINE))
    client.silence(2000)
    client.talk(ms=500)
    user_id = client.until("input_audio_buffer.committed")["item_id"]
    said = client.until("response.done")["response"]["output"][0]
    heard = base64.b64decode(retrieve(client, user_id)["content"][0]["audio"])
    heard_ms = PCM24.ms_for_bytes(len(heard))
    assert 1000 <= heard_ms <= 1300, "the padding before the word, the word, the silence that ended the turn"
    assert len(heard.strip(b"\0")) == pytest.approx(PCM24.bytes_for_ms(500), abs=8)
    [part] = retrieve(client, said["id"])["content"]
    assert part["transcript"] == "one two three four"
    assert base64.b64decode(part["audio"]) == client.audio(PCM24)


def test_the_audio_of_the_oldest_items_is_given_up_beyond_the_bound() -> None:
    conversation = Conversation()
    for name in ("old", "new"):
        content = [{"type": "input_audio", "transcript": None}]
        conversation.add({"id": name, "type": "message", "role": "user", "content": content})
        conversation.keep_audio(name, bytes(KEPT_AUDIO_MAX_BYTES // 2 + 1))
    assert "audio" not in conversation.retrieve("old")["content"][0]
    assert "audio" in conversation.retrieve("new")["content"][0]


def test_a_transcription_that_fails_leaves_the_transcript_null(start, dial) -> None:
    dialogue = {"turn": [{"heard_error": "audio_unintelligible", "say": "bad line"}]}
    client = dial(start(dialogue=dialogue))
    client.update(audio=TRANSCRIBED)
    client.talk()
    failed = client.until("conversation.item.input_audio_transcription.failed")
    assert failed["error"] == {
        "type": "transcription_error",
        "code": "audio_unintelligible",
        "message": "The audio could not be transcribed.",
        "param": None,
    }
    assert retrieve(client, failed["item_id"])["content"][0]["transcript"] is None
    assert "bad line" in str(client.events), "the turn is answered all the same"
    assert not [event for event in client.events if event["type"].endswith("transcription.completed")]


# ---- items of the client's ---------------------------------------------------------------------------------


def test_typed_and_dtmf_turns(start, dial) -> None:
    dialogue = {"turn": [{"say": "typed"}, {"on": "dtmf 5", "say": "five"}]}
    client = dial(start(dialogue=dialogue))
    for text, reply in (("The caller pressed 5", "five"), ("Hello there", "typed"), ("5", "five")):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        client.send("conversation.item.create", item=item)
        client.send("response.create")
        assert client.until("response.output_audio_transcript.done")["transcript"] == reply
        client.until("response.done")


def test_a_spoken_item_is_a_turn(start, dial) -> None:
    sim = start(dialogue=ONE_LINE)
    client = dial(sim)
    client.update(audio={"input": {"transcription": {"model": "x"}, "turn_detection": None}})
    audio = base64.b64encode(bytes(48000)).decode()
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}]}
    client.send("conversation.item.create", item=item)
    added = client.until("conversation.item.added")["item"]
    assert added["content"] == [{"type": "input_audio"}], "audio is not echoed"
    done = client.until("conversation.item.input_audio_transcription.completed")
    assert (done["transcript"], done["usage"]["seconds"]) == ("Good day.", 1.0)
    assert sim.sessions[0].audio_ms == 1000
    client.send("response.create")
    assert client.until("response.output_audio_transcript.done")["transcript"] == "one two three four"


def test_items_are_created_retrieved_and_deleted(start, dial) -> None:
    client = dial(start())

    def create(**more: object) -> dict:
        content = [{"type": "input_text", "text": "note"}]
        client.send(
            "conversation.item.create", item={"type": "message", "role": "system", "content": content, **more}
        )
        return client.until("conversation.item.added")

    first = create(id="one")
    assert (first["item"]["id"], first["previous_item_id"]) == ("one", None)
    assert create(id="two")["previous_item_id"] == "one"
    client.send("conversation.item.delete", item_id="one")
    assert client.until("conversation.item.deleted")["item_id"] == "one"
    client.send("conversation.item.delete", item_id="one")
    assert client.until("error")["error"]["code"] == "item_delete_invalid_item_id"


def test_refused_items(start, dial) -> None:
    client = dial(start())
    note = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "note"}]}

    def refused(item: dict, **more: object) -> tuple[str, str, str]:
        client.send("conversation.item.create", item=item, event_id="mine", **more)
        error = client.until("error")["error"]
        return error["code"], error["param"], error["event_id"]

    client.send("conversation.item.create", item={**note, "id": "one"})
    client.until("conversation.item.done")
    assert refused({**note, "id": "one"}) == ("item_create_duplicate_item_id", "item.id", "mine")
    unknown = ("item_create_invalid_previous_item_id", "previous_item_id", "mine")
    assert refused(note, previous_item_id="none") == unknown
    assert refused({**note, "id": "x" * 33})[:2] == ("invalid_value", "item.id")
    output = {"type": "function_call_output", "call_id": "call_none", "output": "x"}
    assert refused(output)[:2] == ("invalid_value", "item.call_id")


def test_nulls_in_an_item_stand_for_fields_left_out(start, dial) -> None:
    client = dial(start())
    part = {"type": "input_text", "text": "note", "audio": None, "transcript": None}
    item = {"type": "message", "role": "user", "content": [part], "id": None, "status": None, "object": None}
    client.send("conversation.item.create", item=item, previous_item_id=None)
    added = client.until("conversation.item.added")["item"]
    assert added["content"] == [{"type": "input_text", "text": "note"}]
    assert (added["status"], added["object"]) == ("completed", "realtime.item")
