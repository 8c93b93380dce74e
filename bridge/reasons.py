"""Why something stands still, in the reader's language.

Jobs say their reasons in English, in logs and in the store; the page and the
alarms of a French installation say them in French. What has no sentence here,
such as a server's own words, stays as it is.
"""

import re
from functools import cache

_FRENCH = {
    # a try at the server
    "{why}, but without the text of SERVER_EXPECT": "{why}, mais sans le texte de SERVER_EXPECT",
    "{why} (the body broke off)": "{why} (le corps s'est interrompu)",
    "{why} (check {name})": "{why} (vérifiez {name})",
    "the server is down: {why}": "le serveur ne répond pas : {why}",
    "the set-up is wrong: {why}": "réglages à revoir : {why}",
    "the server does not take what {names} and {number} more sent; it is tried again": (
        "le serveur ne prend pas ce qu'envoient {names} et {number} autres ; nouvel essai en cours"
    ),
    "the server does not take what {names} sent; it is tried again": (
        "le serveur ne prend pas ce qu'envoie {names} ; nouvel essai en cours"
    ),
    "no answer within {seconds} s": "pas de réponse en {seconds} s",
    "an answer that is no HTTP": "une réponse qui n'est pas du HTTP",
    "{why} at {where}": "{why}, à {where}",
    # the broker
    "{why}, again and again soon after it began: does the network cut it, or has a second bridge this BRIDGE_ID?": (
        "{why}, sans cesse, peu après son début : le réseau la coupe-t-il, ou un second pont a-t-il ce BRIDGE_ID ?"
    ),
    "not connected yet": "pas encore connecté",
    "the connection to the broker ended": "la liaison avec le broker s'est rompue",
    "the broker refuses the connection: {why}": "le broker refuse la connexion : {why}",
    "the broker refuses subscriptions: {what}": "le broker refuse des abonnements : {what}",
    "cannot reach the broker at {where}: {why}": "le broker {where} est injoignable : {why}",
    "the broker at {where} cannot be reached: {why}": "le broker {where} est injoignable : {why}",
    "the broker at {where} refuses the connection: {why}": "le broker {where} refuse la connexion : {why}",
    "the broker at {where} does not answer": "le broker {where} ne répond pas",
    "its certificate is not accepted: {what}": "son certificat n'est pas accepté : {what}",
    "no connection": "pas de connexion",
    # store, archives, clean-up
    "the store's disk is full or failing: {what}": "le disque de la base est plein ou défaillant : {what}",
    "the store's disk is full: {what}": "le disque de la base est plein : {what}",
    "the store is busy: {what}": "la base est occupée : {what}",
    "the store cannot be used now: {what}": "la base est inutilisable pour l'instant : {what}",
    "the store is damaged: {what}": "la base est endommagée : {what}",
    "archive failed: {why}": "l'archivage a échoué : {why}",
    "cleanup failed: {why}": "le nettoyage a échoué : {why}",
    "{why}; nothing is lost, the next clean-up goes on": "{why} ; rien n'est perdu, le prochain nettoyage continue",
    "{why}; nothing is lost, the next pass goes on": "{why} ; rien n'est perdu, le prochain passage continue",
    "cannot archive to {folder}: {why} ({what})": "impossible d'archiver dans {folder} : {why} ({what})",
    "cannot archive to {folder}: {why}": "impossible d'archiver dans {folder} : {why}",
    "cannot clean up: {why} ({what})": "impossible de nettoyer : {why} ({what})",
    "cannot draw to {folder}: {why}": "impossible de dessiner dans {folder} : {why}",
}
"""English to French; what stands for ``why`` is translated in its turn."""

_SYSTEM = {
    "bad user name or password": "nom ou mot de passe refusé",
    "connection refused": "connexion refusée",
    "connection reset by peer": "connexion coupée par l'autre côté",
    "connection timed out": "délai de connexion dépassé",
    "host is unreachable": "machine injoignable",
    "is a directory": "c'est un dossier",
    "name or service not known": "nom de machine inconnu",
    "network is unreachable": "réseau injoignable",
    "no route to host": "aucune route vers la machine",
    "no space left on device": "plus de place sur le disque",
    "no such file or directory": "fichier ou dossier absent",
    "not a directory": "ce n'est pas un dossier",
    "not authorized": "compte refusé",
    "permission denied": "permission refusée",
    "read-only file system": "système de fichiers en lecture seule",
    "temporary failure in name resolution": "nom de machine introuvable pour l'instant",
    "timed out": "délai dépassé",
}
"""What kernels, resolvers and brokers say, in small letters."""


PLACE = "[^ ]+:[^ ]+"
"""A host with its port, or an address."""


def reason_in(language: str, reason: str) -> str:
    """Return a reason in this language; one that is not known stays in English."""
    return _in_french(reason) if language == "fr" else reason


def _in_french(reason: str) -> str:
    if reason.lower() in _SYSTEM:
        return _SYSTEM[reason.lower()]
    for english, french in _FRENCH.items():
        match = _pattern(english).fullmatch(reason)
        if match:
            named = {name: _in_french(said) if name == "why" else said for name, said in match.groupdict().items()}
            return french.format(**named)
    return reason


@cache
def _pattern(english: str) -> re.Pattern[str]:
    """Return what finds a sentence."""
    parts = re.split(r"\{(\w+)\}", english)
    found = [
        re.escape(part) if not place % 2 else rf"(?P<{part}>{PLACE if part == 'where' else '.+'})"
        for place, part in enumerate(parts)
    ]
    return re.compile("".join(found), re.DOTALL)
