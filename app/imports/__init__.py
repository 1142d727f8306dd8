"""Bringing events in from files and git histories: what `sluice events import` does.

A client of the public HTTP API and nothing more: it knows no database, no topic and no other part of Sluice.
Running an import again counts nothing twice, because every event is sent under an id that depends only on what
is imported; see `ids`.
"""
