"""`voicemesh capacity`: from options to a plan."""

import json

from rich.text import Text

from voicemesh.capacity import profile as profiles
from voicemesh.capacity.demand import Load, per_core, per_engine
from voicemesh.capacity.plan import UnreachableError, plan
from voicemesh.capacity.prices import cost_of
from voicemesh.cli.capacity_options import CapacityOptions, prices_of, profile_of, wanted_of
from voicemesh.cli.capacity_report import about, engine_of, plan_json, profile_json, show
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE, FAILED, Failure, usage


def run_profiles(*, as_json: bool) -> int:
    """Print the profiles that come along."""
    found = [profiles.load(name) for name in profiles.shipped()]
    if as_json:
        print(json.dumps({"profiles": [profile_json(profile) for profile in found]}))
        return DONE
    console = console_for()
    table = table_of("profile", "engine", "turns/s a core", "a TTS process", "measured", left=2)
    for profile in found:
        table.add_row(
            Text(profile.name),
            Text(engine_of(profile)),
            f"{per_core(profile, Load(1.0, 0.0)):.1f}",
            f"{per_engine(profile):.2f}",
            f"{profile.measured['at']}",
        )
    print_table(console, table)
    for profile in found:
        for line in about(profile):
            console.print(line, markup=False, soft_wrap=True)
    return DONE


def run_capacity(options: CapacityOptions) -> int:
    """Print a plan. Raises Failure."""
    asked = (options.turns, options.rate_per_s, options.callers)
    if sum(value is not None for value in asked) != 1:
        raise usage(
            "say how much is asked for, in one of three ways: --turns N (at once), --rate R (that begin in a "
            "second), or --callers N (who talk, and think in between)",
            "for example `voicemesh capacity --turns 10000 --p95 300ms`",
        )
    try:
        profile = profile_of(options, profiles.load(options.profile))
        wanted = wanted_of(options, profile)
        prices = prices_of(options)
        found = plan(profile, wanted)
    except UnreachableError as error:
        raise Failure(FAILED, "OUT_OF_REACH", str(error)) from None
    except ValueError as error:
        raise usage(str(error)) from None
    cost = cost_of(
        prices,
        nodes=found.nodes.replicas,
        gpus=found.gpus,
        rate_per_s=wanted.rate_per_s,
        cached=wanted.cached,
    )
    if options.as_json:
        print(json.dumps(plan_json(found, cost, options)))
    else:
        show(found, cost, options)
    return DONE
