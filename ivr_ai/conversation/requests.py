"""The life of a request for a response, and what is still to be asked for. No I/O, no clock.

    IDLE                        nothing is asked for and nothing is under way
      │ next()        │ created() of a response that the service began by itself
      ▼               │
    ASKED(request)    │         an Ask is out: its answer is a beginning, or a refusal
      │ created()     │ refused(): IDLE again, and what it was for is still wanted
      ▼               ▼
    ACTIVE(response)            a response is under way; done(): IDLE

Wants say what responses are for: the greeting, a reply to the caller, an answer with what functions gave
back. One request is for all wants that are ready, because one response can answer them all. What a failed
response was for is wanted again, at once or at the time that the service has named, until RESPONSE_TRIES,
or for failures that may pass until the time for it is over.

Where the service answers turns by itself, expect() says that it is about to. A response that then does not
begin in time is asked for here.

A response that the caller has spoken over before its beginning was told is *overtaken*: nobody will hear it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count

RESPONSE_TRIES = 2  # of a response that fails for a reason which will not pass by itself
RETRY_MAX_S = 60.0  # for failures that may pass, where IVR_AI_RESPONSE_TIMEOUT_S is off
OVERTAKEN_PATIENCE_S = 1.0  # for the service's own answer, after one that was overtaken was in its way
DONE_KEPT = 64  # ids of responses that are over: what else is told about them is old news


class Why(Enum):
    """What a response is for."""

    GREETING = "greeting"
    REPLY = "reply"
    OUTPUTS = "outputs"


class State(Enum):
    IDLE = "idle"
    ASKED = "asked"
    ACTIVE = "active"


@dataclass(frozen=True)
class Want:
    """Something that a response is to be for. about: the response whose functions have given something
    back."""

    why: Why
    instructions: str = ""
    about: str = ""
    tries: int = 0
    failures: int = 0  # of the tries: those for a reason that will not pass by itself
    not_before_s: float = 0.0
    give_up_s: float = math.inf


@dataclass(frozen=True)
class Trouble:
    """Why a response failed, or was refused.

    passing: later it may go well; limited: because of a rate limit; retry_after_s: when, if that was said.
    """

    code: str
    message: str
    passing: bool = False
    limited: bool = False
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


@dataclass
class Request:
    """An Ask that has not been answered."""

    request_id: str
    wants: list[Want]
    since_s: float
    overtaken: bool = False

    @property
    def instructions(self) -> str:
        """The first of its wants' instructions."""
        return next((want.instructions for want in self.wants if want.instructions), "")


@dataclass
class Response:
    """A response under way, or over. overtaken: nobody is to hear it."""

    response_id: str
    wants: list[Want] = field(default_factory=list)
    request_id: str = ""
    overtaken: bool = False
    guessed: bool = False  # to be the answer to a request: nothing was told of that
    calls: int = 0


@dataclass(frozen=True)
class Done:
    """A response that is over, as the service tells it.

    request_id: as an Ask carried it, "" without one. trouble: why it failed, None when it did not.
    interrupted: the service cancelled it because the caller spoke. fatal: no response will ever succeed.
    """

    response_id: str
    request_id: str = ""
    cancelled: bool = False
    interrupted: bool = False
    trouble: Trouble | None = None
    fatal: bool = False
    tokens: int = 0


class Requests:
    """Those of one conversation. Not thread-safe: the conversation's lock guards it."""

    def __init__(self, response_timeout_s: float) -> None:
        """response_timeout_s: how long to wait for a sign of a response; 0 waits for ever."""
        self._timeout_s = response_timeout_s
        self._numbers = count(1)
        self.wants: list[Want] = []
        self.asked: Request | None = None
        self.active: Response | None = None
        self._done: deque[str] = deque(maxlen=DONE_KEPT)
        self._echoes = False  # the service gives back the id that an Ask carried
        self._expected_since_s: float | None = None
        self._patience_s = math.inf
        self._expected_overtaken = False
        self.doubted: Response | None = (
            None  # cancelled without a beginning: the Ask's answer, as far as is known
        )
        self._sign_s: float | None = None  # the last sign of what is waited for

    @property
    def state(self) -> State:
        if self.active is not None:
            return State.ACTIVE
        return State.IDLE if self.asked is None else State.ASKED

    @property
    def expected(self) -> bool:
        """Whether the service is about to begin a response by itself."""
        return self._expected_since_s is not None

    @property
    def awaits_beginning(self) -> bool:
        """Whether a response that is to be heard is asked for, or expected, and has not begun."""
        asked = self.asked is not None and not self.asked.overtaken
        return self.active is None and (asked or self.expected)

    @property
    def may_be_refused(self) -> bool:
        """Whether a refusal that does not say of what may be about an Ask."""
        return self.asked is not None or (self.active is not None and self.active.guessed)

    def is_over(self, response_id: str) -> bool:
        """Whether a response has been said to be done."""
        return response_id in self._done

    # ---- what is wanted ------------------------------------------------------------------------------------

    def want(self, want: Want) -> None:
        """Adds a want; one of the same kind about the same thing is enough."""
        if not any((each.why, each.about) == (want.why, want.about) for each in self.wants):
            self.wants.append(want)

    def is_wanted(self, why: Why) -> bool:
        """Whether something of a kind is still to be asked for, or has been asked for."""
        asked = self.asked.wants if self.asked else []
        return any(want.why is why for want in (*self.wants, *asked))

    def forget_replies(self) -> None:
        """The caller goes on: their next turn's end asks for a reply to all of it."""
        self.wants = [want for want in self.wants if want.why is not Why.REPLY]

    def next(self, now_s: float) -> Request | None:
        """The next request, for everything that is ready; None when there is nothing to ask, or not now."""
        if not (self.wants or self.expected) or self.state is not State.IDLE:
            return None
        if self.expected:
            if now_s < (self._expected_since_s or 0.0) + self._patience_s:
                return None
            self.want(Want(Why.REPLY))
        ready = [want for want in self.wants if want.not_before_s <= now_s]
        if not ready:
            return None
        self.wants = [want for want in self.wants if want.not_before_s > now_s]
        if not self.expected or self._sign_s is None:
            self._sign_s = now_s  # else it has been waited for since the turn was over
        self._expected_since_s = None
        self.asked = Request(f"ask_{next(self._numbers)}", ready, now_s)
        return self.asked

    def expect(self, now_s: float, patience_s: float = math.inf) -> None:
        """The service answers the caller's turn by itself; after patience_s without it, next() asks."""
        if self._timeout_s > 0:
            patience_s = min(patience_s, self._timeout_s / 2)
        self._expected_since_s, self._patience_s = now_s, patience_s
        self._expected_overtaken = False
        self._sign_s = now_s

    def overtake(self) -> None:
        """The caller has begun to speak: only the greeting is still wanted, and what has not begun is
        overtaken."""
        greetings = [want for want in self.wants if want.why is Why.GREETING]
        self.wants = [replace(want, give_up_s=math.inf) for want in greetings]  # its time begins anew
        if self.expected:
            self._expected_overtaken = True
            self._expected_since_s = None
        if self.asked is not None and not self.asked.overtaken:
            self.asked.overtaken = True
            for want in self.asked.wants:
                if want.why is Why.GREETING:
                    self.want(replace(want, give_up_s=math.inf))
        self._sign_s = None

    # ---- what the service says -----------------------------------------------------------------------------

    def note_echo(self, request_id: str | None) -> None:
        """The service has told an id that an Ask carried, with a response: it does so with all of them."""
        self._echoes = self._echoes or bool(request_id)

    def tell_apart(self, response_id: str, request_id: str, now_s: float) -> None:
        """A response that was taken for the answer to an Ask before anything was told of that may turn out to
        be the service's own. Then the Ask is still out."""
        active = self.active
        if active is None or active.response_id != response_id or not active.guessed:
            return
        active.guessed = False
        if self._echoes and not request_id:
            self.asked = Request(active.request_id, active.wants, now_s, active.overtaken)
            active.wants, active.request_id = [Want(Why.REPLY)], ""

    def supersede(self) -> Response | None:
        """The response under way is over without a word: another one begins. What it was for is the new
        one's."""
        over, self.active = self.active, None
        if over is not None:
            self._done.append(over.response_id)
        return over

    def created(self, response_id: str, request_id: str | None, now_s: float) -> Response | None:
        """A response has begun. request_id: the id that an Ask carried, as it came back; "" without one, None
        where that is not known yet.

        None when it is over already. Whatever was under way before must have been ended: done(), supersede().
        """
        if self.is_over(response_id):
            return None
        response = self._begun(response_id, request_id)
        self.active = response
        if not response.overtaken:
            self._sign_s = now_s
        return response

    def _begun(self, response_id: str, request_id: str | None) -> Response:
        asked = self.asked
        if asked is not None and self._answers_ask(request_id):
            self.asked = None
            return Response(response_id, asked.wants, asked.request_id, asked.overtaken, request_id is None)
        doubted, self.doubted = self.doubted, None
        if (
            doubted is not None and request_id == doubted.request_id
        ):  # this is the answer, and that was another
            answered = {(want.why, want.about) for want in doubted.wants}
            self.wants = [want for want in self.wants if (want.why, want.about) not in answered]
            return Response(response_id, doubted.wants, doubted.request_id)
        # The service's own: the answer to what the caller said.
        wants = [Want(Why.REPLY)] if self.expected else []
        wants += [want for want in self.wants if want.why is Why.REPLY]
        self.forget_replies()
        overtaken, self._expected_overtaken = self._expected_overtaken, False
        self._expected_since_s = None
        return Response(response_id, wants[:1], overtaken=overtaken)

    def _answers_ask(self, request_id: str | None) -> bool:
        """Whether a response may be the answer to the Ask that is out."""
        untold = request_id is None or not (request_id or self._echoes)
        return self.asked is not None and (untold or request_id == self.asked.request_id)

    def refused(self, request_id: str, trouble: Trouble, busy: bool, now_s: float) -> tuple[bool, str]:
        """A request was refused. busy: because another response is under way.

        Returns whether the refusal was about one of ours, and, when it is not to be asked for again, why.
        """
        asked, active = self.asked, self.active
        if asked is not None and request_id in ("", asked.request_id):
            self.asked = None
            self._wait_on(now_s)
            wants = [] if asked.overtaken else asked.wants
            if busy and active is not None:
                self._put_back(wants)
                return True, ""
            if busy:  # until the response in the way is told of, asking at once is only refused again
                trouble = replace(trouble, passing=True, retry_after_s=OVERTAKEN_PATIENCE_S)
            return True, self.failed(wants, trouble, now_s)
        guessed = active is not None and active.guessed and not request_id
        if active is not None and (guessed or (request_id and request_id == active.request_id)):
            # What began was the service's own response, taken for the answer to this request.
            wants, active.wants, active.request_id = active.wants, [Want(Why.REPLY)], ""
            active.guessed = False
            self._expected_since_s = None
            self._put_back(wants)
            return True, ""
        return bool(request_id), ""

    def _put_back(self, wants: list[Want]) -> None:
        """Wanted again after the response under way, which is the reply to the caller's last words."""
        for want in wants:
            if want.why is not Why.REPLY:
                self.want(want)

    def sign(self, response_id: str, now_s: float) -> None:
        """Something of a response has come."""
        if self.active is not None and self.active.response_id == response_id and not self.active.overtaken:
            self._sign_s = now_s

    def done(self, response_id: str, request_id: str, cancelled: bool, now_s: float) -> Response | None:
        """A response is over. Returns it; None for one that was none of what is waited for.

        request_id: as for created(). A response whose beginning was never told counts as the one that is
        waited for; a cancelled one only as the one that was asked for.
        """
        self._done.append(response_id)
        if self.active is not None:
            if self.active.response_id != response_id:
                return None
            over = self.active
        elif not self._answers_ask(request_id) and (cancelled or not (self.asked or self.expected)):
            return None
        else:
            over = self._begun(response_id, request_id)
            self.doubted = over if cancelled and over.request_id and not request_id else None
        self.active = None
        self._wait_on(now_s)
        if over.request_id and self.expected:  # asked for before the turn was over: it is no answer to that
            self._patience_s = min(self._patience_s, OVERTAKEN_PATIENCE_S)
            self._expected_since_s = now_s
            self._sign_s = now_s
        return over

    def failed(self, wants: list[Want], trouble: Trouble, now_s: float) -> str:
        """What a response was for is wanted again. Returns why not, when it was tried often or long
        enough."""
        limit_s = self._timeout_s if self._timeout_s > 0 else RETRY_MAX_S
        for want in wants:
            tries, failures = want.tries + 1, want.failures + (not trouble.passing)
            give_up_s = min(want.give_up_s, now_s + limit_s)
            at_s = now_s + self._delay_s(trouble, tries)
            if at_s > give_up_s or failures >= RESPONSE_TRIES:
                return f"the model could not reply: {trouble}"
            again = replace(want, tries=tries, failures=failures, give_up_s=give_up_s, not_before_s=at_s)
            self.want(again)
        return ""

    @staticmethod
    def _delay_s(trouble: Trouble, tries: int) -> float:
        if trouble.retry_after_s:  # a time that has come already says nothing: the next try may fail as well
            return trouble.retry_after_s
        if not trouble.passing:
            return 0.0
        doublings = tries - 1 if trouble.limited else tries - 2
        return float(2**doublings) if doublings >= 0 else 0.0

    # ---- time, and the connection --------------------------------------------------------------------------

    def is_late(self, now_s: float) -> bool:
        """Whether what is waited for has given no sign for the time-out. Says so once.

        What is in the way of a want is waited for too, even what nobody is to hear: its end may not be told.
        """
        if self._sign_s is None and self.state is not State.IDLE and self._is_due(now_s):
            self._sign_s = now_s
        if self._timeout_s <= 0 or self._sign_s is None or now_s - self._sign_s < self._timeout_s:
            return False
        self._sign_s = None
        return True

    def _is_due(self, now_s: float) -> bool:
        """Whether something is wanted now."""
        return any(want.not_before_s <= now_s for want in self.wants)

    def _wait_on(self, now_s: float) -> None:
        """Something is over: the wait for the rest goes on, or ends where nothing is left to wait for."""
        under_way = [each for each in (self.asked, self.active) if each is not None and not each.overtaken]
        if not under_way and not self.expected:
            self._sign_s = None
        elif self._sign_s is None:
            self._sign_s = now_s

    def lost(self) -> list[Want]:
        """The connection is gone, and with it all that was under way. Returns what that was for."""
        under_way = [each for each in (self.asked, self.active) if each is not None and not each.overtaken]
        wants = [want for each in under_way for want in each.wants]
        if self.expected:
            wants.append(Want(Why.REPLY))
        self.asked = self.active = None
        self._expected_since_s = self._sign_s = None
        self._expected_overtaken = False
        return wants
