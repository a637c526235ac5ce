import time

import pytest

from miasbench.harness.texts import redacted, redacted_in, shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x1b]52;c;cm0gLXJmIH4=\x07", r"\x1b]52;c;cm0gLXJmIH4=\x07"),
        ("a\rb\x08", r"a\rb\x08"),
        ("\x9b31m", r"\x9b31m"),
        ("left \u202e right", r"left \u202e right"),
        ("::error file=x::said", ": :error file=x::said"),
        ("a\n  ::set-output name=x::y", "a\n  : :set-output name=x::y"),
        ("::STOP-commands::x", ": :STOP-commands::x"),
        ("##[error]said", "# #[error]said"),
    ],
)
def test_what_would_steer_a_terminal_or_a_log_is_seen(text: str, seen: str) -> None:
    assert shown(text) == seen
    assert shown(seen) == seen


@pytest.mark.parametrize(
    "text", ["a\tb\nc", "DICE 0.5 ± 0.1 · Läsion 空 🙂", "::1 is an address", "## title", "x::y", "[red]"]
)
def test_other_text_stays(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://KEY:SE/CRET@bucket/runs", "s3://***@bucket/runs"),
        ("ftp://me@host/x", "ftp://***@host/x"),
        ("ray://me:word@host:10001", "ray://***@host:10001"),
        (
            "https://b.s3.amazonaws.com/x?X-Amz-Credential=A%2Fb&X-Amz-Signature=12ab&download=true",
            "https://b.s3.amazonaws.com/x?X-Amz-Credential=***&X-Amz-Signature=***&download=true",
        ),
        ("https://x.blob.core.windows.net/y?sv=2024&sig=a%2Bb%3D", "https://x.blob.core.windows.net/y?sv=2024&sig=***"),
        ("bench run --address https://h?token=abc --size 64", "bench run --address https://h?token=*** --size 64"),
        ("AWS_SECRET_ACCESS_KEY=abc bench", "AWS_SECRET_ACCESS_KEY=*** bench"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("the token hf_abcdefghijklmnopqr is wrong", "the token *** is wrong"),
        ("accountKey=abc", "accountKey=***"),
        ("--address=ray://h?token=abc --size=64", "--address=ray://h?token=*** --size=64"),
        ("https://h/x?url=a%2Ctoken%3Dabc%26size%3D64", "https://h/x?url=a%2Ctoken%3D***%26size%3D64"),
    ],
)
def test_secrets_are_not_kept(text: str, kept: str) -> None:
    assert redacted(text) == kept == redacted(kept)


@pytest.mark.parametrize(
    "text",
    [
        "bench run --methods 'mias_sam[sigma=4,keep=2]' --dataset phantom:train=2,size=64 --policy=valid_dice",
        "s3://bucket/a@b",
        "https://github.com/user/project@v1.2",
        "max_tokens=300 design=3 monkey=1",
        "Unexpected token: line 3",
        "me@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "part",
    ["\n", " ", "a", "a.", "1", "_", "://", "://a:", "://a", "token=", "a=", "%41", "%3D", "hf_", "bearer ", "::"],
)
def test_long_texts_take_no_longer_for_each_character(part: str) -> None:
    begin = time.process_time()
    for text in (part * 100_000, f"x{part * 100_000}!"):
        shown(redacted(text))
    assert time.process_time() - begin < 5


def test_values_of_secret_variables_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "correct horse")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("MIASBENCH_RESULTS", "bench-results")
    monkeypatch.setenv("PWD", "/data/my study")
    assert redacted("There is nothing at /data/my study/theirs.") == "There is nothing at /data/my study/theirs."
    content = {"a": ["said correct horse", 3, None], "b": ("a token in bench-results",)}
    assert redacted_in(content) == {"a": ["said ***", 3, None], "b": ["a token in bench-results"]}
