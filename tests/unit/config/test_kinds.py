"""What values may be, how they are read, and how they are shown."""

from __future__ import annotations

import pytest
from loading import failure, load

from ivr_ai.config.kinds import BadValueError, LogLevel, mask_url, plain, unquoted


@pytest.mark.parametrize("word", ["1", "true", "YES", "On"])
def test_true_words(word):
    assert load({"IVR_AI_BARGE_IN": word}).barge_in is True


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF"])
def test_false_words(word):
    assert load({"IVR_AI_BARGE_IN": word}).barge_in is False


@pytest.mark.parametrize("text", ["1_000", "٣٠٠", "0x10", "1e3", "3 00", "9" * 5000])
def test_python_spellings_of_numbers_are_refused(text):
    assert failure(load, {"VAD_SILENCE_DURATION_MS": text}).setting == "VAD_SILENCE_DURATION_MS"


@pytest.mark.parametrize(
    "url", ["wss://", "wss://h:port/", "wss://h:0/", "wss://[::1/", "wss://h/#x", "wss://a b/"]
)
def test_broken_urls(url):
    assert failure(load, {"OPENAI_REALTIME_URL": url}).allowed.startswith("must be a ws:// or wss:// URL")


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("DEBUG", "debug TRACE verbose all debug1 debug10 DEBUG5 7 10 101 110"),
        ("INFO", "info Notice 5 6 20"),
        ("WARNING", "warn Warning 4 30"),
        ("ERROR", "err ERROR 3 40"),
        ("CRITICAL", "crit critical alert fatal emerg console off 0 1 2 50"),
    ],
)
def test_log_levels_of_python_syslog_and_freeswitch(level, words):
    assert {LogLevel().parse(word) for word in words.split()} == {level}
    assert {LogLevel().parse(int(word)) for word in words.split() if word.isdigit()} <= {level}


@pytest.mark.parametrize(
    "value", ["loud", "", "info,websockets=debug", "8", "-1", "debug11", "111", 6.0, True, None]
)
def test_log_levels_that_nobody_has(value):
    with pytest.raises(BadValueError, match="one of DEBUG, INFO"):
        LogLevel().parse(value)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("Andr\udce9", "Andr\ufffd"),
        ("\udce2\udc82\udcac 5", "€ 5"),  # bytes that are UTF-8 after all
        ("\ud83d\ude00", "\ufffd\ufffd"),  # half pairs, of UTF-16
        ("é 😀", "é 😀"),
        ("", ""),
    ],
)
def test_plain_text_can_be_encoded(text, becomes):
    assert plain(text) == becomes
    plain(text).encode()


def test_plain_leaves_other_values_alone():
    assert [plain(value) for value in (5, True, None, ["\udce9"])] == [5, True, None, ["\udce9"]]


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ('"sk-1"', "sk-1"),
        ("'sk-1'", "sk-1"),
        ('" sk-1 "', "sk-1"),
        ('"', '"'),
        ('""', ""),
        ('"sk-1', '"sk-1'),
        ('"yes" or "no"', '"yes" or "no"'),
        ("\"mixed'", "\"mixed'"),
    ],
)
def test_unquoted(text, becomes):
    assert unquoted(text) == becomes


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://h/v1?model=x", "wss://h/v1?model=x"),
        ("wss://user:pass@h:1/x", "wss://…@h:1/x"),
        ("wss://user@h/", "wss://…@h/"),
        ("wss://h/@me", "wss://h/@me"),
        (
            "wss://h/?api-key=k1&api-version=2&subscription-key=k2",
            "wss://h/?api-key=…&api-version=2&subscription-key=…",
        ),
        (
            "wss://h/?api%2Dkey=k1&Access_Token=k2&code=k3&sig=k4",
            "wss://h/?api%2Dkey=…&Access_Token=…&code=…&sig=…",
        ),
        ("wss://h/?key=a=b&x=1", "wss://h/?key=…&x=1"),
        ("wss://h/?key", "wss://h/?key"),
        ("wss://user:pa/ss@h/", "wss://…@h/"),
        ("wss://user:p?ss@h/", "wss://…@h/"),
        ("wss://u:p//w@h/", "wss://…@h/"),
        ("user:pass@h", "…@h"),
        ("wss:/user:pass@h", "…@h"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_urls_are_shown_without_what_is_secret(url, shown):
    assert mask_url(url) == shown
