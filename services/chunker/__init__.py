"""The chunker service: a stream of text in, pieces that can be spoken out."""
