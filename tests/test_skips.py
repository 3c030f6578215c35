"""The rule of tests/conftest.py: a skip nobody listed fails the run where CI=true, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="the moon is down")
def test_skips():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text("utf-8"))
    pytester.makepyfile(test_it=TESTS)
    pytester.maketxtfile(skips="# nothing\n")
    return pytester


@pytest.mark.parametrize(
    ("ci", "listed", "status"),
    [
        ("", "", 0),
        ("true", "", 1),
        ("true", "test_it.py::test_skips | the moon", 0),
        ("true", "* | moon is down", 0),
        ("true", "* | another reason", 1),
        ("true", "test_it.py::test_other | the moon", 1),
    ],
)
def test_unlisted_skip(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, listed: str, status: int
) -> None:
    monkeypatch.setenv("CI", ci)
    suite.maketxtfile(skips=f"# listed\n{listed}\n")
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == status
    assert ("not listed" in result.stdout.str()) is bool(status)


@pytest.mark.parametrize("status", [0, 1])
def test_unlisted_skip_in_a_worker(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """``make test`` runs files in two processes: the rule holds for what they skip, a whole file among it."""
    monkeypatch.setenv("CI", "true")
    suite.makepyfile(
        test_other='import pytest\npytest.skip("there is no sun", allow_module_level=True)\n', test_more=TESTS
    )
    sun = "" if status else "test_other.py | no sun\n"
    suite.maketxtfile(skips=f"* | moon is down\n{sun}")
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile")
    result.assert_outcomes(passed=2, skipped=3)
    assert result.ret == status
    assert ("not listed" in result.stdout.str()) is bool(status)


def test_line_without_reason_is_refused(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    suite.maketxtfile(skips="test_it.py::test_skips\n")
    assert suite.runpytest_subprocess().ret != 0
