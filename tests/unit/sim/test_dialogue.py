"""Scripts: what is said when, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivr_ai.sim.dialogue import Dialogue, DialogueError, FunctionCall, Reply, Script, Spoken

CALL = {"name": "look_up", "arguments": {"n": 1}}


def script(*turns: dict, **more: object) -> Script:
    return Script(Dialogue.load({"turn": list(turns), "fallback": ["f1", "f2"], **more}))


def answer(running: Script) -> str:
    """The caller speaks, the model answers."""
    running.caller_spoke()
    return running.reply(()).say


def test_greeting_then_turns_then_from_the_start() -> None:
    running = script({"on": "greeting", "say": "hello"}, {"say": "a", "heard": "A?"}, {"say": "b"})
    assert running.reply(()).say == "hello"
    assert running.caller_spoke().heard == "A?"
    assert running.reply(()).say == "a"
    assert [answer(running) for _ in range(3)] == ["b", "a", "b"]


def test_without_loop_the_fallback_lines_rotate() -> None:
    running = script({"say": "a"}, loop=False)
    assert [answer(running) for _ in range(4)] == ["a", "f1", "f2", "f1"]


def test_numbered_turns_leave_gaps_to_the_fallback() -> None:
    running = script({"say": "one"}, {"on": 3, "say": "three"}, {"say": "four"}, loop=False)
    assert [answer(running) for _ in range(4)] == ["one", "f1", "three", "four"]


def test_a_second_response_without_a_turn_falls_back() -> None:
    running = script({"on": "greeting", "say": "hello"})
    assert [running.reply(()).say for _ in range(2)] == ["hello", "f1"]


def test_no_greeting_after_the_caller_has_spoken() -> None:
    running = script({"on": "greeting", "say": "hello"}, {"say": "a"})
    assert answer(running) == "a"
    assert running.reply(()).say == "f1"


def test_functions() -> None:
    running = script({"first": "wait", "call": CALL, "say": "it is {output}"})
    running.caller_spoke()
    assert running.reply({"look_up"}) == Reply((Spoken("wait"),), (FunctionCall("look_up", '{"n": 1}'),))
    running.called("call_1")
    running.function_output("call_1", "42")
    assert running.reply({"look_up"}) == Reply((Spoken("it is 42"),))
    running.caller_spoke()
    assert running.reply({"other"}) == Reply((Spoken("it is unknown"),)), "not offered, not called"


def test_several_items_with_their_phases() -> None:
    running = script({"say": [{"text": "wait", "phase": "commentary"}, "so"], "first": "unused"})
    running.caller_spoke()
    reply = running.reply(())
    assert reply.items == (Spoken("wait", "commentary"), Spoken("so"))
    assert reply.say == "wait so"


def test_several_functions_and_what_each_gave() -> None:
    calls = [{"name": "a"}, {"name": "b"}, {"name": "a", "arguments": {"n": 2}}]
    running = script({"call": calls, "say": ["{output}", "{output3} {output1} {output9}"]})
    running.caller_spoke()
    reply = running.reply({"a", "b"})
    assert [call.name for call in reply.calls] == ["a", "b", "a"]
    for number in range(3):
        running.called(f"call_{number}")
    running.function_output("call_2", "{output1}")
    assert running.reply(()).say == "unknown, unknown, {output1} {output1} unknown unknown"
    running.function_output("call_0", "x")
    running.function_output("call_1", "y")
    running.function_output("call_other", "z")
    assert running.reply(()).say == "x, y, {output1} {output1} x unknown"


def test_of_several_functions_only_those_offered_are_called() -> None:
    running = script({"call": [{"name": "a"}, {"name": "b"}], "say": "so"})
    running.caller_spoke()
    assert [call.name for call in running.reply({"b"}).calls] == ["b"]


def test_a_turn_that_cannot_be_transcribed() -> None:
    running = script({"heard_error": "audio_unintelligible", "say": "what?"})
    assert running.caller_spoke().heard_error == "audio_unintelligible"
    assert running.reply(()).say == "what?"


@pytest.mark.parametrize(
    "text", ["5", " 5 ", "The caller pressed 5.", "DTMF: 5", "[dtmf] 5", "Caller keyed in 5 on the keypad"]
)
def test_digits_as_people_write_them(text: str) -> None:
    running = script({"say": "a"}, {"on": "dtmf 5", "say": "five"})
    running.caller_typed(text)
    assert running.reply(()).say == "five"
    assert answer(running) == "a", "not a turn of its own"


def test_unscripted_digits_fall_back_and_other_text_is_a_turn() -> None:
    running = script({"say": "a"})
    running.caller_typed("12#")
    assert running.reply(()).say == "f1"
    running.caller_typed("I am 5 minutes late")
    assert running.reply(()).say == "a"


def test_idle() -> None:
    running = script({"on": "idle", "say": "still there?"})
    running.caller_idle()
    assert running.reply(()).say == "still there?"
    running = script({"say": "a"})
    running.caller_idle()
    assert running.reply(()).say == "f1"


def test_the_built_in_dialogue_talks() -> None:
    dialogue = Dialogue.load()
    assert Dialogue.load(dialogue) is dialogue
    running = Script(dialogue)
    said = [running.reply(()).say] + [answer(running) for _ in range(3)]
    assert all(said)
    assert len(set(said)) == 4
    assert set(said) < set(dialogue.lines())


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[3].glob("conf/dialogues/*.toml")), ids=lambda p: p.name
)
def test_the_dialogues_that_come_with_it(path: Path) -> None:
    dialogue = Dialogue.load(path)
    assert dialogue.name
    assert len(dialogue.turns) >= 2
    assert all(turn.heard for turn in dialogue.turns.values())
    assert not any("{output}" in line or "\n" in line for line in dialogue.lines())


def test_some_dialogues_come_with_it() -> None:
    assert list(Path(__file__).parents[3].glob("conf/dialogues/*.toml"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("turn = 1", r"turn is 1: it must be \[\[turn\]\] tables"),
        ("lop = true", "'lop' is unknown: use name, loop, fallback, turn"),
        ("fallback = []", "at least one line"),
        ("[[turn]]\nheard = 'x'", "turn 1: needs something to `say` or a function to `call`"),
        ("[[turn]]\nsay = 'x'\nsays = 'y'", "turn 1: 'says' is unknown"),
        ("[[turn]]\nsay = 7", "turn 1: say is 7: it must be text, or a list of texts and tables"),
        ("[[turn]]\nsay = []", "turn 1: needs something to `say`"),
        ("[[turn]]\nsay = ['x', '']", "turn 1: say, item 2 has no text"),
        ("[[turn]]\nsay = ['x', 3]", "turn 1: say, item 2: text is 3: it must be text"),
        ("[[turn]]\nsay = [{ texts = 'x' }]", "item 1: 'texts' is unknown: use text, phase"),
        ("[[turn]]\nsay = [{ text = 'x', phase = 'end' }]", "use one of commentary, final_answer"),
        ("[[turn]]\nsay = 'x'\nheard_error = 1", "turn 1: heard_error is 1: it must be text"),
        ("[[turn]]\ncall = 'f'", "turn 1: call is 'f': it must be a table"),
        ("[[turn]]\ncall = [{ name = 'f' }, {}]", "turn 1: call 2.name is None"),
        ("[[turn]]\non = 'dtmf'\nsay = 'x'", "on = 'dtmf' is not a turn number from 1"),
        ("[[turn]]\non = 0\nsay = 'x'", "on = 0 is not"),
        (
            "[[turn]]\non = 'idle'\nsay = 'x'\n[[turn]]\non = 'idle'\nsay = 'y'",
            "turn 2: on = 'idle' is there already",
        ),
        ("[[turn]]\ncall = {}", "turn 1: call.name is None"),
        ("[[turn]]\ncall = { name = 'f', args = {} }", "call: 'args' is unknown: use name, arguments"),
        ("= nonsense", "cannot read the dialogue"),
    ],
)
def test_errors_name_file_place_and_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(DialogueError, match=says) as error:
        Dialogue.load(path)
    assert "bad.toml" in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DialogueError, match=r"cannot read the dialogue .*none\.toml"):
        Dialogue.load(tmp_path / "none.toml")
