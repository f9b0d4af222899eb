from __future__ import annotations

from ivr_ai.demo.progress import Progress
from ivr_ai.gateways.embedded import HostEvent


def tell(steps) -> list[str]:
    lines: list[str] = []
    progress = Progress(lines.append)
    for step in steps:
        if isinstance(step, str):
            progress.ai_said(step)
        elif len(step) == 2:
            progress.barge_in(*step)
        else:
            progress.host_event(HostEvent(*step))
    return lines


def test_a_conversation_is_printed_as_it_goes():
    assert tell(
        [
            ("answered", 100.0, {}),
            ("caller_hears", 100.2, {}),
            "Good evening.",
            ("caller_speaks", 103.0, {"turn": 1, "text": "A table, please."}),
            ("caller_quiet", 104.0, {"turn": 1}),
            ("caller_hears", 104.35, {}),
            "At what time?",
            ("caller_speaks", 105.0, {"turn": 2, "text": "At seven."}),
            (105.1, 740.4),
            ("caller_quiet", 106.0, {"turn": 2}),
            "Seven it is.",  # the words may come before the sound
            ("caller_hears", 106.3, {}),
            ("hangup", 109.0, {"by": "caller", "cause": "NORMAL_CLEARING"}),
        ]
    ) == [
        "   0.0 s  --      answered",
        "   0.2 s  AI      Good evening.",
        "   3.0 s  caller  A table, please.",
        "   4.3 s  AI      At what time?   [after 350 ms]",
        "   5.0 s  caller  At seven.",
        "   5.1 s  --      interrupted: 740 ms of the reply were heard",
        "   6.3 s  AI      Seven it is.   [after 300 ms]",
        "   9.0 s  --      the caller hung up (NORMAL_CLEARING)",
    ]


def test_what_fails_before_the_answer_is_at_the_beginning():
    lines: list[str] = []
    Progress(lines.append).failure(4000.0, "failure: no such server")
    assert lines == ["   0.0 s  --      failure: no such server"]


def test_a_reply_whose_words_never_come_is_printed_all_the_same():
    assert tell(
        [
            ("answered", 10.0, {}),
            ("caller_hears", 11.0, {}),
            ("caller_gives_up", 15.0, {"waiting_for": "reply_end"}),
            ("hangup", 15.0, {"by": "caller", "cause": "NORMAL_CLEARING"}),
        ]
    ) == [
        "   0.0 s  --      answered",
        "   1.0 s  AI      (speaks)",
        "   5.0 s  --      the caller gave up waiting for reply_end",
        "   5.0 s  --      the caller hung up (NORMAL_CLEARING)",
    ]
