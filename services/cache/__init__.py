"""The cache service: audio, replies and session histories, in memory and in Redis."""
