"""What a prompt may have, and who is expected to answer it."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tiles:
    """What a model counts for a picture: `base`, and `each` for every tile of 512 by 512 that it is cut into.

    From OpenAI's guide to images and vision (https://platform.openai.com/docs/guides/images-vision): a
    picture is first made to fit into 2048 by 2048, then its shorter side is brought down to 768.
    """

    base: int = 85
    each: int = 170

    def tokens(self, size: tuple[int, int] | None) -> int:
        """Return the tokens of a picture of that width and height; None, not known: of a large square."""
        width, height = size or (1024, 1024)
        scale = min(1.0, 2048 / max(width, height), 768 / min(width, height))
        # Rounded first: 768 by a factor is not to be a hair above it.
        across, down = (math.ceil(round(side * scale, 3) / 512) for side in (width, height))
        return self.base + self.each * across * down


@dataclass(frozen=True, slots=True)
class Budget:
    """What a prompt may have.

    tokens: Of the whole prompt, as `tokens.py` estimates them.
    messages: Of the history; 0 keeps none.
    chars: Of the history's texts, so that what is stored is bounded whatever tokens are.
    tiles: What the model counts for pictures.
    """

    tokens: float = 8000.0
    messages: int = 40
    chars: int = 100_000
    tiles: Tiles = Tiles()


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who is expected to answer, and what an estimate of its tokens is multiplied by."""

    provider: str = ""
    model: str = ""
    factor: float = 1.0
    tiles: Tiles = Tiles()
