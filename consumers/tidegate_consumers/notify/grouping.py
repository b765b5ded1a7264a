"""A flood becomes a few messages: alerts that come together are told together, with their number."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from tidegate.records import Alert
from tidegate.records.alert import fingerprint
from tidegate_consumers.notify.parcel import Parcel

MOST_ALONE = 5
"""Alerts of one kind that are each told for themselves."""

MOST_MESSAGES = 20
"""When there would be more, kinds are made coarser."""

Labels = dict[str, str]


def _by_tenant(alert: Alert) -> Labels:
    return {"rule": alert.rule, "tenant": alert.tenant} | _by_severity(alert)


def _by_rule(alert: Alert) -> Labels:
    return {"rule": alert.rule} | _by_severity(alert)


def _by_severity(alert: Alert) -> Labels:
    return {"severity": alert.severity, "dry_run": str(alert.dry_run)}


_KINDS: Sequence[Callable[[Alert], Labels]] = (_by_tenant, _by_rule, _by_severity)
"""From the finest on."""


class Groups:
    """Which alerts were told as one, so that they are resolved as one."""

    def __init__(self) -> None:
        self._members: dict[str, set[str]] = {}
        self._group_of: dict[str, str] = {}
        self._assumed: set[str] = set()

    def assume(self, firing: Iterable[Alert]) -> None:
        """Take alerts that fire since before a restart for grouped where they are many.

        Whether they were is not known any more; `Parcel.assumed` says so.
        """
        for group, alerts in _kinds(firing, _by_tenant).items():
            if len(alerts) > MOST_ALONE:
                self._assumed.add(group)
                self._join(group, alerts)

    def parcels(self, alerts: Iterable[Alert]) -> list[Parcel]:
        """Pack alerts in the order of the log: what one of them says follows what it said before."""
        packed = []
        for changes in rounds(alerts):
            packed += self._firing([alert for alert in changes if alert.status == "firing"])
            packed += self._resolved([alert for alert in changes if alert.status != "firing"])
        return packed

    def _firing(self, alerts: Sequence[Alert]) -> list[Parcel]:
        packed = []
        for group, kind in self._coarse_enough(alerts).items():
            is_told = group in self._members and group not in self._assumed
            if len(kind) <= MOST_ALONE and not is_told:
                packed += [Parcel(records=(alert,)) for alert in kind]
                continue
            self._join(group, kind)
            packed.append(Parcel(records=tuple(kind), group=group, left=len(self._members[group])))
        return packed

    def _resolved(self, alerts: Sequence[Alert]) -> list[Parcel]:
        packed = []
        told: dict[str, list[Alert]] = defaultdict(list)
        alone = []
        for alert in alerts:
            group = self._group_of.pop(alert.fingerprint, "")
            if group:
                told[group].append(alert)
                self._members[group].discard(alert.fingerprint)
            else:
                alone.append(alert)
        for group, kind in told.items():
            left, assumed = len(self._members[group]), group in self._assumed
            packed.append(Parcel(records=tuple(kind), group=group, left=left, assumed=assumed))
            if not left:
                del self._members[group]
                self._assumed.discard(group)
        for kind in self._coarse_enough(alone).values():
            if len(kind) <= MOST_ALONE:
                packed += [Parcel(records=(alert,)) for alert in kind]
            else:
                packed.append(Parcel(records=tuple(kind)))
        return packed

    def _coarse_enough(self, alerts: Sequence[Alert]) -> dict[str, list[Alert]]:
        kinds: dict[str, list[Alert]] = {}
        for labels in _KINDS:
            kinds = _kinds(alerts, labels)
            if sum(1 if len(kind) > MOST_ALONE else len(kind) for kind in kinds.values()) <= MOST_MESSAGES:
                break
        return kinds

    def _join(self, group: str, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self._group_of[alert.fingerprint] = group
            self._members.setdefault(group, set()).add(alert.fingerprint)


def _kinds(alerts: Iterable[Alert], labels: Callable[[Alert], Labels]) -> dict[str, list[Alert]]:
    kinds: dict[tuple[tuple[str, str], ...], list[Alert]] = defaultdict(list)
    for alert in alerts:
        kinds[tuple(labels(alert).items())].append(alert)
    return {fingerprint(dict(kind) | {"group": labels.__name__}): same for kind, same in kinds.items()}


def rounds(alerts: Iterable[Alert]) -> list[list[Alert]]:
    """Split a log into rounds in which no alert changes twice."""
    changes: Counter[str] = Counter()
    rounds: list[list[Alert]] = []
    for alert in alerts:
        at = changes[alert.fingerprint]
        changes[alert.fingerprint] += 1
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(alert)
    return rounds
