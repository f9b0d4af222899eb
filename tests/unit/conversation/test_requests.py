"""The life of a request: IDLE, ASKED, ACTIVE and the ways between; wants, retries, refusals, patience."""

from __future__ import annotations

import pytest

from ivr_ai.conversation.requests import (
    DONE_KEPT,
    OVERTAKEN_PATIENCE_S,
    RETRY_MAX_S,
    Request,
    Requests,
    State,
    Trouble,
    Want,
    Why,
)

GREETING, REPLY, OUTPUTS = Why.GREETING, Why.REPLY, Why.OUTPUTS
IDLE, ASKED, ACTIVE = State
LASTING = Trouble("invalid_value", "It is wrong.")
PASSING = Trouble("server_error", "It broke.", passing=True)
LIMITED = Trouble("rate_limit_exceeded", "Too fast.", passing=True, limited=True)
BUSY = Trouble("conversation_already_has_active_response", "One is under way.")
TIMEOUT_S = 20.0


@pytest.fixture
def requests() -> Requests:
    return Requests(TIMEOUT_S)


def ask(requests: Requests, *wants: Want, now_s: float = 0.0) -> Request:
    """Asks for what is wanted: a reply, unless told."""
    for want in wants or (Want(REPLY),):
        requests.want(want)
    request = requests.next(now_s)
    assert request is not None
    return request


def whys(wants: list[Want]) -> list[Why]:
    return [want.why for want in wants]


class TestTheTable:
    """Each state, and each thing that may happen in it."""

    def reach(self, requests: Requests, state: State) -> None:
        if state is not IDLE:
            ask(requests)
        if state is ACTIVE:
            requests.created("r1", "ask_1", 0.0)
        assert requests.state is state

    @pytest.mark.parametrize(
        ("before", "what", "after"),
        [
            (IDLE, "want and next", ASKED),
            (IDLE, "created", ACTIVE),
            (IDLE, "done", IDLE),
            (IDLE, "refused", IDLE),
            (IDLE, "overtake", IDLE),
            (IDLE, "lost", IDLE),
            (ASKED, "want and next", ASKED),
            (ASKED, "created", ACTIVE),
            (ASKED, "done", IDLE),
            (ASKED, "refused", IDLE),
            (ASKED, "overtake", ASKED),
            (ASKED, "lost", IDLE),
            (ACTIVE, "want and next", ACTIVE),
            (ACTIVE, "done", IDLE),
            (ACTIVE, "refused", ACTIVE),
            (ACTIVE, "overtake", ACTIVE),
            (ACTIVE, "supersede", IDLE),
            (ACTIVE, "lost", IDLE),
        ],
    )
    def test_every_transition(self, requests, before, what, after):
        self.reach(requests, before)
        {
            "want and next": lambda: (requests.want(Want(GREETING)), requests.next(1.0)),
            "created": lambda: requests.created("r1", "", 1.0),
            "done": lambda: requests.done("r1", "", False, 1.0),
            "refused": lambda: requests.refused("ask_1", LASTING, False, 1.0),
            "overtake": requests.overtake,
            "supersede": requests.supersede,
            "lost": requests.lost,
        }[what]()
        assert requests.state is after

    @pytest.mark.parametrize("state", State, ids=lambda state: state.value)
    def test_the_end_of_somebody_elses_response_ends_nothing_where_one_is_under_way(self, requests, state):
        self.reach(requests, state)
        over = requests.done("other", "", True, 1.0)
        if (
            state is ASKED
        ):  # a service that does not give back what an Ask carried: the one that was asked for
            assert over is not None
        else:
            assert over is None
            assert requests.state is state

    def test_ids_of_requests_are_never_used_again(self, requests):
        ids = []
        for _ in range(3):
            ids.append(ask(requests).request_id)
            requests.lost()
        assert ids == ["ask_1", "ask_2", "ask_3"]


class TestWants:
    def test_one_request_is_for_all_that_is_ready_with_the_first_instructions(self, requests):
        outputs = Want(OUTPUTS, about="r7")
        request = ask(requests, Want(REPLY), outputs, Want(GREETING, "Hello."), Want(GREETING, "No."))
        assert request.wants == [Want(REPLY), outputs, Want(GREETING, "Hello.")]
        assert request.instructions == "Hello."
        assert requests.wants == []

    def test_the_same_twice_is_once_but_outputs_of_two_responses_are_two(self, requests):
        for about in ("r1", "r1", "r2"):
            requests.want(Want(OUTPUTS, about=about))
        assert [want.about for want in requests.wants] == ["r1", "r2"]

    def test_what_is_due_later_stays(self, requests):
        later = Want(GREETING, not_before_s=5.0)
        assert ask(requests, Want(REPLY), later).wants == [Want(REPLY)]
        assert requests.wants == [later]
        requests.lost()
        assert requests.next(4.9) is None
        assert requests.next(5.0).wants == [later]

    def test_nothing_wanted_is_nothing_asked(self, requests):
        assert requests.next(0.0) is None

    def test_is_wanted_knows_what_is_asked_for_too(self, requests):
        assert not requests.is_wanted(GREETING)
        requests.want(Want(GREETING))
        assert requests.is_wanted(GREETING)
        requests.next(0.0)
        assert requests.is_wanted(GREETING)
        requests.created("r1", "", 0.0)
        assert not requests.is_wanted(GREETING)


class TestWhoseResponse:
    def test_an_echo_says_whose_it_is(self, requests):
        ask(requests, Want(GREETING))
        response = requests.created("r1", "ask_1", 0.0)
        assert (response.wants, response.request_id) == ([Want(GREETING)], "ask_1")

    def test_without_an_echo_it_is_the_one_that_was_asked_for(self, requests):
        ask(requests, Want(GREETING))
        assert requests.created("r1", "", 0.0).wants == [Want(GREETING)]

    def test_where_others_were_echoed_one_without_is_the_services_own(self, requests):
        requests.note_echo("ask_0")
        ask(requests, Want(GREETING))
        own = requests.created("own", "", 0.0)
        assert (own.wants, own.request_id) == ([], "")
        assert requests.asked is not None

    def test_an_echo_of_another_request_is_not_this_ones_answer(self, requests):
        ask(requests, Want(GREETING))
        assert requests.created("r0", "ask_0", 0.0).wants == []
        assert requests.asked is not None

    def test_the_services_own_is_the_reply_that_is_expected_or_wanted(self, requests):
        requests.expect(0.0)
        assert requests.created("own", "", 0.0).wants == [Want(REPLY)]
        assert not requests.expected
        requests.done("own", "", False, 0.0)
        requests.want(Want(REPLY))
        requests.want(Want(GREETING))
        assert requests.created("own2", "", 0.0).wants == [Want(REPLY)]
        assert requests.wants == [Want(GREETING)]

    def test_one_that_is_over_does_not_begin(self, requests):
        requests.done("r1", "", False, 0.0)
        assert requests.is_over("r1")
        assert requests.created("r1", "", 0.0) is None
        assert requests.state is IDLE

    def test_a_beginning_that_was_never_told_counts_with_its_end(self, requests):
        ask(requests, Want(GREETING))
        assert requests.done("r1", "", False, 0.0).wants == [Want(GREETING)]
        requests.expect(0.0)
        assert requests.done("own", "", False, 0.0).wants == [Want(REPLY)]

    def test_a_ghost_is_nobodys(self, requests):
        assert requests.done("ghost", "", False, 0.0) is None
        requests.expect(0.0)
        assert requests.done("ghost2", "", True, 0.0) is None  # cancelled, and never begun
        assert requests.expected

    def test_one_that_is_superseded_is_over(self, requests):
        ask(requests)
        requests.created("r1", "", 0.0)
        assert requests.supersede().response_id == "r1"
        assert requests.is_over("r1")
        assert requests.supersede() is None

    def test_only_so_many_are_remembered_as_over(self, requests):
        for n in range(DONE_KEPT + 1):
            requests.done(f"r{n}", "", False, 0.0)
        assert not requests.is_over("r0")
        assert requests.is_over("r1")

    def test_one_met_before_it_was_told_may_be_told_apart(self, requests):
        requests.note_echo("ask_0")
        ask(requests, Want(GREETING))
        assert requests.created("own", None, 0.0).wants == [Want(GREETING)]
        assert requests.asked is None
        requests.tell_apart("own", "", 1.0)
        assert requests.active.wants == [Want(REPLY)]
        assert (requests.asked.request_id, requests.asked.wants) == ("ask_1", [Want(GREETING)])

    @pytest.mark.parametrize("echo", ["ask_0", ""])
    def test_or_confirmed_or_left_a_guess(self, requests, echo):
        requests.note_echo(echo)
        ask(requests, Want(GREETING))
        requests.created("r1", None, 0.0)
        requests.tell_apart("r2", "", 1.0)
        requests.tell_apart("r1", "ask_1" if echo else "", 1.0)
        requests.tell_apart("r1", "", 1.0)  # its end need not say it again
        assert requests.active.wants == [Want(GREETING)]
        assert requests.asked is None


class TestRefusals:
    def test_by_id(self, requests):
        ask(requests)
        assert requests.refused("ask_1", LASTING, False, 0.0) == (True, "")
        assert whys(requests.wants) == [REPLY]

    def test_without_an_id_it_is_of_what_is_asked_for(self, requests):
        assert requests.refused("", PASSING, False, 0.0) == (False, "")
        ask(requests)
        assert requests.refused("", PASSING, False, 0.0) == (True, "")

    def test_of_an_older_one_changes_nothing(self, requests):
        ask(requests)
        requests.lost()
        ask(requests)
        requests.refused("ask_1", LASTING, False, 0.0)
        assert requests.asked.request_id == "ask_2"
        assert requests.wants == []

    def test_busy_with_the_response_that_is_under_way_wants_it_after_that(self, requests):
        requests.note_echo("ask_0")
        ask(requests, Want(REPLY), Want(GREETING))
        requests.created("own", "", 0.0)
        requests.refused("ask_1", BUSY, True, 0.0)
        assert requests.wants == [Want(GREETING)]  # the service's own is the reply
        assert requests.state is ACTIVE

    def test_busy_with_what_was_taken_for_its_answer(self, requests):
        ask(requests, Want(REPLY), Want(OUTPUTS, about="r0"))
        requests.created("own", "", 0.0)
        assert requests.refused("ask_1", BUSY, True, 0.0) == (True, "")
        assert requests.active.wants == [Want(REPLY)]
        assert requests.wants == [Want(OUTPUTS, about="r0")]

    def test_busy_with_what_nobody_has_told_of_is_tried_again_in_a_second(self, requests):
        ask(requests)
        assert requests.refused("ask_1", BUSY, True, 10.0) == (True, "")
        assert requests.next(10.0 + OVERTAKEN_PATIENCE_S - 0.01) is None
        assert requests.next(10.0 + OVERTAKEN_PATIENCE_S) is not None

    def test_of_an_overtaken_one_wants_nothing(self, requests):
        ask(requests)
        requests.overtake()
        assert requests.refused("ask_1", LASTING, False, 0.0) == (True, "")
        assert requests.wants == []


class TestRetries:
    @pytest.mark.parametrize(
        ("trouble", "times_s"),
        [
            (LASTING, [0.0]),
            (PASSING, [0.0, 1.0, 3.0, 7.0, 15.0]),
            (LIMITED, [1.0, 3.0, 7.0, 15.0]),
            (Trouble("x", "", True, True, 6.5), [6.5, 13.0, 19.5]),
            (Trouble("x", "", True, False, 0.25), [0.25 * n for n in range(1, 81)]),
            (Trouble("x", "", True, True, 0.0), [1.0, 3.0, 7.0, 15.0]),
            (Trouble("x", "", True, True, 20.0), [20.0]),
            (Trouble("x", "", True, True, 20.1), []),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_times_told_and_untold_within_the_limit(self, requests, trouble, times_s):
        now_s, asked_s = 0.0, []
        wants = [Want(REPLY)]
        while not requests.failed(wants, trouble, now_s):
            now_s = requests.wants[0].not_before_s
            asked_s.append(now_s)
            wants = requests.next(now_s).wants
            requests.lost()
        assert asked_s == pytest.approx(times_s)

    def test_why_not(self, requests):
        requests.failed([Want(REPLY, failures=1)], LASTING, 0.0)
        assert requests.wants == []
        reason = requests.failed([Want(REPLY, failures=1)], LASTING, 0.0)
        assert reason == "the model could not reply: invalid_value: It is wrong."

    def test_a_trouble_without_words_is_its_code(self):
        assert str(Trouble("no_audio", "")) == "no_audio"

    def test_without_a_response_timeout_there_is_a_minute(self):
        requests = Requests(0)
        assert requests.failed([Want(REPLY)], Trouble("x", "", True, True, RETRY_MAX_S), 0.0) == ""
        assert requests.failed([Want(OUTPUTS)], Trouble("x", "", True, True, RETRY_MAX_S + 1), 0.0) != ""

    def test_the_limit_counts_from_the_first_failure(self, requests):
        requests.failed([Want(REPLY)], PASSING, 5.0)
        (want,) = requests.wants
        assert (want.tries, want.give_up_s) == (1, 25.0)
        assert requests.failed([want], Trouble("x", "", True, False, 6.0), 20.0) != ""

    def test_nothing_wanted_fails_for_nobody(self, requests):
        assert requests.failed([], LASTING, 0.0) == ""


class TestPatience:
    def test_half_of_the_time_is_for_the_service_to_begin_by_itself(self, requests):
        requests.expect(100.0)
        assert requests.next(109.9) is None
        assert whys(requests.next(110.0).wants) == [REPLY]
        assert not requests.is_late(119.9)  # since the turn was over
        assert requests.is_late(120.0)

    def test_less_where_told(self, requests):
        requests.expect(100.0, OVERTAKEN_PATIENCE_S)
        assert requests.next(100.9) is None
        assert requests.next(101.0) is not None

    def test_for_ever_without_a_timeout(self):
        requests = Requests(0)
        requests.expect(0.0)
        assert requests.next(1e9) is None
        assert not requests.is_late(1e9)

    def test_what_else_is_wanted_waits_for_that_and_is_asked_for_with_it(self, requests):
        requests.expect(0.0)
        requests.want(Want(OUTPUTS))
        assert requests.next(9.9) is None
        assert whys(requests.next(10.0).wants) == [OUTPUTS, REPLY]

    def test_after_the_answer_to_an_earlier_request_it_is_a_second(self, requests):
        ask(requests)
        requests.expect(0.0)
        requests.created("r1", "ask_1", 1.0)
        assert requests.expected
        requests.done("r1", "ask_1", False, 5.0)
        assert requests.next(5.9) is None
        assert requests.next(6.0) is not None

    @pytest.mark.parametrize("state", ["asked", "expected", "active"])
    def test_late_is_said_once(self, requests, state):
        if state == "expected":
            requests.expect(0.0)
        else:
            ask(requests)
        if state == "active":
            requests.created("r1", "", 0.0)
        assert not requests.is_late(TIMEOUT_S - 0.1)
        assert requests.is_late(TIMEOUT_S)
        assert not requests.is_late(TIMEOUT_S)

    def test_every_sign_counts_unless_it_is_of_another(self, requests):
        ask(requests)
        requests.created("r1", "", 0.0)
        requests.sign("r1", 15.0)
        requests.sign("r2", 30.0)
        assert not requests.is_late(34.9)
        assert requests.is_late(35.0)

    def test_nobody_waits_for_nothing(self, requests):
        assert not requests.is_late(1e9)


class TestOvertaken:
    def test_only_the_greeting_is_still_wanted(self, requests):
        for why in (REPLY, GREETING, OUTPUTS):
            requests.want(Want(why))
        requests.overtake()
        assert requests.wants == [Want(GREETING)]

    def test_what_was_asked_for_is_nobodys_but_the_greeting_is_wanted_again_once(self, requests):
        ask(requests, Want(REPLY), Want(GREETING, "Hello."))
        requests.overtake()
        requests.overtake()
        assert requests.wants == [Want(GREETING, "Hello.")]
        assert not requests.awaits_beginning
        assert requests.created("r1", "ask_1", 0.0).overtaken
        assert not requests.is_late(10.0)

    def test_so_is_what_the_service_was_about_to_begin_unless_they_have_spoken_on(self, requests):
        requests.expect(0.0)
        requests.overtake()
        assert requests.created("own", "", 0.0).overtaken
        requests.done("own", "", True, 0.0)
        requests.expect(1.0)
        assert not requests.created("own2", "", 1.0).overtaken

    def test_its_end_leaves_a_second_for_the_reply_to_the_new_turn(self, requests):
        ask(requests)
        requests.overtake()
        requests.expect(0.0)
        requests.created("r1", "ask_1", 0.0)
        assert requests.done("r1", "ask_1", True, 3.0).overtaken
        assert requests.next(3.9) is None
        assert requests.next(4.0) is not None


class TestLost:
    def test_what_was_asked_for_or_under_way_is_given_back(self, requests):
        ask(requests, Want(GREETING, "Hello."))
        assert requests.lost() == [Want(GREETING, "Hello.")]
        ask(requests)
        requests.created("r1", "", 0.0)
        assert requests.lost() == [Want(REPLY)]
        assert requests.state is IDLE
        assert requests.lost() == []

    def test_a_reply_that_was_expected_is_owed(self, requests):
        requests.expect(0.0)
        assert requests.lost() == [Want(REPLY)]
        assert not requests.expected

    def test_what_was_overtaken_is_not_but_the_reply_to_the_new_turn_is(self, requests):
        ask(requests, Want(OUTPUTS))
        requests.overtake()
        assert requests.lost() == []
        ask(requests, Want(OUTPUTS))
        requests.overtake()
        requests.expect(0.0)
        assert requests.lost() == [Want(REPLY)]

    def test_nothing_is_late_any_more_and_what_waits_keeps_its_time(self, requests):
        requests.want(Want(GREETING, not_before_s=50.0))
        ask(requests)
        requests.lost()
        assert not requests.is_late(1e9)
        assert requests.wants == [Want(GREETING, not_before_s=50.0)]
