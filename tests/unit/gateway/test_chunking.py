"""What a turn's stream to the chunker is told when it breaks off."""

from typing import Any

from gateway.chunking import Chunking
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.pace import Pace
from gateway.core.values import Chunk
from tests.unit.gateway.test_synthesis import Bench as SynthesisBench
from tests.unit.gateway.test_synthesis import StillLink
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.runtime.status import RemoteError, to_status

CHUNK = Chunk(0, "One two.", 0, 8, "sentence", 0)


class Bench:
    def __init__(self) -> None:
        self.links: list[StillLink] = []
        self.events: list[on.Event] = []
        self.chunking = Chunking(
            "t",
            SynthesisBench().speech,
            pace=Pace,
            new_link=self._new_link,
            read=lambda _link: None,
            handle=self.events.append,
            room=self._room,
            revised=lambda _revision: None,
        )

    def _new_link(self) -> Any:
        self.links.append(StillLink())
        return self.links[-1]

    async def _room(self) -> None:
        pass

    def told(self, number: int) -> list[str]:
        return [str(request.WhichOneof("event")) for request in self.links[number].sent]


def test_one_that_was_told_nothing_is_replaced_without_a_word() -> None:
    bench = Bench()
    bench.chunking.open_ahead()
    bench.links[0].ended(None)
    assert bench.events == []
    bench.chunking.tell(do.FeedChunker("One"))
    assert (bench.told(0), bench.told(1)) == (["configure"], ["configure", "text"])


def test_another_is_told_the_text_its_flushes_and_the_chunks_that_came() -> None:
    bench = Bench()
    bench.chunking.tell(do.FeedChunker("One two. Three"))
    bench.links[0].ended(None)
    (lost,) = bench.events
    assert isinstance(lost, on.ChunkerLost)
    bench.chunking.tell(do.RestartChunker("One two. Three", (3, 14), (CHUNK,)))
    bench.chunking.tell(do.EndChunker())
    sent: list[Any] = list(bench.links[1].sent)
    configure, *rest = sent
    assert [chunk.text for chunk in configure.configure.known_chunks] == ["One two."]
    assert "".join(request.text.text for request in rest) == "One two. Three"
    assert bench.told(1)[1:] == ["text", "flush", "text", "flush", "end"]


def test_behind_its_end_nothing_is_told_to_another_that_knows_nothing() -> None:
    for error in (None, RemoteError(to_status(InvalidFieldError("text", "is wrong")))):
        bench = Bench()
        bench.chunking.tell(do.FeedChunker("One two. Three"))
        bench.links[0].ended(error)
        bench.chunking.tell(do.FeedChunker(" four."))
        bench.chunking.tell(do.EndChunker())
        assert len(bench.links) == 1


async def test_another_version_that_cuts_in_another_way_is_told_only_what_is_behind_the_chunks() -> None:
    bench = Bench()
    bench.chunking.tell(do.FeedChunker("One two. Three"))
    bench.links[0].ended(None)
    bench.chunking.tell(do.RestartChunker("One two. Three", (3, 14), (CHUNK,)))
    refused = InvalidFieldError("configure.known_chunks[0]", "is not the next chunk of the text")
    bench.links[1].ended(RemoteError(to_status(refused)))
    lost = bench.events[-1]
    assert isinstance(lost, on.ChunkerLost)
    assert (lost.anew, lost.error.reason) == (True, "SERVICE_UNAVAILABLE")
    bench.chunking.tell(do.RestartChunker("One two. Three", (3, 14), (CHUNK,), anew=True))
    bench.chunking.tell(do.TellSlack(100, 2, Pace()))
    sent: list[Any] = list(bench.links[2].sent)
    assert not sent[0].configure.known_chunks
    assert [request.text.text for request in sent if request.HasField("text")] == [" Three"]
    assert bench.told(2)[1:] == ["text", "flush", "slack"]
    assert sent[-1].slack.chunks_counted == 1
    run = common_pb2.TextRun(spoken_length=5, source_offset=1, source_length=5)
    chunk = common_pb2.Chunk(index=0, text="Three", text_offset=1, text_length=5, alignment=[run])
    await bench.links[2].take(chunker_pb2.ChunkResponse(chunk=chunk))
    cut = bench.events[-1]
    assert isinstance(cut, on.ChunkCut)
    assert (cut.chunk.index, cut.chunk.text_offset, cut.chunk.alignment[0].source_offset) == (1, 9, 9)


def test_a_refusal_of_anything_else_is_no_other_version() -> None:
    bench = Bench()
    bench.chunking.tell(do.FeedChunker("One two. Three"))
    bench.links[0].ended(None)
    bench.chunking.tell(do.RestartChunker("One two. Three", (), (CHUNK,)))
    bench.links[1].ended(RemoteError(to_status(InvalidFieldError("text.text", "is too long"))))
    assert isinstance(bench.events[-1], on.ChunkerFailed)
