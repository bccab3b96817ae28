"""The Dagster UI as `explorer up` serves it: Dagster's own web app behind a guard.

Dagster's webserver has no authentication and executes mutations sent by GET from any origin, so that any web page could
drive one that listens on loopback. The guard lets reads pass and asks for a token on everything that changes something.
The UI's own pages carry the token as a SameSite=Strict cookie, programs as a header (`explorer.contract.headers`).
"""
