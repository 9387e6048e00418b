"""Recorded exchanges with a workspace, and what replays them: where the fake is not what a workspace is.

`script` declares the requests, `player.record` sends them and keeps what was answered, redacted
(`redaction`), as a `recording`; `player.verify` sends a recording's requests to another target (`targets`)
and lists the differences (`matching`, `placeholders`). `documented.json` is the recording that comes with
lockproof.
"""
