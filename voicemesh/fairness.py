"""Shares of engine time: which caller had more than its part.

Start-time fair queueing with the virtual time of processor sharing: while n callers want the engine,
virtual time runs at 1/n of the engine's, which is what each of them may have. A caller's account is the
virtual time up to which it was served; one that wanted less than its share does not keep the rest for
later.

    account   |--------------- served ---------------|
    others    |------------- virtual time ------|     ^ ahead: waits until the others have as much

Engine workers and the capacity planner import this module: standard library only.
"""

from typing import Final

EQUAL_NS: Final = 10_000_000
"""Callers whose accounts differ by less are equal."""
_KEPT: Final = 64


class Account:
    """What one caller had. Its fields belong to `Shares`."""

    __slots__ = ("name", "open", "tag_ns", "wanting")

    def __init__(self, name: str, tag_ns: float) -> None:
        self.name = name
        self.tag_ns = tag_ns
        self.open = 0
        """Its work that is not at its end."""
        self.wanting = 0
        """Its work that would run now."""


class Shares:
    """The accounts of all callers."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._virtual_ns = 0.0
        self._wanting = 0
        self._open = 0

    def open(self, name: str) -> Account:
        """Begin work of a caller; return its account."""
        if not self._open:  # what was before an idle moment is forgotten
            self._accounts.clear()
        account = self._accounts.get(name)
        if account is None:
            self._forget()
            account = self._accounts[name] = Account(name, self._virtual_ns)
        account.open += 1
        self._open += 1
        return account

    def close(self, account: Account) -> None:
        """End work of a caller; it must not want the engine any more."""
        account.open -= 1
        self._open -= 1

    def want(self, account: Account) -> None:
        """Say that work of a caller would run."""
        account.wanting += 1
        self._wanting += account.wanting == 1

    def unwant(self, account: Account) -> None:
        """Say that work of a caller runs no more, and does not wait to."""
        account.wanting -= 1
        self._wanting -= account.wanting == 0

    def charge(self, accounts: list[Account], took_ns: float) -> None:
        """Split engine time among the work that it was for; an account may be there more than once."""
        wanting = self._wanting + len({account.name for account in accounts if not account.wanting})
        before_ns = self._virtual_ns
        self._virtual_ns += took_ns / max(wanting, 1)
        share_ns = took_ns / len(accounts)
        for account in accounts:
            account.tag_ns = max(account.tag_ns, before_ns) + share_ns

    def correct(self, account: Account, more_ns: float) -> None:
        """Put an account right that was charged with what was expected."""
        account.tag_ns += more_ns

    def ahead_of(self, name: str) -> int:
        """Return `ahead` of a caller by its name; 0 for one that is not known."""
        account = self._accounts.get(name)
        return 0 if account is None else self.ahead(account)

    def ahead(self, account: Account) -> int:
        """Return how far a caller is ahead of the others, in steps of `EQUAL_NS`; 0 for its share or less."""
        return int(max(0.0, account.tag_ns - self._virtual_ns)) // EQUAL_NS

    def _forget(self) -> None:
        """Forget callers that are gone and had no more than their share; once in a while."""
        if len(self._accounts) < _KEPT + 2 * self._open:
            return
        for account in list(self._accounts.values()):
            if not account.open and account.tag_ns <= self._virtual_ns:
                del self._accounts[account.name]
