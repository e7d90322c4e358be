"""`GET /metrics` on the gateway's HTTP port, for who scrapes the gateway alone."""

import asyncio

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from voicemesh.runtime.metrics import Metrics

_OFF = "this gateway is not scraped: VOICEMESH_GATEWAY_METRICS_LISTEN says where it should be\n"


class MetricsPage:
    """Answers with what the gateway's own metrics address answers with, and 404 where it has none."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def answer(self, request: Request) -> Response:
        """Answer a scrape."""
        scraping = self._metrics.scraping
        if scraping is None:
            return PlainTextResponse(_OFF, status_code=404)
        # In a thread: gauges are read on the event loop, and rendering takes milliseconds of it.
        content_type, text = await asyncio.to_thread(scraping.render, request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})
