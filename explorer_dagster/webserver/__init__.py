"""The Dagster UI as `explorer up` serves it: Dagster's own web app behind a guard.

Dagster's webserver has no authentication and executes mutations sent by GET from any origin, so that any web page could control
one on loopback. The guard lets in programs that send the token as a header (`explorer.contract.headers`) and browsers in a
session, which a link of `explorer ui` opens.
"""
