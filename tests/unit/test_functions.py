"""What the model may call."""

from __future__ import annotations

import json

import pytest

from ivr_ai.conversation.actions import RunFunction
from ivr_ai.functions import Functions


def fails(arguments):
    raise LookupError(f"no order {arguments['order']}")


def leaves(arguments):
    raise SystemExit(1)


FUNCTIONS = Functions(
    "call-1", {"add": lambda numbers: sum(numbers["of"]), "fails": fails, "opaque": object, "leaves": leaves}
)


@pytest.mark.parametrize(
    ("name", "arguments", "output"),
    [
        ("add", '{"of": [1, 2]}', 3),
        ("fails", '{"order": 7}', {"error": "LookupError: no order 7"}),
        ("missing", "{}", {"error": "there is no function 'missing'"}),
    ],
)
def test_the_output_is_json(name, arguments, output):
    assert json.loads(FUNCTIONS.output(RunFunction("id", name, arguments))) == output


@pytest.mark.parametrize("arguments", ["not json", "", "[1]", "1", "null"])
def test_arguments_that_are_not_what_they_should_be(arguments):
    assert "error" in json.loads(FUNCTIONS.output(RunFunction("id", "add", arguments)))


def test_a_function_that_would_end_the_process_ends_nothing():
    assert "error" in json.loads(FUNCTIONS.output(RunFunction("id", "leaves", "{}")))


def test_what_json_cannot_say_is_an_error(caplog):
    assert "error" in json.loads(FUNCTIONS.output(RunFunction("id", "opaque", "{}")))
    assert "call call-1: function opaque failed" in caplog.text
