"""G.711 against the definition in ITU-T G.711, over every code and every sample."""

from __future__ import annotations

from array import array

import pytest

from ivr_ai.audio import g711

ALL_CODES = bytes(range(256))
ALL_SAMPLES = range(-32768, 32768)


def pcmu_value(code: int) -> int:
    """What a mu-law code stands for, by the standard: inverted bits, sign, segment, step."""
    code ^= 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def pcma_value(code: int) -> int:
    """What an A-law code stands for, by the standard: even bits inverted, a set sign bit is positive."""
    code ^= 0x55
    segment, step = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = step + 8 if segment == 0 else (step + 0x108) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


def pcmu_half_step(code: int) -> int:
    """Half the width of the interval whose middle a mu-law code stands for."""
    return 4 << ((code ^ 0xFF) >> 4 & 7)


def pcma_half_step(code: int) -> int:
    """The same for A-law, whose first two segments have the same step."""
    return 8 << max(0, ((code ^ 0x55) >> 4 & 7) - 1)


LAWS = {
    "pcmu": (g711.pcmu_encode, g711.pcmu_decode, pcmu_value, pcmu_half_step),
    "pcma": (g711.pcma_encode, g711.pcma_decode, pcma_value, pcma_half_step),
}


@pytest.fixture(params=LAWS)
def law(request):
    return LAWS[request.param]


def test_every_code_decodes_to_its_value(law):
    _, decode, value, _ = law
    assert list(array("h", decode(ALL_CODES))) == [value(code) for code in ALL_CODES]


def test_every_sample_becomes_the_value_of_its_interval(law):
    encode, _, value, half_step = law
    loudest = max(value(code) for code in ALL_CODES)
    codes = encode(array("h", ALL_SAMPLES).tobytes())
    for sample, code in zip(ALL_SAMPLES, codes, strict=True):
        in_range = max(-loudest, min(loudest, sample))
        assert abs(value(code) - in_range) <= half_step(code), (sample, code)


def test_a_code_survives_the_way_there_and_back(law):
    encode, decode, value, _ = law
    back = encode(decode(ALL_CODES))
    assert [value(code) for code in back] == [value(code) for code in ALL_CODES]


def test_silence_is_what_the_line_calls_silence():
    assert g711.pcmu_encode(bytes(4)) == b"\xff\xff"
    assert g711.pcma_encode(bytes(4)) == b"\xd5\xd5"


def test_nothing_gives_nothing(law):
    encode, decode, *_ = law
    assert encode(b"") == decode(b"") == b""


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer_will_do(law, kind):
    encode, decode, *_ = law
    pcm = array("h", range(-500, 500)).tobytes()
    assert encode(kind(pcm)) == encode(pcm)
    assert decode(kind(ALL_CODES)) == decode(ALL_CODES)


@pytest.mark.parametrize("size", [1, 321])
def test_half_a_sample_is_refused(law, size):
    with pytest.raises(ValueError, match=f"even number of bytes, not {size}"):
        law[0](bytes(size))
