"""`voicemesh usage`: a table that fits a terminal."""

from voicemesh.cli import usage
from voicemesh.client import Cost, UsageTotals


def test_the_table_has_eighty_columns(monkeypatch, capsys):
    row = UsageTotals(
        tenant="a-tenant-with-a-long-name",
        variant="voicemesh.chunk_policy=short,voicemesh.prompt=compact",
        turns=1234,
        input_tokens=1234567,
        cached_input_tokens=500,
        output_tokens=123456,
        characters=1234567,
        engine_s=12345.6,
        cached_replies=0,
        cached_characters=0,
        cost=Cost(llm_usd=0.001, saved_usd=0.000123),
        unpriced_turns=0,
    )

    async def answer(*_: object) -> list[UsageTotals]:
        return [row]

    monkeypatch.setattr(usage, "ask_mesh", answer)
    usage.run_usage("host:1", "", all_tenants=True, as_json=False)
    shown = capsys.readouterr().out
    table = shown.splitlines()[:-1]
    assert max(len(line.rstrip()) for line in table) <= 80
    for figure in ("1234567", "123456", "12345.6", "$0.001000", "$0.000123"):
        assert figure in shown
    assert "500 of the tokens in were in providers' prompt caches" in shown
