"""``nodes list``: who has an account, who was heard of, and how each is."""

from dataclasses import asdict, dataclass

from bridge.provision.accounts import Account
from bridge.status import NodeStatus, format_age


@dataclass(frozen=True)
class Listed:
    """One node, known by its account, by its readings, or by both."""

    node: str
    account: str | None
    """``password``, ``certificate``, or None: heard of and without an account."""
    account_until: str | None
    state: str
    last_time: str | None
    last_age_s: float | None
    version: str | None
    lost: int

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return asdict(self)

    def __str__(self) -> str:
        until = f" until {self.account_until[:10]}" if self.account_until else ""
        seen = "never" if self.last_age_s is None else f"{format_age(self.last_age_s)} ago"
        return (
            f"{self.node:20} {(self.account or 'no account') + until:29} {self.state:8} last seen {seen:12} "
            f"version {self.version or '-':10} lost {self.lost}"
        )


def listed(accounts: dict[str, Account], heard: list[NodeStatus]) -> list[Listed]:
    """Join accounts with what the store knows, by name."""
    by_name = {node.node: node for node in heard}
    found = []
    for name in sorted(accounts.keys() | by_name.keys()):
        account, node = accounts.get(name), by_name.get(name)
        found.append(
            Listed(
                node=name,
                account=account.kind if account else None,
                account_until=account.not_after if account else None,
                state=node.state if node else "unknown",
                last_time=node.last_time if node else None,
                last_age_s=node.last_age_s if node else None,
                version=node.version if node else None,
                lost=node.lost if node else 0,
            )
        )
    return found
