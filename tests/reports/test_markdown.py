import re

import pytest

from miasbench.reports.markdown import escape_markdown


@pytest.mark.parametrize(
    "text",
    ["@everyone", "by (@someone)", "@org/team", "https://evil.example/x", "HTTP://evil.example", "www.evil.example"],
)
def test_no_name_mentions_somebody_or_links(text: str) -> None:
    told = escape_markdown(text)
    assert not re.search(r"(?<!\w)@\w", told)
    assert "://" not in told
    assert "www.e" not in told
    assert re.sub("[\\\\\u2060]", "", told) == text, "it reads as before"


@pytest.mark.parametrize("text", ["[a](b)", "![a](b)", "<img src=x onerror=y>", "`a`", "a|b", "# a", "~~a~~", "__a__"])
def test_no_name_is_markup(text: str) -> None:
    told = escape_markdown(text)
    assert not re.search(r"(?<!\\)[\[\]<>`|#~_*!](?<!!)", told)
    assert re.sub("[\\\\\u2060]", "", told) == text


def test_addresses_of_mail_and_names_with_an_at_stay_as_they_are() -> None:
    assert escape_markdown("resnet@64 and a@b") == "resnet@64 and a@b"


def test_a_name_is_one_line_without_what_steers() -> None:
    assert escape_markdown("a\x1b[2J\n::error::b") == "a\ufffd\\[2J ::error::b"
