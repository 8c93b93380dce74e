"""How alarms are said, in French and in English: one sentence each, with the values that caused them."""

from bridge.alarms.rules import Rule
from bridge.durations import duration_text
from bridge.quantity_names import quantity_name
from bridge.reasons import reason_in
from mqtt_client.reading import UNITS

_WORDS = {
    "en": {
        "above": "{place}: {quantity} {value} is above {bound}{lasting}",
        "below": "{place}: {quantity} {value} is below {bound}{lasting}",
        "back": "{place}: {quantity} {value} is back within bounds",
        "lasting": " for {duration}",
        "no data": "{place}: no reading for {duration}",
        "data": "{place}: readings arrive again",
        "lost": "{place}: {number} readings are lost",
        "lost unknown": "{place}: readings are lost, their number is unknown",
        "no loss": "{place}: no loss was told for {duration}",
        "server": "the server does not take readings: {reason}",
        "server back": "the server takes readings again",
        "disk": "{free} ({share}) are free on the disk of {place}",
        "removed": "{rule}: the rule is no more",
    },
    "fr": {
        "above": "{place} : {quantity} {value}, au-dessus de {bound}{lasting}",
        "below": "{place} : {quantity} {value}, au-dessous de {bound}{lasting}",
        "back": "{place} : {quantity} {value}, de nouveau dans les limites",
        "lasting": " depuis {duration}",
        "no data": "{place} : aucune mesure depuis {duration}",
        "data": "{place} : les mesures arrivent de nouveau",
        "lost": "{place} : {number} mesures perdues",
        "lost unknown": "{place} : des mesures sont perdues, leur nombre est inconnu",
        "no loss": "{place} : aucune perte signalée depuis {duration}",
        "server": "le serveur ne prend pas les mesures : {reason}",
        "server back": "le serveur prend de nouveau les mesures",
        "disk": "{free} ({share}) libres sur le disque de {place}",
        "removed": "{rule} : la règle n'existe plus",
    },
}


class Words:
    """Sentences in one language."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._words = _WORDS[language]

    def value(self, rule: Rule, place: str, value: float) -> str:
        """Say how a value stands to a rule's bounds."""
        which = "back"
        bound: float | None = None
        if rule.above is not None and value > rule.above:
            which, bound = "above", rule.above
        elif rule.below is not None and value < rule.below:
            which, bound = "below", rule.below
        lasting = self._say("lasting", duration=self.duration(rule.duration_s)) if rule.duration_s else ""
        name = quantity_name(rule.quantity, self._language)
        return self._say(
            which,
            place=place,
            quantity=name.lower() if rule.quantity in UNITS and rule.quantity != "co2" else name,
            value=self._measure(value, rule.quantity),
            bound="" if bound is None else self._measure(bound, rule.quantity),
            lasting=lasting,
        )

    def silence(self, node: str, rule: Rule, *, silent: bool) -> str:
        """Say whether a node's readings arrive."""
        duration = self.duration(rule.duration_s)
        return self._say("no data", place=node, duration=duration) if silent else self._say("data", place=node)

    def loss(self, node: str, rule: Rule, number: int | None) -> str:
        """Say how many readings a node has lost lately; None for an unknown number, 0 for none."""
        if number is None:
            return self._say("lost unknown", place=node)
        if number:
            return self._say("lost", place=node, number=str(number))
        return self._say("no loss", place=node, duration=self.duration(rule.duration_s))

    def server(self, reason: str | None) -> str:
        """Say why the server takes nothing; None when it does."""
        return (
            self._say("server back")
            if reason is None
            else self._say("server", reason=reason_in(self._language, reason))
        )

    def disk(self, folder: str, free_bytes: int, share: float) -> str:
        """Say how much room there is."""
        size, unit = float(free_bytes), 0
        while size >= 1000 and unit < 4:
            size, unit = size / 1000, unit + 1
        letter = "o" if self._language == "fr" else "B"
        prefix = ("", "k", "M", "G", "T")[unit]
        return self._say("disk", place=folder, free=f"{self._number(size, 3)} {prefix}{letter}", share=f"{share:.0%}")

    def removed(self, rule: str) -> str:
        """Say that a rule is no longer in the file."""
        return self._say("removed", rule=rule)

    def duration(self, seconds: float) -> str:
        """Say a duration; French has j for days."""
        said = duration_text(seconds)
        return said.replace(" d", " j") if self._language == "fr" else said

    def _measure(self, value: float, quantity: str) -> str:
        return f"{self._number(value, 5)} {UNITS.get(quantity) or ''}".rstrip()

    def _number(self, value: float, digits: int) -> str:
        said = f"{value:.{digits}g}"
        return said.replace(".", ",") if self._language == "fr" else said

    def _say(self, key: str, **values: str) -> str:
        return self._words[key].format(**values)
