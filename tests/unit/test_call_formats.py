"""Which audio a call and a server agree on: whatever they say, the caller hears the voice and never noise."""

from __future__ import annotations

import pytest
from calls import SAYS, errors, lengths_ms, purity, statuses

from ivr_ai.gateways.caller import Hangup, Say
from ivr_ai.sim.faults import Faults
from ivr_ai.tts.local_voice import speak

WIRES = [(8000, "pcmu"), (8000, "pcma"), (8000, "s16"), (16000, "s16"), (48000, "s16")]
STATED = ["audio/pcmu", "audio/pcma", "audio/pcm", "audio/pcm@16000", "input:audio/pcmu,output:audio/pcm"]
NO_G711 = ("audio.input.format.type:audio/pcmu", "audio.input.format.type:audio/pcma")
# The codec that comes first in the offer is not the one that the call turns out to have.
OTHERS_FIRST = [
    {"read_codec": "", "ep_codec_string": "CORE_PCM_MODULE.PCMA@8000h@20i@64000b,CORE_PCM_MODULE.PCMU@8000h"},
    {"read_codec": "", "ep_codec_string": "opus@48000h@20i,PCMU@8000h"},
    {"read_codec": "", "ep_codec_string": ""},
]


@pytest.fixture(params=["native", "python"])
def transport(request) -> str:
    """Every call, over both."""
    return request.param


def heard_well(placed, server, record, rate_hz: int = 8000) -> None:
    """Both sides have heard each other: the tones that were said, as long as they were, and nothing else."""
    session = server.sessions[-1]
    assert placed.of("failure") == []
    assert lengths_ms(record.recording.ai, rate_hz) == pytest.approx([1000, 1000], abs=30)
    assert purity(record.recording.ai, 440, rate_hz) > 0.9
    assert lengths_ms(session.audio, session.audio_rate_hz) == pytest.approx([400], abs=30)
    assert purity(session.audio, 300, session.audio_rate_hz) > 0.9


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize(("rate_hz", "wire"), WIRES, ids=str)
def test_a_server_that_uses_another_format_than_asked_for(place, sim, rate_hz, wire, stated):
    """What session.updated states is believed, in both directions."""
    server = sim(faults=Faults(state_format=stated))
    options = {"rate_hz": rate_hz, "wire": wire}
    script = [Say(speak("x", rate_hz, "tone:300:400")), Hangup()]
    placed = place(server, script, host=options, greeting="Say hello.", sample_rate_hz=rate_hz)
    heard_well(placed, server, placed.finish(), rate_hz)


@pytest.mark.parametrize("wire", ["pcmu", "pcma"])
def test_a_server_without_g711_gets_pcm(place, sim, wire):
    server = sim(faults=Faults(refuse_fields=NO_G711))
    placed = place(server, [Say(SAYS), Hangup()], host={"wire": wire}, greeting="Say hello.")
    heard_well(placed, server, placed.finish())
    assert [event.data["field"] for event in placed.of("format_adjusted")] == ["audio.format"]
    assert placed.of("setting_refused") == []
    formats = [
        event["session"]["audio"]["output"]["format"]["type"]
        for event in server.sessions[0].received("session.update")
        if "output" in event["session"]["audio"]
    ]
    assert formats == [f"audio/{wire}", "audio/pcm"]


class TestCodecSettledLate:
    @pytest.mark.parametrize("wire", ["pcmu", "pcma", "s16"])
    @pytest.mark.parametrize("variables", OTHERS_FIRST, ids=["PCMA first", "opus first", "none known"])
    def test_the_greeting_is_the_voice(self, place, sim, variables, wire):
        server = sim()
        host = {"wire": wire, "variables": variables}
        placed = place(server, [Say(SAYS), Hangup()], host=host, greeting="Say hello.")
        heard_well(placed, server, placed.finish())
        assert errors(server.sessions[0]) == []

    @pytest.mark.parametrize(
        "refused",
        [
            NO_G711,
            NO_G711[:1],
            NO_G711[1:],
            ("audio.output.voice",),
            ("audio.input.transcription", "audio.input.noise_reduction"),
            ("max_output_tokens", *NO_G711),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("variables", OTHERS_FIRST, ids=["PCMA first", "opus first", "none known"])
    def test_what_was_refused_before_is_not_asked_for_again(self, place, sim, variables, refused):
        """The second update starts from what the server has accepted: one refusal for each field."""
        server = sim(faults=Faults(refuse_fields=refused))
        settings = {"transcription_model": "any", "noise_reduction": "near_field", "max_output_tokens": 500}
        host = {"wire": "pcmu", "variables": variables}
        placed = place(server, [Say(SAYS), Hangup()], host=host, greeting="Say hello.", **settings)
        heard_well(placed, server, placed.finish())
        params = [each["param"] for each in errors(server.sessions[0])]
        assert len(params) == len(set(params))

    def test_nothing_is_said_while_the_second_update_is_open(self, place, sim):
        """The answer to it is slow: the greeting is asked for, and the caller's audio sent, after it."""
        server = sim(faults=Faults(link_delay_ms=150))
        host = {"wire": "pcmu", "variables": OTHERS_FIRST[0]}
        placed = place(server, [Say(SAYS), Hangup()], host=host, greeting="Say hello.")
        heard_well(placed, server, placed.finish())
        kinds = [event.type for event in server.sessions[0].events]
        assert kinds[:2] == ["session.update", "session.update"]
        session = server.sessions[0]
        (accepted_s,) = [event.at_s for event in session.sent if event.type == "session.updated"][1:2]
        rest = [event.at_s for event in session.events if event.type != "session.update"]
        assert min(rest) > accepted_s


class TestSloppyServers:
    @pytest.mark.parametrize(
        "faults",
        [
            {"omit_events": ("session.created",)},
            {"omit_events": ("response.created",)},
            {"omit_events": ("response.output_audio.done", "response.output_item.done")},
            {"omit_events": ("response.output_audio_transcript.done",)},
            {"omit_events": ("input_audio_buffer.committed", "rate_limits.updated")},
            {"duplicate_events": True},
            {"reorder_events": True},
            {"id_chars": 100},
            {"id_chars": 1000},
            {"created_delay_ms": 150},
            {"delta_bytes": 1001},
        ],
        ids=str,
    )
    def test_the_conversation_is_as_with_any_other(self, place, sim, faults):
        server = sim(faults=Faults(**faults))
        placed = place(server, [Say(SAYS), Hangup()], greeting="Say hello.")
        record = placed.finish()
        heard_well(placed, server, record)
        assert (record.result.turns, record.result.barge_ins) == (1, 0)
        assert statuses(server.sessions[0]) == ["completed", "completed"]
        assert [event.data["turn"] for event in placed.of("heard")] == [0, 1]

    @pytest.mark.parametrize("dialect", ["ga", "beta"])
    def test_a_server_of_either_dialect_is_recognised(self, place, sim, dialect):
        """OPENAI_REALTIME_DIALECT=auto: what session.created looks like decides."""
        server = sim(dialect=dialect)
        placed = place(server, [Say(SAYS), Hangup()], greeting="Say hello.")
        heard_well(placed, server, placed.finish())
