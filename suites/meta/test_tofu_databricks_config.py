"""Settings of the reference backend: sources, precedence, and one clear line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tofu_databricks.config import Config, duration
from tofu_databricks.errors import ConfigError

BLOCK = {
    "host": "https://workspace.example",
    "catalog": "terraform_state",
    "schema": "production",
    "volume": "infrastructure",
    "key": "terraform.tfstate",
    "lock_backend": "lakebase",
    "lakebase_project": "locks",
}


def load(environ: dict[str, str] | None = None, **changes: Any) -> Config:
    return Config.load({**BLOCK, **changes}, environ or {})


def test_block_of_the_rfc_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The RFC's example block loads, its token resolved from the environment."""
    config = load({"DATABRICKS_TOKEN": "dapi-secret"}, lock_timeout="10m", token="${env:DATABRICKS_TOKEN}")
    assert config.root == "/Volumes/terraform_state/production/infrastructure"
    assert (config.key, config.lock_timeout, config.token) == ("terraform.tfstate", 600.0, "dapi-secret")


def test_secrets_are_not_shown() -> None:
    """Neither the token nor the client secret is in the representation."""
    shown = repr(load(token="dapi-secret")) + repr(load(client_id="id", client_secret="dose-secret"))
    assert "secret" not in shown.replace("client_secret", "")


def test_keywords_win_over_the_block_and_the_block_over_the_environment() -> None:
    """Precedence is keywords, mapping, environment; a keyword of None is not given."""
    environ = {"TOFU_DATABRICKS_KEY": "from-env", "TOFU_DATABRICKS_PROFILE": "env-profile"}
    config = Config.load({**BLOCK, "key": "from-block"}, environ, volume="from-keyword", host=None)
    assert (config.key, config.volume, config.profile) == ("from-block", "from-keyword", "env-profile")
    assert config.host == BLOCK["host"]


def test_environment_alone_is_enough() -> None:
    """Every setting has a variable, typed as the setting is."""
    environ = {f"TOFU_DATABRICKS_{name.upper()}": value for name, value in BLOCK.items()}
    environ |= {"TOFU_DATABRICKS_CREATE_LOCK_TABLE": "false", "TOFU_DATABRICKS_LAKEBASE_PORT": "6543"}
    environ |= {"TOFU_DATABRICKS_RETRY_DEADLINE": "90s", "TOFU_DATABRICKS_LISTEN": "another program's"}
    config = Config.from_env(environ)
    assert (config.create_lock_table, config.lakebase_port, config.retry_deadline) == (False, 6543, 90.0)
    assert config == Config.from_mapping({**BLOCK, "create_lock_table": False, "lakebase_port": 6543,
                                          "retry_deadline": "90s"})  # fmt: skip


def test_spellings_of_one_volume_are_one_location() -> None:
    """Unity Catalog names are case-insensitive, so that two spellings have one lock; keys are not."""
    config = load(catalog="Terraform_State", volume="INFRASTRUCTURE", key="Prod.tfstate")
    assert (config.root, config.key) == (load().root, "Prod.tfstate")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("workspace.example", "https://workspace.example"),
        ("https://workspace.example/", "https://workspace.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_host_is_normalised(given: str, expected: str) -> None:
    """A scheme is added, a slash at the end dropped."""
    assert load(host=given).host == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lock_timout": "1m"}, r"unknown setting 'lock_timout'; did you mean lock_timeout\?"),
        ({"zzz": 1}, "unknown setting 'zzz'$"),
        ({"catalog": ""}, r"missing setting catalog \(or TOFU_DATABRICKS_CATALOG"),
        ({"catalog": None, "key": None}, "missing settings catalog, key"),
        ({"catalog": 7}, "catalog: must be text, not int"),
        ({"schema": "a.b"}, "schema: 'a.b' is not a Unity Catalog name"),
        ({"key": "/abs"}, "key: '/abs' must be a relative path"),
        ({"key": "a//b"}, "key: 'a//b' must be a relative path"),
        ({"key": "a/../b"}, "key: 'a/../b' must be a relative path"),
        ({"key": "a/"}, "key: 'a/' must be a relative path"),
        ({"key": "a\nb"}, "key: must not hold control characters"),
        ({"key": "k.tofu-workspaces/dev.tfstate"}, r"key: no segment may end in \.tofu-workspaces"),
        ({"key": "k.TOFU-workspaces"}, r"key: no segment may end in \.tofu-workspaces"),
        ({"host": "https://u:p@h/x?y"}, "host: write the workspace's address alone"),
        ({"token": "t", "client_id": "i", "client_secret": "s"}, "token and client_id/client_secret exclude"),
        ({"client_id": "i"}, "client_id and client_secret come together: client_secret is missing"),
        ({"client_secret": "s"}, "client_id and client_secret come together: client_id is missing"),
        ({"token": "a b"}, "token: holds characters"),
        ({"token": "${env:NO_SUCH}"}, "token: the environment variable 'NO_SUCH' .* is not set"),
        ({"lock_backend": "delta", "warehouse_id": "x"}, "warehouse_id: 'x' is not the id"),
        ({"lock_backend": "delta", "lock_table": "a-b"}, "lock_table: 'a-b' must be letters"),
        ({"lock_backend": "dynamo"}, "lock_backend: 'dynamo' is not"),
        ({"lakebase_instance": "i"}, "lakebase_project and lakebase_instance exclude each other"),
        ({"lakebase_project": ""}, "needs lakebase_project"),
        ({"lakebase_sslmode": "on"}, "lakebase_sslmode: 'on' is not disable, allow"),
        ({"lakebase_port": 0}, "lakebase_port: must be a port number, not 0"),
        ({"lakebase_port": True}, "lakebase_port: must be a port number, not True"),
        ({"lock_table": 'a";'}, "lock_table: .* must be letters, digits and underscores"),
        ({"lock_timeout": "10"}, "lock_timeout: '10' is not a duration; write for example \"10s\""),
        ({"lock_timeout": True}, "lock_timeout: must be a duration .* not True"),
        ({"retry_deadline": -1}, "retry_deadline: must be a duration .* not -1"),
        ({"retry_deadline": float("nan")}, "retry_deadline: must be a duration .* not nan"),
        ({"retry_deadline": 10**400}, "retry_deadline: must be a duration"),
        ({"lock_timeout": "2562048h"}, "lock_timeout: '2562048h' is longer than a duration can be"),
        ({"create_lock_table": "maybe"}, "create_lock_table: must be true or false, not 'maybe'"),
        ({"ca_certificate": "/no/such/file"}, "ca_certificate: there is no file /no/such/file"),
        ({"fencing": "lax"}, "fencing: 'lax' is not one of \"checked\", \"strict\""),
        ({"files_api": "1.2"}, "files_api: '1.2' is not one of \"auto\", \"2.0\", \"3.0\""),
        ({"files_api": "3.0"}, 'files_api = "3.0" needs files_host'),
        ({"files_host": "https://h/path"}, "files_host: write the workspace's address alone"),
        ({"fencing": "strict", "lock_table": "a" * 58}, "lock_table: at most 57 characters under strict"),
    ],
)  # fmt: skip
def test_mistake_is_named_in_one_line(changes: dict[str, Any], expected: str) -> None:
    """Each wrong setting is one line that names it."""
    with pytest.raises(ConfigError, match=expected) as refused:
        load(**changes)
    assert "\n" not in str(refused.value)


def test_number_is_a_duration_in_seconds() -> None:
    """TOML's numbers, whole or not, are seconds; text is a Go duration."""
    config = load(retry_deadline=120, lock_timeout=1.5)
    assert (config.retry_deadline, config.lock_timeout) == (120.0, 1.5)
    assert isinstance(config.retry_deadline, float)


def test_default_lock_backend_is_delta() -> None:
    """Leaving out lock_backend is the RFC's default, delta, which needs no further setting."""
    block = {name: value for name, value in BLOCK.items() if name != "lock_backend"}
    config = Config.load(block, {})
    assert (config.lock_backend, config.warehouse_id) == ("delta", "")


def test_locks_are_kept_in_the_states_own_schema_by_default() -> None:
    """Delta locks lie beside the volume; Lakebase, a database of its own, has a schema of ours."""
    assert (
        Config.load({**BLOCK, "lock_backend": "delta", "schema": "my-state"}, environ={}).lock_schema
        == "my-state"
    )
    assert Config.load({**BLOCK, "lock_backend": "lakebase"}, environ={}).lock_schema == "tofu_databricks"


def test_misspelt_variable_is_named() -> None:
    """A variable that is nearly one of ours is an error, not ignored."""
    with pytest.raises(ConfigError, match="TOFU_DATABRICKS_CATALOGUE; did you mean TOFU_DATABRICKS_CATALOG"):
        load({"TOFU_DATABRICKS_CATALOGUE": "x"})


def test_one_way_of_trusting_is_enough(tmp_path: Path) -> None:
    """A CA file alone, or skipped verification alone, is accepted."""
    file = tmp_path / "ca.pem"
    file.write_text("x")
    assert load(ca_certificate=str(file)).ca_certificate == str(file)
    assert load(skip_cert_verification="true").skip_cert_verification


def test_trusting_everything_and_something_contradict(tmp_path: Path) -> None:
    """A CA file together with skipped verification is refused."""
    file = tmp_path / "ca.pem"
    file.write_text("x")
    with pytest.raises(ConfigError, match="exclude each other"):
        load(ca_certificate=str(file), skip_cert_verification=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), (".5h", 1800),
     ("1m1us", 60.000001), ("7ns", 7e-9)],
)  # fmt: skip
def test_go_durations_are_read(text: str, seconds: float) -> None:
    """Durations are Go's."""
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-1s", "1 s", "1s2", "1d", "s1", "1.2.3s", "1S"])
def test_other_durations_are_refused(text: str) -> None:
    """What Go would not read is refused, negative times too."""
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)
