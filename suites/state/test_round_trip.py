"""What is written is what is read, byte for byte."""

import json

import pytest

from lockproof.driver.recorder import RecordedClient
from lockproof.spec import requirement
from lockproof.spec.statefile import document, terraform_bytes, tofu_bytes
from lockproof.suites.documents import MEGABYTE, encrypted_bytes, filler, require_stored

INDENTED = terraform_bytes(document(note="indented"))
COMPACT = tofu_bytes(document(note="compact"))

LAYOUTS = {
    "terraform-indented": INDENTED,
    "crlf": INDENTED.replace(b"\n", b"\r\n"),
    "tabs": json.dumps(document(), indent="\t").encode() + b"\n",
    "no-newline-at-end": COMPACT.rstrip(b"\n"),
    "blank-lines-at-end": COMPACT + b"\n \t\n\n",
    "space-before": b"\n\n " + COMPACT,
}

OPAQUE = {
    "encrypted": encrypted_bytes(7),
    "empty-object": b"{}\n",
    "older-format": b'{"version":3,"serial":1,"lineage":"x","modules":[]}\n',
    "unknown-fields": tofu_bytes({**document(), "from_the_future": {"version": "9"}}),
    "no-outputs": b'{"version":4,"terraform_version":"1.12.6","serial":1,"lineage":"x"}\n',
}

TEXTS = {
    "letters": "Zürich Łódź Ελλάδα Москва 東京 עברית",
    "beyond-the-first-plane": "\U0001f702 \U0001f680 \U0001d518\U0001d52b\U0001d526 \U0002000b",
    "composed-and-decomposed": "\u00e9 e\u0301 \u212b \u00c5 \ufb01",
    "invisible": "a\u00a0b\u200bc\u2028d\u2029e\ufefff",
}

VALUES = {
    "long-integer": b'{"n":123456789012345678901234567890}',
    "number-formats": b'{"n":[1.0,1.10,1e400,-0,-0.0,1E+2,0.1000000000000000055511151231257827]}',
    "duplicate-keys": b'{"key":1,"key":2,"key":1}',
    "key-order": b'{"z":1,"a":2,"M":3,"10":4,"9":5}',
    "escapes": rb'{"text":"\u00e9 \u003chtml\u003e \/ \ud83d\ude80 \u0000"}',
    "deep-nesting": b'{"deep":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@requirement("STATE-RT-001")
def test_state_reads_back_byte_for_byte(alice: RecordedClient, bob: RecordedClient) -> None:
    """A compact state, as tofu writes it, reads back byte for byte."""
    alice.put("default", COMPACT)
    require_stored(bob, COMPACT)


@requirement("STATE-RT-002")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_formatting_is_kept(layout: str, alice: RecordedClient, bob: RecordedClient) -> None:
    """Indentation, line ends and the end of the text are kept."""
    alice.put("default", LAYOUTS[layout])
    require_stored(bob, LAYOUTS[layout])


@requirement("STATE-RT-003")
@pytest.mark.parametrize("kind", OPAQUE)
def test_state_is_opaque(kind: str, alice: RecordedClient, bob: RecordedClient) -> None:
    """A state is stored whatever its fields are, also encrypted without `version`."""
    alice.put("default", OPAQUE[kind])
    require_stored(bob, OPAQUE[kind])


@requirement("STATE-RT-004")
@pytest.mark.parametrize("text", TEXTS)
def test_text_outside_ascii_is_kept(text: str, alice: RecordedClient, bob: RecordedClient) -> None:
    """Text outside ASCII reads back as the same bytes."""
    data = tofu_bytes(document(text=TEXTS[text]))
    alice.put("default", data)
    require_stored(bob, data)


@requirement("STATE-RT-005")
@pytest.mark.parametrize("value", VALUES)
def test_values_are_not_written_anew(value: str, alice: RecordedClient, bob: RecordedClient) -> None:
    """Numbers, keys, escapes and nesting read back as they were spelled."""
    data = COMPACT.replace(b'"check_results":null', b'"check_results":' + VALUES[value])
    assert VALUES[value] in data
    alice.put("default", data)
    require_stored(bob, data)


@requirement("STATE-BIG-001")
@pytest.mark.parametrize("megabytes", [10, 100])
def test_large_state_reads_back(megabytes: int, alice: RecordedClient, bob: RecordedClient) -> None:
    """A state of many megabytes reads back byte for byte."""
    data = tofu_bytes(document(padding=filler(megabytes * MEGABYTE)))
    alice.put("default", data)
    require_stored(bob, data)
