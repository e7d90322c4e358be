"""Flags: what a turn is made with, chosen by rules in a file, to be tried on a share of the sessions.

`definitions` says what a file may say, `rules` what its targeting may, `versions` changes it and takes
changes back, `provider` evaluates it through OpenFeature. Nothing here knows the gateway: the command line
uses it too.
"""
