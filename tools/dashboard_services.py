"""Rows of the dashboard that look into the services behind the gateway."""

from typing import Final

from grafana import Lines, Query, Row
from promql import JOB, MESH, VOICE, by_label, level, mean, quantile, quantiles, rate, share


def hit_rate(kind: str) -> str:
    """Return the share of the lookups of one kind that hit."""
    return share(
        rate("voicemesh_cache_lookups_total", where=f'{MESH}, kind="{kind}", result!="miss"'),
        rate("voicemesh_cache_lookups_total", where=f'{MESH}, kind="{kind}"'),
    )


SPEECH = Row(
    "Speech",
    [
        Lines(
            "Underruns by cause",
            "Players that ran dry, by the stage that made the chunk late.",
            [Query(rate("voicemesh_turn_underruns_total", "stage"), "{{stage}}", exemplar=True)],
            unit="ops",
            stacked=True,
        ),
        Lines(
            "Underruns, how long",
            "How long players were dry, p95.",
            [by_label(0.95, "voicemesh_turn_underrun_duration_seconds", "stage")],
            unit="s",
        ),
        Lines(
            "Queue",
            "Chunks that wait for a replica.",
            [Query(level("voicemesh_tts_queue_depth", "voice", VOICE), "{{voice}}")],
        ),
        Lines(
            "Time in the queue, p95",
            "A chunk at the TTS service to its lease.",
            [by_label(0.95, "voicemesh_tts_queue_duration_seconds", "voice", VOICE)],
            unit="s",
        ),
        Lines(
            "Time to first frame, p95",
            "Lease to the first frame.",
            [by_label(0.95, "voicemesh_tts_time_to_first_frame_seconds", "voice", VOICE)],
            unit="s",
        ),
        Lines(
            "Real-time factor, p95",
            "Engine seconds a second of audio: above 1 a voice cannot keep up with its player.",
            [by_label(0.95, "voicemesh_tts_real_time_factor", "voice", VOICE)],
            limits=(0.7, 1),
        ),
        Lines(
            "Occupancy",
            "Share of the slots that are leased. Near 1 there is a queue.",
            [Query(f"avg by (voice) (voicemesh_tts_occupancy{{{VOICE}}})", "{{voice}}")],
            unit="percentunit",
            limits=(0.8, 0.95),
        ),
        Lines(
            "Replicas by state",
            "Ready ones can speak.",
            [Query(level("voicemesh_tts_replicas", "voice, state", VOICE) + " > 0", "{{voice}} {{state}}")],
            stacked=True,
        ),
        Lines(
            "Replicas lost, stand-ins",
            "Each loss is replaced; a voice that stands in spoke for one that could not.",
            [
                Query(
                    rate("voicemesh_tts_replica_losses_total", "voice, cause", VOICE),
                    "{{voice}} lost: {{cause}}",
                ),
                Query(rate("voicemesh_tts_stand_ins_total", "voice", VOICE), "another spoke for {{voice}}"),
            ],
            unit="ops",
        ),
        Lines(
            "Engine time",
            "Seconds that engines work a second, and those that nobody heard.",
            [
                Query(rate("voicemesh_tts_engine_time_seconds_total", "voice", VOICE), "{{voice}}"),
                Query(rate("voicemesh_tts_engine_wasted_seconds_total", "voice", VOICE), "{{voice}} wasted"),
            ],
        ),
        Lines(
            "Leases",
            "Chunks that are being spoken.",
            [Query(level("voicemesh_tts_leases", "voice", VOICE), "{{voice}}")],
        ),
        Lines(
            "Batch size",
            "Mean of the steps that engines take, of those that batch.",
            [Query(mean("voicemesh_tts_batch_size", "voice", VOICE), "{{voice}}")],
        ),
    ],
)

CACHE = Row(
    "Cache",
    [
        Lines(
            "Hit rates",
            "Share of a turn's lookups that found what they asked for.",
            [Query(hit_rate("reply"), "reply"), Query(hit_rate("audio"), "audio")],
            unit="percentunit",
        ),
        Lines(
            "Lookups by result",
            "Where turns found it. Shared: another turn was just having it made.",
            [Query(rate("voicemesh_cache_lookups_total", "kind, result"), "{{kind}} {{result}}")],
            unit="ops",
            stacked=True,
        ),
        Lines(
            "Redis, p95",
            "Round trips by command. Above VOICEMESH_CACHE_REDIS_TIMEOUT_MS Redis is held off.",
            [by_label(0.95, "voicemesh_cache_redis_duration_seconds", "operation")],
            unit="s",
        ),
        Lines(
            "Entries",
            "Of the cache, by tier.",
            [Query(level("voicemesh_cache_entries", "tier"), "{{tier}}")],
        ),
        Lines(
            "Size of the cache",
            "By tier.",
            [Query(level("voicemesh_cache_size_bytes", "tier"), "{{tier}}")],
            unit="bytes",
        ),
        Lines(
            "Leases, takeovers, evictions",
            "Values that are being made; how often another went on with one; entries that made room.",
            [
                Query(level("voicemesh_cache_leases"), "leases"),
                Query(rate("voicemesh_cache_takeovers_total"), "takeovers/s"),
                Query(rate("voicemesh_cache_evictions_total"), "evictions/s"),
            ],
        ),
    ],
)

LLM = Row(
    "LLM and cost",
    [
        Lines(
            "Time to first text, p95",
            "From the question to a provider's first text.",
            [
                Query(
                    quantile(
                        0.95,
                        "gen_ai_client_operation_time_to_first_chunk_seconds",
                        "gen_ai_provider_name, gen_ai_request_model",
                        JOB,
                    ),
                    "{{gen_ai_provider_name}}/{{gen_ai_request_model}}",
                    exemplar=True,
                )
            ],
            unit="s",
        ),
        Lines(
            "Questions, p95 and failures",
            "How long answers take; attempts that failed, a second, by reason.",
            [
                Query(
                    quantile(0.95, "gen_ai_client_operation_duration_seconds", "gen_ai_provider_name", JOB),
                    "{{gen_ai_provider_name}} (s)",
                    exemplar=True,
                ),
                Query(
                    rate(
                        "gen_ai_client_operation_duration_seconds_count",
                        "error_type",
                        f'{JOB}, error_type!=""',
                    ),
                    "{{error_type}}/s",
                ),
            ],
        ),
        Lines(
            "Retries, failovers, hedges",
            "What was done about providers that fail or are late.",
            [
                Query(
                    rate("voicemesh_llm_retries_total", "provider, error_type"),
                    "retry {{provider}} {{error_type}}",
                ),
                Query(rate("voicemesh_llm_failovers_total"), "failovers"),
                Query(rate("voicemesh_llm_hedges_total", "won"), "hedges, won: {{won}}"),
                Query(rate("voicemesh_llm_continuations_total"), "continuations"),
            ],
            unit="ops",
        ),
        Lines(
            "Tokens",
            "A second, as providers count them.",
            [Query(rate("gen_ai_client_token_usage_sum", "gen_ai_token_type", JOB), "{{gen_ai_token_type}}")],
            stacked=True,
        ),
        Lines(
            "Cost",
            "US dollars an hour, of what has a price.",
            [Query(f"3600 * {rate('voicemesh_turn_cost_USD_total', 'part')}", "{{part}}")],
            unit="currencyUSD",
            stacked=True,
        ),
        Lines(
            "Saved",
            "US dollars an hour that the caches of the mesh saved.",
            [Query(f"3600 * {rate('voicemesh_turn_saved_USD_total')}", "saved")],
            unit="currencyUSD",
        ),
    ],
)

CHUNKER = Row(
    "Chunker",
    [
        Lines(
            "Chunks by reason",
            "Why chunks end where they do.",
            [Query(rate("voicemesh_chunker_chunks_total", "reason"), "{{reason}}")],
            unit="ops",
            stacked=True,
        ),
        Lines(
            "Held, p95",
            "A chunk's last character to its cut.",
            [by_label(0.95, "voicemesh_chunker_hold_seconds", "reason")],
            unit="s",
        ),
        Lines("Characters of a chunk", "Percentiles.", quantiles("voicemesh_chunker_chunk_size")),
    ],
)

PROCESSES = Row(
    "Calls and processes",
    [
        Lines(
            "Calls, p95",
            "First message to the end, at the server. Streams last as long as a turn.",
            [by_label(0.95, "rpc_server_call_duration_seconds", "rpc_method", JOB)],
            unit="s",
        ),
        Lines(
            "Calls by status",
            "At the server. CANCELLED is what a barge-in does.",
            [
                Query(
                    rate("rpc_server_call_duration_seconds_count", "job, rpc_response_status_code", JOB),
                    "{{job}} {{rpc_response_status_code}}",
                )
            ],
            unit="reqps",
            stacked=True,
        ),
        Lines(
            "Breakers",
            "0 closed, 1 half open, 2 open: what it names is left alone.",
            [Query(f"max by (job, target) (voicemesh_breaker_state{{{MESH}}})", "{{job}}: {{target}}")],
            limits=(1, 2),
        ),
        Lines(
            "Event loop, p99",
            "How late each process wakes. Above 100 ms it has too little CPU, or something blocks it.",
            [
                Query(
                    quantile(0.99, "voicemesh_process_event_loop_lag_seconds", "job, instance"),
                    "{{job}} {{instance}}",
                )
            ],
            unit="s",
            limits=(0.05, 0.1),
        ),
        Lines(
            "CPU",
            "Cores that each process uses, without its engines' own processes.",
            [Query(rate("process_cpu_time_seconds_total", "job, instance", JOB), "{{job}} {{instance}}")],
            stacked=True,
        ),
        Lines(
            "Memory",
            "Resident, without the engines' own processes.",
            [Query(level("process_memory_usage_bytes", "job, instance", JOB), "{{job}} {{instance}}")],
            unit="bytes",
            stacked=True,
        ),
        Lines(
            "Open files",
            "File descriptors of each process. One that only grows is a leak.",
            [
                Query(
                    level("process_open_file_descriptor_count", "job, instance", JOB), "{{job}} {{instance}}"
                )
            ],
        ),
        Lines(
            "Scraped",
            "1 while Prometheus reaches the process.",
            [Query(f"up{{{JOB}}}", "{{job}} {{instance}}")],
        ),
        Lines(
            "Builds",
            "Processes by version.",
            [
                Query(
                    f"count by (job, version, python) (voicemesh_build_info{{{MESH}}})",
                    "{{job}} {{version}}, Python {{python}}",
                )
            ],
        ),
    ],
)

ROWS: Final = (SPEECH, CACHE, LLM, CHUNKER, PROCESSES)
