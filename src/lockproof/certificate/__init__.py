"""Certificates: what a release manager signs, and how anyone can tell whether it says what its runs said.

A certificate is a folder. `certificate.json` states, and names the SHA-256 of every other file;
`CERTIFICATE.md` is the same for a reader; `seed-N/` holds all that each run left: its events and its
histories, and the reports that follow from these. So whoever verifies it trusts no conclusion: they are all
drawn again. It is not signed: the digest that `certify` and `verify` print stands for the whole folder.
"""
