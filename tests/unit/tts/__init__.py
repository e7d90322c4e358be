"""Tests of the TTS service without sockets or processes."""
