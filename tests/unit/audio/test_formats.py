"""Formats, frame maths and WAV files."""

from __future__ import annotations

import io
import wave
from array import array

import pytest

from ivr_ai.audio.formats import Format, FormatError, convert, read_wav, write_wav

PCM24 = Format("s16", 24000)
PCMU = Format("pcmu", 8000)
PCMA = Format("pcma", 8000)


@pytest.mark.parametrize("fmt", [PCM24, PCMU, PCMA, Format("s16", 44100)])
def test_valid_formats_validate_to_themselves(fmt: Format) -> None:
    assert fmt.validate() is fmt


@pytest.mark.parametrize(
    ("fmt", "says"),
    [
        (Format("opus", 48000), "use one of s16, pcmu, pcma"),
        (Format("pcmu", 16000), "always 8000 Hz"),
        (Format("s16", 4000), "outside 8000-48000"),
        (Format("s16", 96000), "outside 8000-48000"),
    ],
)
def test_invalid_formats_say_what_is_allowed(fmt: Format, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        fmt.validate()


def test_sizes_and_durations() -> None:
    assert PCM24.bytes_for_ms(20) == 960
    assert PCMU.bytes_for_ms(20) == 160
    assert Format("s16", 44100).bytes_for_ms(0.5) == 44, "whole samples: 22.05 is 22"
    assert PCM24.ms_for_bytes(960) == 20
    assert PCMU.ms_for_bytes(1334) == 166.75


@pytest.mark.parametrize(("fmt", "code"), [(PCM24, 0), (PCMU, 0xFF), (PCMA, 0xD5)])
def test_silence(fmt: Format, code: int) -> None:
    silence = fmt.silence(20)
    assert len(silence) == fmt.bytes_for_ms(20)
    assert set(silence) == {code}


@pytest.mark.parametrize(
    ("fmt", "ga", "beta"),
    [
        (PCM24, {"type": "audio/pcm", "rate": 24000}, "pcm16"),
        (PCMU, {"type": "audio/pcmu"}, "g711_ulaw"),
        (PCMA, {"type": "audio/pcma"}, "g711_alaw"),
    ],
)
def test_wire_names_both_ways(fmt: Format, ga: dict, beta: str) -> None:
    assert fmt.ga_wire == ga
    assert fmt.ga_name == ga["type"]
    assert fmt.beta_name == beta
    assert Format.from_wire(ga) == Format.from_wire(beta) == Format.from_wire(ga["type"]) == fmt


def test_beta_pcm_takes_the_rate_it_is_told() -> None:
    assert Format.from_wire("pcm16", pcm_rate_hz=16000) == Format("s16", 16000)


@pytest.mark.parametrize("wire", ["mp3", {"type": "audio/opus"}, {}, {"type": "audio/pcm", "rate": "24k"}])
def test_unknown_wire_formats(wire: object) -> None:
    with pytest.raises(FormatError, match="audio format"):
        Format.from_wire(wire)  # type: ignore[arg-type]


def test_equal_formats_are_not_converted() -> None:
    data = bytes(961)  # not even looked at
    assert convert(data, PCM24, PCM24) is data


@pytest.mark.parametrize("fmt", [PCMU, PCMA])
def test_g711_to_pcm_and_back(fmt: Format) -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # mu-law's second zero comes back as the first
    pcm = convert(codes, fmt, Format("s16", 8000))
    assert len(pcm) == 2 * len(codes)
    assert convert(pcm, Format("s16", 8000), fmt) == codes


def test_convert_resamples_where_rates_differ() -> None:
    assert len(convert(bytes(1600), Format("s16", 8000), PCM24)) == 4800
    assert len(convert(bytes(4800), PCM24, PCMA)) == 800


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(FormatError, match="not a whole number"):
        convert(b"abc", PCM24, PCMU)


# ---- WAV ---------------------------------------------------------------------------------------------------


def wav(width: int, channels: int, frames: bytes, rate_hz: int = 8000) -> io.BytesIO:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate_hz)
        out.writeframes(frames)
    stream.seek(0)
    return stream


def test_wav_round_trip(tmp_path) -> None:
    pcm = array("h", [0, 1, -1, 32767, -32768]).tobytes()
    write_wav(tmp_path / "x.wav", pcm, 16000)
    assert read_wav(tmp_path / "x.wav") == (pcm, 16000)
    assert read_wav(str(tmp_path / "x.wav")) == (pcm, 16000)


def test_wav_stereo_is_written_interleaved_and_read_averaged() -> None:
    stream = io.BytesIO()
    write_wav(stream, array("h", [100, 300, -100, -300]).tobytes(), 8000, channels=2)
    stream.seek(0)
    assert read_wav(stream) == (array("h", [200, -200]).tobytes(), 8000)


@pytest.mark.parametrize(
    ("width", "frames"),
    [
        (1, bytes([128, 255, 0])),
        (3, b"\xff\x00\x00\xff\x00\x7f\xff\x00\x80"),
        (4, b"\xff\xff\x00\x00\xff\xff\x00\x7f\xff\xff\x00\x80"),
    ],
)
def test_wav_of_other_widths_becomes_16_bits(width: int, frames: bytes) -> None:
    pcm, _ = read_wav(wav(width, 1, frames))
    assert list(array("h", pcm)) == [0, 0x7F00, -0x8000]


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a wav file at all", b"\xff\xfb\x90\x00" * 50])
def test_files_that_are_not_wav_are_named(tmp_path, content: bytes) -> None:
    path = tmp_path / "prompt.wav"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"prompt\.wav is not a PCM WAV file .* 16-bit PCM"):
        read_wav(path)


def test_mulaw_wav_says_how_to_save_it() -> None:
    data = bytearray(wav(2, 1, bytes(8)).getvalue())
    data[20] = 7  # WAVE_FORMAT_MULAW
    with pytest.raises(FormatError, match="save it as 16-bit PCM"):
        read_wav(io.BytesIO(bytes(data)))


def test_wav_at_an_impossible_rate() -> None:
    with pytest.raises(FormatError, match="4000 Hz: 8000-48000 Hz"):
        read_wav(wav(2, 1, bytes(8), rate_hz=4000))


def test_missing_file_is_an_os_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "none.wav")


def test_wav_refuses_broken_frames() -> None:
    with pytest.raises(FormatError, match="whole number"):
        write_wav(io.BytesIO(), b"abc", 8000)
    with pytest.raises(FormatError, match="2 16-bit channels"):
        write_wav(io.BytesIO(), b"ab", 8000, channels=2)
