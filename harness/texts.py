"""Texts that somebody else may have chosen, made fit to be shown, and texts to be kept, without their secrets.

Beside the contracts, this is the ground that all rooms stand on.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
"""What stands in the place of a secret."""

# Control characters but for line feed and tab, halves of pairs, and what turns the direction of writing around.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udbff]")
# None of these looks at a text from each place to its end: a text of a megabyte would take hours.
_COMMAND = re.compile(r"^([^\S\n]*)(:|#)(?=\2(?:[A-Za-z]|\[))", re.MULTILINE)

_LOGIN = re.compile(r"(?<=://)(?:[^\s/@:'\"]*+:(?:(?!://)[^\s@'\"])*+|[^\s/@'\"]++)@")
_NAME = re.compile(  # one begins behind another character, or behind one that is written as %26 is
    r"(?:(?<![\w.-])(?!(?<=%)[0-9A-Fa-f]{2})|(?<=%[0-9A-Fa-f]{2}))"
    r"(?:(?![A-Za-z])[\w.-])*+([A-Za-z][\w.-]*+)(?:=|%3[Dd])"
)
_VALUE = re.compile(r"(?:(?!%26)[^\s&;,'\"\])}])+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_TOKEN = re.compile(r"\b(?:hf_|gh[opsur]_|github_pat_|glpat-|sk-|xox[abp]-|AKIA|ASIA|eyJ)[\w.-]{12,}")
_SECRET_WORDS = {
    *("token", "secret", "password", "passwd", "pwd", "passphrase", "credential", "credentials", "auth", "sig"),
    *("authorization", "signature", "apikey", "accesskey", "accesskeyid", "secretkey", "privatekey"),
}
_SECRET_KEYS = re.compile(r"(api|access|secret|private|account)_?key(_?id)?$")
_FOLDERS = ("PWD", "OLDPWD")  # the shell's working folder, in whose name pwd is no password
_SHORTEST = 8  # characters of a secret in a variable: a shorter one stands in texts by chance


def shown(text: str) -> str:
    r"""Text for a terminal or a log: what would steer it becomes visible, such as `\x1b` for the escape character.

    No line begins as a command to a CI service does (`::error`, `##[group]`); line feeds and tabs stay.
    """
    visible = _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return _COMMAND.sub(r"\1\2 ", visible)


def redacted(text: str) -> str:
    """Text without secrets: logins in addresses, signatures and keys behind a `=`, tokens of known forms.

    Values of environment variables whose names say that they are secret are hidden too.
    """
    text = _LOGIN.sub(f"{HIDDEN}@", text)
    text = _TOKEN.sub(HIDDEN, _BEARER.sub(rf"\1 {HIDDEN}", _without_secret_values(text)))
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and name not in _FOLDERS and _is_secret(name):
            text = text.replace(value, HIDDEN)
    return text


def redacted_in(content: Any) -> Any:
    """The same JSON with all its texts redacted."""
    if isinstance(content, str):
        return redacted(content)
    if isinstance(content, Mapping):
        return {name: redacted_in(one) for name, one in content.items()}
    return [redacted_in(one) for one in content] if isinstance(content, list | tuple) else content


def _without_secret_values(text: str) -> str:
    """Hides what stands behind the `=` of a secret; a value may hold settings itself, as in `--address=ray://h?sig=1`."""
    kept, end = [], 0
    for found in _NAME.finditer(text):
        if found.start() < end or not _is_secret(found[1]):
            continue
        if value := _VALUE.match(text, found.end()):
            kept += text[end : found.end()], HIDDEN
            end = value.end()
    return "".join([*kept, text[end:]])


def _is_secret(name: str) -> bool:
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().replace("-", "_").replace(".", "_")
    return not _SECRET_WORDS.isdisjoint(words.split("_")) or _SECRET_KEYS.search(words) is not None
