"""A table of bad input for every place that takes any: what is done, and what has to be said.

``COMMANDS`` are command lines, ``REQUESTS`` go to the API. Used by the acceptance line (new processes) and by
``test_bad_input.py`` (in one process).
"""

from __future__ import annotations

from . import commands, files
from .kit import Command, Kit, bad_kit, judge
from .requests import REQUESTS, Request, judge_answer

__all__ = ["COMMANDS", "REQUESTS", "Command", "Kit", "Request", "bad_kit", "judge", "judge_answer"]

COMMANDS: tuple[Command, ...] = (*commands.COMMANDS, *files.FILES)
