"""The LLM service: a conversation in, the words of the reply out as they are made."""
