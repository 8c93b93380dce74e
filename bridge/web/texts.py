"""The page's words, numbers and ages, in French and in English."""

from datetime import datetime
from zoneinfo import ZoneInfo

from bridge.local_times import localize
from bridge.reasons import reason_in

LANGUAGES = {"fr": "Français", "en": "English"}

NO_BREAK = "\N{NO-BREAK SPACE}"
NARROW = "\N{NARROW NO-BREAK SPACE}"

WORDS: dict[str, dict[str, str]] = {
    "fr": {
        "title": "Capteurs en direct",
        "skip": "Aller au contenu",
        "language": "Langue",
        "loading": "Chargement…",
        "no_script": "Cette page a besoin de JavaScript ; mqtt-bridge status dit la même chose dans un terminal.",
        "stale": "La page ne reçoit plus rien depuis un moment : le pont est arrêté ou injoignable. "
        "Ce qui suit est le dernier état connu.",
        "broken": "L'état ne peut pas être lu : {reason}. Ce qui suit est le dernier état connu.",
        "unreadable": "L'état ne peut pas être lu : {reason}",
        "again": "Réessayer",
        "all_well": "Tout va bien",
        "standing": "À l'arrêt : {places}",
        "watch": "À surveiller",
        "way": "Le chemin des mesures",
        "outbox": "Nœuds",
        "broker": "Broker",
        "store": "Base",
        "server": "Serveur",
        "archive": "Archive",
        "what_outbox": "en attente sur les nœuds",
        "what_broker": "dernière mesure reçue",
        "what_store": "mesures reçues",
        "what_server": "en attente d'envoi",
        "what_archive": "en attente d'archivage",
        "flow_ok": "en marche",
        "flow_waiting": "ralenti",
        "flow_still": "à l'arrêt",
        "flow_off": "sans objet",
        "flow_unknown": "inconnu",
        "oldest": "la plus ancienne : {age}",
        "ago": "il y a {age}",
        "now": "à l'instant",
        "never": "jamais",
        "last_archive": "dernière {ago}",
        "why_outbox_offline": "{number} nœuds hors ligne gardent leurs mesures chez eux",
        "why_outbox_offline_1": "{node} est hors ligne et garde ses mesures chez lui",
        "why_outbox_old": "{node} est en ligne et garde des mesures de {age} : les reçus lui arrivent-ils ?",
        "why_job_absent": "le travail « {job} » ne tourne pas : lancez `mqtt-bridge run`",
        "why_job_silent": "le travail « {job} » ne dit plus rien depuis {age} : voyez son journal",
        "why_broker": "pas de liaison avec le broker : {reason}",
        "why_full": "la base n'accepte plus rien : {reason}",
        "why_paused": "réglages à revoir : {reason}",
        "why_down": "le serveur ne prend rien : {reason}",
        "why_some": "{reason}",
        "why_server_none": "aucun serveur : SERVER_URL est vide",
        "why_failing": "{reason}",
        "why_overdue": "la dernière archive date de {age} ; il en faut une toutes les {interval}",
        "alarms": "Alarmes",
        "alarm_since": "depuis {age}",
        "severity_info": "information",
        "severity_warning": "avertissement",
        "severity_critical": "critique",
        "alarms_none": "Aucune alarme.",
        "alarms_no_rules": "Aucune règle : ALARM_RULES nomme un fichier de règles.",
        "nodes": "Nœuds",
        "nodes_none": "Aucun nœud n'a encore donné signe de vie.",
        "nodes_none_help": "Le pont et les nœuds ont-ils le même broker et le même MQTT_TOPIC_PREFIX ? "
        "`mqtt-node status` sur le Raspberry Pi dit pourquoi il n'envoie pas.",
        "node": "Nœud",
        "state": "État",
        "values": "Dernières valeurs",
        "age": "Reçue",
        "waiting": "Gardées",
        "lost": "Perdues",
        "state_online": "en ligne",
        "state_offline": "hors ligne",
        "state_late": "en retard",
        "state_unknown": "inconnu",
        "state_clock": "horloge non réglée",
        "state_fault": "capteur en panne",
        "spark": "{quantity}, dernière heure",
        "charts": "Courbes",
        "range": "Période",
        "range_1h": "1 h",
        "range_24h": "24 h",
        "range_7d": "7 j",
        "range_30d": "30 j",
        "range_own": "Dates",
        "from": "Du",
        "to": "Au",
        "date_form": "JJ/MM/AAAA",
        "choose_nodes": "Nœuds",
        "all_nodes": "tous les nœuds",
        "unzoom": "Revenir à toute la période",
        "charts_none": "Pas encore de courbe : elle apparaît avec la première mesure.",
        "chart_empty": "Aucune mesure dans cette période.",
        "chart_of": "{quantity} au cours du temps",
        "figures": "Valeurs de la période",
        "line": "Ligne",
        "low": "Min.",
        "mean": "Moyenne",
        "high": "Max.",
        "number": "Mesures",
        "by_minute": "moyennes par minute",
        "by_hour": "moyennes par heure",
        "letters": "Lettres mortes",
        "letters_none": "Aucune : rien n'attend de décision.",
        "letters_intro": "Ce qui ne peut plus avancer seul est gardé entier, jusqu'à votre décision.",
        "letters_read_only": "Lecture seule : avec WEB_PASSWORD on décide ici, sinon par "
        "`mqtt-bridge dead-letters retry` ou `drop`.",
        "letters_more": "{number} autres suivent : `mqtt-bridge dead-letters list` les montre toutes.",
        "payload": "Contenu",
        "retry": "Réessayer",
        "retry_of": "Réessayer {what}",
        "drop": "Abandonner",
        "drop_of": "Abandonner {what}",
        "drop_sure": "Abandonner {what} pour toujours ?",
        "retried": "{what} : reprise.",
        "not_retried": "{what} : {reason}",
        "dropped": "{what} : abandonnée.",
        "archives": "Archives",
        "archives_none": "Pas encore d'archive.",
        "archives_older": "{number} archives plus anciennes",
        "archive_begun": "Archive du",
        "archive_span": "Mesures",
        "archive_rows": "Lignes",
        "archive_files": "Fichiers",
        "download": "Télécharger {name}",
        "gone": "plus ici",
        "lost_told": "{number} mesures sont perdues ; chaque perte est racontée au tableau des nœuds.",
        "lost_told_1": "1 mesure est perdue ; le tableau des nœuds dit laquelle.",
        "version": "Version {version}, base {store}",
        "unit_humidity": "% HR",
        "forbidden": "Cette page ne répond qu'à cette machine tant que WEB_PASSWORD n'est pas réglé.",
    },
    "en": {
        "title": "Sensors live",
        "skip": "Skip to content",
        "language": "Language",
        "loading": "Loading…",
        "no_script": "This page needs JavaScript; mqtt-bridge status says the same on a terminal.",
        "stale": "The page has received nothing for a while: the bridge has stopped or cannot be reached. "
        "What follows is the last state known.",
        "broken": "The state cannot be read: {reason}. What follows is the last state known.",
        "unreadable": "The state cannot be read: {reason}",
        "again": "Try again",
        "all_well": "All is well",
        "standing": "Standing still: {places}",
        "watch": "Worth a look",
        "way": "The way of the readings",
        "outbox": "Nodes",
        "broker": "Broker",
        "store": "Store",
        "server": "Server",
        "archive": "Archive",
        "what_outbox": "waiting at the nodes",
        "what_broker": "last reading received",
        "what_store": "readings received",
        "what_server": "waiting to be sent",
        "what_archive": "waiting to be archived",
        "flow_ok": "running",
        "flow_waiting": "slowed down",
        "flow_still": "standing still",
        "flow_off": "not in use",
        "flow_unknown": "unknown",
        "oldest": "oldest: {age}",
        "ago": "{age} ago",
        "now": "just now",
        "never": "never",
        "last_archive": "last {ago}",
        "why_outbox_offline": "{number} nodes are offline and keep their readings",
        "why_outbox_offline_1": "{node} is offline and keeps its readings",
        "why_outbox_old": "{node} is online and yet keeps readings of {age}: do the bridge's receipts reach it?",
        "why_job_absent": "the job “{job}” is not running: start `mqtt-bridge run`",
        "why_job_silent": "the job “{job}” has said nothing for {age}: look at its log",
        "why_broker": "no connection to the broker: {reason}",
        "why_full": "the store takes nothing more: {reason}",
        "why_paused": "the set-up is wrong: {reason}",
        "why_down": "the server takes nothing: {reason}",
        "why_some": "{reason}",
        "why_server_none": "no server: SERVER_URL is set to nothing",
        "why_failing": "{reason}",
        "why_overdue": "the last archive is {age} old; one is due every {interval}",
        "alarms": "Alarms",
        "alarm_since": "for {age}",
        "severity_info": "info",
        "severity_warning": "warning",
        "severity_critical": "critical",
        "alarms_none": "No alarm.",
        "alarms_no_rules": "No rules: ALARM_RULES names a file of them.",
        "nodes": "Nodes",
        "nodes_none": "No node was ever heard.",
        "nodes_none_help": "Have nodes and bridge the same broker and MQTT_TOPIC_PREFIX? "
        "`mqtt-node status` on the Raspberry Pi says why it does not send.",
        "node": "Node",
        "state": "State",
        "values": "Last values",
        "age": "Received",
        "waiting": "Kept",
        "lost": "Lost",
        "state_online": "online",
        "state_offline": "offline",
        "state_late": "late",
        "state_unknown": "unknown",
        "state_clock": "clock not set",
        "state_fault": "sensor fault",
        "spark": "{quantity}, last hour",
        "charts": "Charts",
        "range": "Range",
        "range_1h": "1 h",
        "range_24h": "24 h",
        "range_7d": "7 d",
        "range_30d": "30 d",
        "range_own": "Dates",
        "from": "From",
        "to": "To",
        "date_form": "YYYY-MM-DD",
        "choose_nodes": "Nodes",
        "all_nodes": "all nodes",
        "unzoom": "Back to the whole range",
        "charts_none": "No chart yet: it appears with the first reading.",
        "chart_empty": "No readings in this range.",
        "chart_of": "{quantity} over time",
        "figures": "Figures of this range",
        "line": "Line",
        "low": "Min.",
        "mean": "Mean",
        "high": "Max.",
        "number": "Readings",
        "by_minute": "means by minute",
        "by_hour": "means by hour",
        "letters": "Dead letters",
        "letters_none": "None: nothing waits for a decision.",
        "letters_intro": "What can never go on by itself is kept whole until you decide.",
        "letters_read_only": "Read only: with WEB_PASSWORD you decide here, else with "
        "`mqtt-bridge dead-letters retry` or `drop`.",
        "letters_more": "{number} more follow: `mqtt-bridge dead-letters list` shows them all.",
        "payload": "Payload",
        "retry": "Retry",
        "retry_of": "Retry {what}",
        "drop": "Drop",
        "drop_of": "Drop {what}",
        "drop_sure": "Drop {what} for ever?",
        "retried": "{what}: taken in again.",
        "not_retried": "{what}: {reason}",
        "dropped": "{what}: dropped.",
        "archives": "Archives",
        "archives_none": "No archive yet.",
        "archives_older": "{number} older archives",
        "archive_begun": "Archive of",
        "archive_span": "Readings",
        "archive_rows": "Rows",
        "archive_files": "Files",
        "download": "Download {name}",
        "gone": "no longer here",
        "lost_told": "{number} readings are lost; the table of nodes has each node's share.",
        "lost_told_1": "1 reading is lost; the table of nodes says whose.",
        "version": "Version {version}, store {store}",
        "unit_humidity": "%RH",
        "forbidden": "This page answers this machine alone as long as WEB_PASSWORD is not set.",
    },
}

_AGE_UNITS = {
    "fr": (("j", 86400), ("h", 3600), ("min", 60)),
    "en": (("d", 86400), ("h", 3600), ("min", 60)),
}


class Texts:
    """Words and figures in one language and time zone."""

    def __init__(self, language: str, zone: ZoneInfo) -> None:
        self.language = language
        self.zone = zone
        self._words = WORDS[language]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text; numbers among the values are written as this language writes them."""
        shown = {name: self.count(value) if isinstance(value, int) else value for name, value in values.items()}
        return self._words[key].format(**shown) if shown else self._words[key]

    def reason(self, reason: str) -> str:
        """Return why something stands still, as a job said it in English, in this language as far as it is known."""
        return reason_in(self.language, reason)

    def count(self, number: int) -> str:
        """Return a whole number with its thousands apart: ``12 345`` or ``12,345``."""
        return f"{number:,}".replace(",", NARROW if self.language == "fr" else ",")

    def number(self, value: float) -> str:
        """Return a measured value with at most six significant figures: ``21,4`` or ``21.4``."""
        text = f"{value:.6g}"
        return text.replace(".", ",") if self.language == "fr" else text

    def unit(self, unit: str) -> str:
        """Return a unit as this language writes it."""
        return self._words["unit_humidity"] if unit == "%RH" else unit

    def measured(self, value: float, unit: str) -> str:
        """Return a value with its unit, which no line break divides."""
        return f"{self.number(value)}{NO_BREAK}{self.unit(unit)}" if unit else self.number(value)

    def age(self, age_s: float | None) -> str:
        """Return an age as a person would say it."""
        if age_s is None:
            return "–"
        for unit, size in _AGE_UNITS[self.language]:
            if age_s >= 2 * size:
                return f"{age_s / size:.0f}{NO_BREAK}{unit}"
        return f"{max(age_s, 0.0):.0f}{NO_BREAK}s"

    def ago(self, age_s: float | None) -> str:
        """Return how long ago something was."""
        if age_s is not None and age_s < 2:
            return self("now")
        return self("never") if age_s is None else self("ago", age=self.age(age_s))

    def time(self, time_ms: int) -> str:
        """Return a time to the minute, local: ``24/11/2026 20:31`` or ``2026-11-24 20:31``."""
        local: datetime = localize(time_ms, self.zone)
        return f"{local:%d/%m/%Y %H:%M}" if self.language == "fr" else f"{local:%Y-%m-%d %H:%M}"
