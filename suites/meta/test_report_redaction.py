"""Secrets are taken out of text, options and command lines, and nothing else is."""

from __future__ import annotations

import pytest

from lockproof.report.redact import Redactor
from lockproof.suites.meta.runs import run_here

pytest_plugins = ["pytester"]


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
        ("host=h password='SEKRIT SPACED' dbname=d", "host=h password='***' dbname=d"),
        (r"password='it\'s SPACED' user=u", "password='***' user=u"),
        (r'"dsn \"password=\"SEKRIT SPACED\" ends"', r'"dsn \"password=\"***\" ends"'),
        ("password='SEKRIT never ended", "password=*** never ended"),
        ("db_pass=hunter2 pwd='a b' sas=x", "db_pass=*** pwd='***' sas=***"),
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
        "path=/a/b passed=12 pass: 3 author=alice pattern=x",
        "password",
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


@pytest.mark.parametrize(
    "name",
    [
        "pass",
        "db_pass",
        "pwd",
        "auth",
        "x.auth",
        "oauth",
        "pat",
        "my-pat",
        "sas",
        "bearer",
        "cookie",
        "creds",
    ],
)
def test_option_that_sounds_secret_is_hidden_everywhere(name: str) -> None:
    """Short names of secrets count as well: their values are neither shown nor kept in any text."""
    redactor = Redactor()
    redactor.learn({name: "OPTPASS123"})
    assert redactor.options({name: "OPTPASS123"}) == {name: "***"}
    assert redactor.arguments(["--backend-opt", f"{name}=OPTPASS123"]) == ["--backend-opt", f"{name}=***"]
    assert redactor.text("refused OPTPASS123") == "refused ***"


@pytest.mark.parametrize("name", ["path", "passed", "bypassed", "author", "auth_type", "pattern", "disaster"])
def test_option_that_only_looks_like_a_secret_is_shown(name: str) -> None:
    """A name that merely holds the letters of a secret's is none."""
    redactor = Redactor()
    redactor.learn({name: "ordinary"})
    assert redactor.options({name: "ordinary"}) == {name: "ordinary"}
    assert redactor.text("ordinary") == "ordinary"


def test_password_within_a_connection_string_is_learnt() -> None:
    """What a connection string calls a password is hidden also where it stands alone."""
    redactor = Redactor()
    redactor.learn({"database": "host=h password='SEKRIT SPACED' dbname=d"})
    assert redactor.text("refused SEKRIT SPACED") == "refused ***"


LEAKY = """
from lockproof.driver import DriverError
from lockproof.driver.memory import MemoryClient, MemoryDriver, MemoryScope

class Client(MemoryClient):
    def get(self, workspace):
        raise DriverError("unavailable", True, "cannot reach password='IN TEXT' host=db")

    def delete(self, workspace):
        raise OSError("cannot log in with OPTPASS123 at postgresql://u:URLSECRET@h/d")

class Scope(MemoryScope):
    def client(self, who):
        return Client(self.store, who)

class make(MemoryDriver):
    def __init__(self, options):
        super().__init__({})

    def open_scope(self, name, links=None, *, attach=False):
        return Scope()
"""
LEAKING = """
import pytest

@pytest.mark.parametrize("method", ["get", "delete"])
def test_leak(alice, method):
    alice.note("bearer: OPTPASS123")
    getattr(alice, method)("default")
"""


def test_nothing_in_the_run_folder_holds_a_secret(pytester: pytest.Pytester) -> None:
    """A driver that puts its credentials into errors leaks them into no file, the histories among them,
    and to no terminal."""
    pytester.makepyfile(leaky=LEAKY, test_leak=LEAKING)
    pytester.syspathinsert()
    run = run_here(pytester, "--backend-opt=pass=OPTPASS123", "test_leak.py", backend="py:leaky:make")
    assert run.statuses().keys() == {"test_leak[get]", "test_leak[delete]"}
    written = {path: path.read_text(encoding="utf-8") for path in run.folder.rglob("*") if path.is_file()}
    assert sum(path.suffix == ".jsonl" and "cannot" in text for path, text in written.items()) >= 2
    for secret in ("OPTPASS123", "URLSECRET", "IN TEXT"):
        assert [path.name for path, text in written.items() if secret in text] == []
        assert secret not in run.output.replace(f"pass={secret}", "")


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
