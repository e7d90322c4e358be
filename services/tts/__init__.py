"""The TTS service: chunks of text in, frames of speech out, from a pool of worker processes."""
