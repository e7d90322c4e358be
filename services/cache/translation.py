"""Between the messages of `voicemesh.cache.v1` and the plain data of the core."""

from dataclasses import asdict
from typing import Final

from services.cache import answers, fills
from services.cache.exchange import Failed, Response
from services.cache.keys import (
    AudioKey,
    GenerationParameters,
    HistoryKey,
    Key,
    ReplyKey,
    Selector,
    checked_tags,
    select,
)
from services.cache.needs import Need
from services.cache.requests import (
    Append,
    Get,
    Limits,
    Put,
    Release,
    Request,
    Seal,
    checked_get,
    checked_put,
)
from services.cache.values import (
    AudioFormat,
    AudioValue,
    HistoryValue,
    Image,
    Message,
    ReplyValue,
    TokenUsage,
    Value,
    WordTiming,
)
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import InvalidFieldError, MeshError
from voicemesh.runtime.status import to_status

_REMOVAL_ID_LIMIT: Final = 64

_TIERS: Final = {"memory": cache_pb2.CACHE_TIER_MEMORY, "redis": cache_pb2.CACHE_TIER_REDIS}


def request(message: cache_pb2.ExchangeRequest, limits: Limits, arrived_ns: int) -> Request:
    """Return the request that `message` makes; what is wrong with it takes the operation's place."""
    try:
        return Request(message.request_id, _operation(message, limits), arrived_ns)
    except MeshError as error:
        return Request(message.request_id, error, arrived_ns)


def _operation(message: cache_pb2.ExchangeRequest, limits: Limits) -> Get | Put | Append | Seal | Release:
    which = message.WhichOneof("operation")
    if which == "get":
        lease = message.get.on_miss == cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW
        key = _key(message.get.key, "get.key")
        get = message.get
        need = Need(get.due_ms, get.begin_ms)
        return checked_get(
            key,
            limits,
            lease=lease,
            head_ms=get.head_ms,
            keep=get.keep,
            need=need,
            similar_ms=get.similar_ms,
        )
    if which == "put":
        put = message.put
        expected = put.expected_version if put.HasField("expected_version") else None
        return checked_put(
            _key(put.key, "put.key"),
            _value(put.value),
            limits,
            expected_version=expected,
            tags=put.tags,
            age_ms=put.age_ms,
        )
    if which == "append":
        return Append(message.append.lease_id, _audio_value(message.append.part))
    if which == "seal":
        return Seal(message.seal.lease_id, checked_tags(message.seal.tags, "seal.tags"), message.seal.age_ms)
    if which == "release":
        return Release(message.release.lease_id)
    raise InvalidFieldError("operation", "must be set")


def selector(message: cache_pb2.InvalidateRequest, limits: Limits) -> Selector:
    """Return what `message` asks to remove.

    Raises:
        InvalidFieldError: The target is missing or unusable.

    """
    which = message.WhichOneof("target")
    if which is None:
        raise InvalidFieldError("target", "must be set")
    only_tenant = message.only_tenant if message.HasField("only_tenant") else None
    if which == "key":
        return select("key", limits.stored(_key(message.key, "key"), "key").name, only_tenant)
    if which == "all":
        if not message.all:
            raise InvalidFieldError("all", "must be true")
        return select("all", "", only_tenant)
    return select(which, getattr(message, which), only_tenant)


def removal_id(message: cache_pb2.InvalidateRequest) -> str:
    """Return the name of the removal, "" where it has none.

    Raises:
        InvalidFieldError: It is too long.

    """
    if len(message.removal_id) > _REMOVAL_ID_LIMIT:
        raise InvalidFieldError(
            "removal_id",
            f"has {len(message.removal_id)} characters, the limit is {_REMOVAL_ID_LIMIT}",
        )
    return message.removal_id


def _key(message: cache_pb2.CacheKey, path: str) -> Key:
    which = message.WhichOneof("key")
    if which == "audio":
        key = message.audio
        return AudioKey(
            engine=key.engine,
            model_revision=key.model_revision,
            voice=key.voice,
            language=key.language,
            speed_permille=key.speed_permille,
            format=_format(key.format),
            text=key.text,
            tenant=key.tenant,
        )
    if which == "reply":
        reply = message.reply
        return ReplyKey(
            tenant=reply.tenant,
            llm_revision=reply.llm_revision,
            model=reply.model,
            parameters=_parameters(reply.parameters),
            messages=tuple(map(_message, reply.messages)),
        )
    if which == "history":
        return HistoryKey(message.history.tenant, message.history.session_id)
    raise InvalidFieldError(path, "must be set")


def _parameters(message: common_pb2.GenerationParameters) -> GenerationParameters:
    return GenerationParameters(
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        temperature=message.temperature if message.HasField("temperature") else None,
        top_p=message.top_p if message.HasField("top_p") else None,
        stop=tuple(message.stop),
        seed=message.seed if message.HasField("seed") else None,
    )


def _value(message: cache_pb2.CacheValue) -> Value:
    which = message.WhichOneof("value")
    if which == "audio":
        return _audio_value(message.audio)
    if which == "reply":
        usage = message.reply.usage
        tokens = TokenUsage(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)
        return ReplyValue(message.reply.text, tokens, message.reply.chunks)
    if which == "history":
        return HistoryValue(tuple(map(_message, message.history.messages)))
    raise InvalidFieldError("put.value", "must be set")


def _audio_value(message: cache_pb2.AudioValue) -> AudioValue:
    words = tuple(
        WordTiming(word.word, word.text_offset, word.text_length, word.offset_samples, word.estimated)
        for word in message.words
    )
    return AudioValue(_format(message.format), message.audio, words)


def _format(message: common_pb2.AudioFormat) -> AudioFormat:
    return AudioFormat(message.encoding, message.sample_rate_hz, message.channels)


def _message(message: common_pb2.Message) -> Message:
    return Message(message.role, tuple(map(_part, message.parts)))


def _part(part: common_pb2.ContentPart) -> str | Image:
    if part.WhichOneof("part") != "image":
        return part.text
    image = part.image
    if image.WhichOneof("source") == "url":
        return Image(url=image.url, media_type=image.media_type)
    return Image(data=image.data, media_type=image.media_type)


def response(answer: Response, trace_id: str) -> cache_pb2.ExchangeResponse:
    """Return the message that stands for `answer`."""
    message = cache_pb2.ExchangeResponse(request_id=answer.request_id, server_us=answer.server_us)
    result = answer.result
    if isinstance(result, answers.Hit):
        message.hit.tier = _TIERS[result.tier]
        message.hit.version = result.version
        message.hit.more = result.whole is not None
        message.hit.similar = result.similar
        _fill_value(message.hit.value, result.value)
    elif isinstance(result, answers.Miss):
        message.miss.degraded = result.degraded
    elif isinstance(result, answers.Done):
        message.done.version = result.version
        message.done.degraded = result.degraded
        message.done.not_admitted.extend(_TIERS[tier] for tier in result.not_admitted)
        message.done.stale = result.stale
    elif isinstance(result, answers.Conflict):
        message.conflict.version = result.version
    elif isinstance(result, fills.Granted):
        message.granted.lease_id = result.lease_id
        message.granted.ttl_ms = result.ttl_ms
        message.granted.offset_samples = result.offset_samples
    elif isinstance(result, fills.Following):
        message.following.lease_id = result.lease_id
        message.following.traceparent = result.maker
        _fill_audio(message.following.so_far, result.so_far)
    elif isinstance(result, fills.Part):
        _fill_audio(message.part, result.value)
    elif isinstance(result, fills.Sealed):
        message.sealed.SetInParent()
    elif isinstance(result, Failed):
        message.error.CopyFrom(to_status(result.error, trace_id))
    return message


def _fill_value(message: cache_pb2.CacheValue, value: Value) -> None:
    if isinstance(value, AudioValue):
        _fill_audio(message.audio, value)
    elif isinstance(value, ReplyValue):
        message.reply.text = value.text
        message.reply.chunks = value.chunks
        message.reply.usage.input_tokens = value.usage.input_tokens
        message.reply.usage.output_tokens = value.usage.output_tokens
        message.reply.usage.cached_input_tokens = value.usage.cached_input_tokens
    else:
        message.history.SetInParent()
        for entry in value.messages:
            _fill_message(message.history.messages.add(), entry)


def _fill_audio(message: cache_pb2.AudioValue, value: AudioValue) -> None:
    form = value.format
    message.format.encoding = common_pb2.AudioEncoding.ValueType(form.encoding)
    message.format.sample_rate_hz = form.sample_rate_hz
    message.format.channels = form.channels
    message.audio = value.audio
    for word in value.words:
        message.words.add(
            word=word.word,
            text_offset=word.text_offset,
            text_length=word.text_length,
            offset_samples=word.offset_samples,
            estimated=word.estimated,
        )


def _fill_message(message: common_pb2.Message, entry: Message) -> None:
    message.role = common_pb2.Role.ValueType(entry.role)
    for part in entry.parts:
        if isinstance(part, str):
            message.parts.add(text=part)
            continue
        image = message.parts.add().image
        image.media_type = part.media_type
        if part.data is not None:
            image.data = part.data
        else:
            image.url = part.url or ""


def stats(now: answers.Stats, similar: answers.SimilarCounts | None = None) -> cache_pb2.GetStatsResponse:
    """Return the message that stands for `now`; `similar` is None where similar prompts are off."""
    return cache_pb2.GetStatsResponse(
        similar=cache_pb2.SimilarStats(**asdict(similar)) if similar is not None else None,
        kinds=[
            cache_pb2.KindStats(
                kind=kind,
                entries=counts.entries,
                bytes=counts.bytes,
                memory_hits=counts.memory_hits,
                redis_hits=counts.redis_hits,
                misses=counts.misses,
                evictions=counts.evictions,
            )
            for kind, counts in now.kinds.items()
        ],
        memory_bytes=now.memory_bytes,
        memory_limit_bytes=now.memory_limit_bytes,
        redis_configured=now.redis_configured,
        redis_available=now.redis_available,
        redis_errors=now.redis_errors,
        redis_corrupt=now.redis_corrupt,
        redis_writes_dropped=now.redis_dropped,
        active_leases=now.active_leases,
        memory_not_admitted=now.admission.memory_refused,
        redis_not_admitted=now.admission.redis_refused,
        redis_admitted_later=now.admission.redis_later,
        invalidations=now.removals.total,
        invalidated_memory_entries=now.removals.memory_entries,
        invalidated_redis_entries=now.removals.redis_entries,
        stale_writes=now.removals.stale_puts,
    )
