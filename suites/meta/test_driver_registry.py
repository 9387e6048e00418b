"""`--backend=SPEC` finds drivers, variants and connectables, and says what is wrong in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockproof.driver import Capabilities
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.registry import SpecError, resolve


def test_name_finds_an_installed_driver() -> None:
    """`memory` resolves to the entry point of that name."""
    (spec,) = resolve("memory")
    assert spec.id == "memory"
    assert spec.factory() is MemoryDriver


def test_name_of_a_driver_with_variants_stands_for_all_of_them() -> None:
    """`databricks` gives one backend per lock variant, each told its own."""
    specs = resolve("databricks", {"a": "b"})
    assert [spec.id for spec in specs] == [f"databricks:{spec.options['variant']}" for spec in specs]
    assert "databricks:lakebase" in [spec.id for spec in specs]
    assert all(spec.options["a"] == "b" for spec in specs)
    assert [spec.id for spec in resolve("databricks:lakebase")] == ["databricks:lakebase"]


def test_variant_that_is_no_default_runs_when_named() -> None:
    """`databricks` leaves direct locks out; by their own name they run."""
    assert [spec.id for spec in resolve("databricks")] == ["databricks:lakebase", "databricks:delta"]
    (spec,) = resolve("databricks:delta-direct", {"lock_storage": "s3"})
    assert spec.options == {"lock_storage": "s3", "variant": "delta-direct"}


def test_py_connectable_imports_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`py:module:factory` finds a module that lies in the working directory."""
    (tmp_path / "somebodys_driver.py").write_text(
        "from lockproof.driver.memory import MemoryDriver as make\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    (spec,) = resolve("py:somebodys_driver:make", {"x": "1"})
    assert spec.factory() is MemoryDriver
    assert spec.options == {"x": "1"}


def test_http_connectable_keeps_credentials_out_of_its_id() -> None:
    """User, password and query of `http:URL` reach the driver and nothing that is printed."""
    (spec,) = resolve("http:https://user:secret@state.example:8443/p/{workspace}?token=secret")
    assert spec.id == "http:https://state.example:8443/p/{workspace}"
    assert spec.options["address"].startswith("https://user:secret@")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("memori", "did you mean memory?"),
        ("databricks:delt", "no variant 'delt'"),
        ("memory:x", "has no variants"),
        ("py:json", "py:MODULE:FACTORY"),
        ("py:no_such_module:make", "cannot load"),
        ("py:json:no_such_factory", "cannot load"),
        ("http:state.example", "full http:// or https:// address"),
        ("exec:./driver", "not available yet"),
        ("tofu:s3", "not available yet"),
    ],
)
def test_wrong_spec_is_refused_in_one_line(spec: str, words: str) -> None:
    """A spec that names nothing says what is wrong and what to write instead."""
    with pytest.raises(SpecError) as refusal:
        next(iter(resolve(spec))).factory()
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_capabilities_hold_what_they_imply() -> None:
    """A behaviour holds those that it builds on; `clients.process` is no claim of `clients`."""
    held = Capabilities({"locking.fencing-strict", "clients.process"})
    assert sorted(held) == ["clients.process", "locking", "locking.fencing", "locking.fencing-strict"]
