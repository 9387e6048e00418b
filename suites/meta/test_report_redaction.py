"""Secrets are taken out of text, options and command lines, and nothing else is."""

from __future__ import annotations

import pytest

from lockproof.report.redact import Redactor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:pw@db:5432/x", "postgresql://***@db:5432/x"),
        (
            "GET https://store.example/f?X-Amz-Signature=abc&b=1 failed",
            "GET https://store.example/f?*** failed",
        ),
        ("Authorization: Bearer eyJhbGciOi.x-y_z", "Authorization: Bearer ***"),
        ("token dapi0123456789abcdef0123456789abcdef used", "token *** used"),
        ("host=h password=hunter2 dbname=d", "host=h password=*** dbname=d"),
        ('{"access_token": "abc"}', '{"access_token": "***"}'),
        ("client_secret=xyz, next", "client_secret=***, next"),
    ],
)
def test_credential_is_taken_out_of_text(text: str, expected: str) -> None:
    """What looks like a credential is hidden wherever it stands."""
    assert Redactor().text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "no backend driver named 'x'",
        "https://github.com/opentofu/opentofu/blob/abc/x.go#L1-L2",
        "id=4d3f2f5e-0000-4000-8000-000000000000 holder alice",
        "FILES_API_FILE_NOT_FOUND: /Volumes/main/default/tofu/terraform.tfstate",
        "is this a question? yes",
    ],
)
def test_plain_text_is_left_alone(text: str) -> None:
    """Nothing is hidden that a reader needs."""
    assert Redactor().text(text) == text


def test_learnt_values_are_hidden_everywhere() -> None:
    """The value of a secret option is hidden even where nothing marks it as one."""
    redactor = Redactor()
    redactor.learn(
        {"token": "correct-horse", "catalog": "main", "url": "http://u:battery1@h/?api_key=staple22"}
    )
    assert redactor.text("correct-horse battery1 staple22 main") == "*** *** *** main"


def test_options_are_shown_without_secrets() -> None:
    """Options whose names sound secret lose their values, others only what looks secret."""
    shown = Redactor().options({"client_secret": "x", "host": "https://u:p@h", "catalog": "main"})
    assert shown == {"client_secret": "***", "host": "https://***@h", "catalog": "main"}


def test_command_line_is_shown_without_secrets() -> None:
    """Both ways to write an option are covered."""
    given = [
        *("--backend-opt", "token=abc", "--backend-opt=host=h", "--backend-opt=x.password=abc"),
        *(
            "--backend-postgres",
            "postgresql://u:p@h/d",
            "--backend-postgres=host=h password=p",
            "-k",
            "token",
        ),
        "--backend=http://u:p@h/state",
    ]
    assert Redactor().arguments(given) == [
        *("--backend-opt", "token=***", "--backend-opt=host=h", "--backend-opt=x.password=***"),
        *("--backend-postgres", "***", "--backend-postgres=***", "-k", "token"),
        "--backend=http://***@h/state",
    ]
