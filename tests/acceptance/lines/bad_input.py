"""Bad input of every sort gets a clear error, the right exit status, and no traceback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..bad import COMMANDS, REQUESTS, bad_kit, judge, judge_answer
from ..stage import Finding, Line, Said, Stage, check


def run(stage: Stage) -> Iterator[Finding]:
    def shell(*arguments: object) -> Said:
        return stage.taxledger(*arguments, ok=False, timeout_s=120)

    with bad_kit(stage.work / "bad", shell) as kit:
        good: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for command in COMMANDS:
            wrong = judge(command, shell(*command.arguments(kit)))
            total[command.area] += 1
            good[command.area] += not wrong
            if wrong:
                yield check(f"{command.area}: {command.what}", wrong, False)
        for request in REQUESTS:
            wrong = judge_answer(request, *request.send(kit.bank))
            total["API"] += 1
            good["API"] += not wrong
            if wrong:
                yield check(f"API: {request.what}", wrong, False)
        for area, count in total.items():
            yield check(area, f"{good[area]} of {count} with a clear error", good[area] == count)
        logs = [log.read_text("utf-8", "replace") for log in kit.net.glob("*/log/*.log")]
        tracebacks = sum(log.count("Traceback") for log in logs)
        yield check("tracebacks in the nodes' logs", tracebacks, bool(logs) and not tracebacks)


LINE = Line(
    name="bad-input", title="bad input everywhere: a clear error, the right status, no traceback", run=run
)
