"""What a token may be signed with."""

from typing import Literal

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""By a key pair: never by a shared secret, and never not at all."""
