"""The Dagster UI as `explorer up` serves it: Dagster's own web app behind a guard.

Dagster's webserver has no authentication and executes mutations sent by GET from any origin, so that any web page could control
one on loopback. The guard passes reads and demands a token for every change. The UI's own pages carry the token as a
SameSite=Strict cookie, programs as a header (`explorer.contract.headers`).
"""
