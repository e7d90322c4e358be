"""Rows of the dashboard that say what callers hear: from the gateway's metrics."""

from typing import Final

from grafana import Figure, Heat, Lines, Query, Row
from promql import MESH, by_label, level, quantile, quantiles, rate, share

TTFA: Final = "voicemesh_turn_time_to_first_audio_seconds"
TURNS: Final = f'{MESH}, outcome!="discarded"'
ENDED: Final = rate("voicemesh_turns_total", where=TURNS)
LISTENED: Final = rate("voicemesh_turns_total", where=f'{TURNS}, kind!="background"')
FAILED: Final = rate("voicemesh_turns_total", where=f'{MESH}, outcome="failed"')
LATE: Final = share(
    rate("voicemesh_turn_slo_total", where=f'{MESH}, met="false"'), rate("voicemesh_turn_slo_total")
)
HEARD: Final = rate(f"{TTFA}_count")


def burnt(window: str) -> str:
    """Return how many times faster than allowed turns came late over a window, as the rules record it."""
    late = f'namespace:voicemesh_first_audio_late:ratio_rate{window}{{namespace=~"$namespace"}}'
    return f"{late} / on () group_left () voicemesh:first_audio_objective:error_budget"


GLANCE = Row(
    "At a glance",
    [
        Figure(
            "Time to first audio, p95",
            "From the prompt to the first frame.",
            [Query(quantile(0.95, TTFA))],
            unit="s",
            limits=(0.8, 2),
        ),
        Figure(
            "Late first audio",
            "Turns whose first audio missed the objective, VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS. "
            "1% is allowed.",
            [Query(LATE)],
            unit="percentunit",
            limits=(0.01, 0.05),
        ),
        Figure(
            "Failed",
            "Share of turns that failed.",
            [Query(share(FAILED, ENDED))],
            unit="percentunit",
            limits=(0.005, 0.01),
        ),
        Figure("Turns a second", "Turns that ended.", [Query(ENDED)], unit="reqps"),
        Figure("Turns that run", "Turns at this moment.", [Query(level("voicemesh_turn_active"))]),
        Figure(
            "Gaps a turn",
            "How often a player ran dry, a turn that somebody listens to.",
            [Query(share(rate("voicemesh_turn_underruns_total"), LISTENED))],
            limits=(0.01, 0.05),
        ),
    ],
)

SILENCE = Row(
    "Silence: where the time to first audio goes",
    [
        Lines(
            "Time to first audio",
            "Percentiles, and the objective for each turn. Dots are turns: each leads to its trace.",
            [
                *quantiles(TTFA),
                Query(f"max(voicemesh_turn_time_to_first_audio_objective_seconds{{{MESH}}})", "objective"),
            ],
            unit="s",
            width=12,
        ),
        Lines(
            "Stages of the mean turn",
            "The stages lie on top of each other: their sum is the mean time to first audio. "
            "The widest one is the place to begin.",
            [
                Query(
                    f"{rate('voicemesh_turn_stage_duration_seconds_sum', 'stage')} / scalar({HEARD} > 0)",
                    "{{stage}}",
                )
            ],
            unit="s",
            width=12,
            stacked=True,
        ),
        Heat(
            "Time to first audio, spread",
            "How many turns had it after how long. Two bands are hits and misses of the cache.",
            [Query(rate(f"{TTFA}_bucket", "le"), "{{le}}", exemplar=True, heatmap=True)],
            unit="s",
            width=12,
        ),
        Lines(
            "Stages, p95",
            "Of turns that went through the stage.",
            [by_label(0.95, "voicemesh_turn_stage_duration_seconds", "stage")],
            unit="s",
            width=12,
        ),
        Lines(
            "Time to first audio by reply cache, p95",
            "A cached reply never asks the LLM: memory and redis should lie far below miss.",
            [by_label(0.95, TTFA, "reply_cache")],
            unit="s",
        ),
        Lines(
            "First token and leading silence, p95",
            "The LLM's first token at the gateway; and the silence at the beginning of the audio, which is "
            "behind the time to first audio.",
            [
                Query(
                    quantile(0.95, "voicemesh_turn_time_to_first_token_seconds"), "first token", exemplar=True
                ),
                Query(
                    quantile(0.95, "voicemesh_turn_leading_silence_seconds"), "leading silence", exemplar=True
                ),
            ],
            unit="s",
        ),
        Lines(
            "Unattributed, violations",
            "Share of the silence that no stage owns, and turns whose stages break a rule. Both are to be 0.",
            [
                Query(
                    share(rate("voicemesh_turn_unattributed_seconds_sum"), rate(f"{TTFA}_sum")),
                    "unattributed",
                ),
                Query(
                    rate("voicemesh_turn_attribution_violations_total", "rule"),
                    "violations a second: {{rule}}",
                ),
            ],
            unit="percentunit",
        ),
        Lines(
            "Budget of the objective",
            "How many times faster than allowed turns come late. Above 14.4 for an hour, or 6 for six hours, "
            "somebody is paged.",
            [
                Query(burnt("1h"), "1 h {{namespace}}"),
                Query(burnt("6h"), "6 h {{namespace}}"),
                Query(burnt("3d"), "3 days {{namespace}}"),
            ],
            width=24,
            height=6,
            limits=(6, 14.4),
        ),
    ],
)

TURN_ROW = Row(
    "Turns",
    [
        Lines(
            "Turns by outcome",
            "Turns that ended. Discarded ones are drafts that nobody confirmed.",
            [Query(rate("voicemesh_turns_total", "outcome"), "{{outcome}}", exemplar=True)],
            unit="reqps",
            stacked=True,
        ),
        Lines(
            "Failures and refusals by reason",
            "Turns that failed, and turns that could not begin.",
            [
                Query(
                    rate("voicemesh_turns_total", "error_type", f'{MESH}, outcome="failed"'),
                    "failed: {{error_type}}",
                    exemplar=True,
                ),
                Query(
                    rate("voicemesh_turn_refusals_total", "error_type"),
                    "refused: {{error_type}}",
                    exemplar=True,
                ),
            ],
            unit="reqps",
        ),
        Lines(
            "Share that failed or was refused",
            "Above 1% somebody is paged.",
            [
                Query(share(FAILED, ENDED), "failed"),
                Query(
                    share(
                        rate("voicemesh_turn_refusals_total"),
                        f"{ENDED} + ({rate('voicemesh_turn_refusals_total')} or vector(0))",
                    ),
                    "refused",
                ),
            ],
            unit="percentunit",
            limits=(0.005, 0.01),
        ),
        Lines(
            "Duration, p95",
            "Prompt to the last frame. A player paces long replies: compare with the audio.",
            [by_label(0.95, "voicemesh_turn_duration_seconds", "outcome")],
            unit="s",
        ),
        Lines(
            "Barge-ins and what turns gave up",
            "Turns that were spoken over; turns that went without the cache, their voice or their model.",
            [
                Query(rate("voicemesh_turn_barge_ins_total"), "barge-ins"),
                Query(rate("voicemesh_turn_degradations_total", "what"), "without {{what}}", exemplar=True),
            ],
            unit="reqps",
        ),
        Lines(
            "Audio and characters",
            "Seconds of audio sent to callers a second, and characters that engines were given.",
            [
                Query(rate("voicemesh_turn_audio_seconds_total"), "audio (s/s)"),
                Query(rate("voicemesh_turn_characters_total"), "characters/s"),
            ],
        ),
    ],
)

ROWS: Final = (GLANCE, SILENCE, TURN_ROW)
