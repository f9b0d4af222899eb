"""`ivr-ai demo`: a three-turn conversation with one interruption, heard, seen and checked.

story.py      what is said, and when the caller interrupts
hosts.py      the two ways to place the call: embedded, or by SIP through a FreeSWITCH of its own
progress.py   what is printed while it goes on
report.py     what happened, in numbers
plot.py       the picture
command.py    the command line that joins them
"""

from __future__ import annotations

from ivr_ai.demo.command import add_arguments, run

__all__ = ["add_arguments", "run"]
