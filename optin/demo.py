"""« Le pas du jour »: a sample publication to try everything on. Its people are invented."""

import secrets
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from newsletters import addresses, composing
from newsletters.articles.importing import import_articles
from newsletters.models import Article, Member, Publication, Series, Subscriber
from optin.models import OptInPage

SAMPLES = Path(__file__).resolve().parent.parent / "newsletters" / "samples"
IN_SEQUENCE = 10

PUBLICATION = {
    "name": "Le pas du jour",
    "slug": "lepasdujour",
    "language": "fr",
    "zone": "Europe/Paris",
    "author": "Maud Castéra",
    "sender": "maud@lepasdujour.example",
    "reply_to": "maud@lepasdujour.example",
    "postal_address": "8, rue du Fanal, 64100 Bayonne, France",
    "tagline": "Un email par jour, à 7 h, pour les indépendants qui veulent durer.",
    "accent": "#0f5c46",
    "greeting": "Bonjour {{ prénom|à vous }},",
    "action": "Une question, un désaccord ? Répondez à cet email : c’est moi qui lis, et c’est moi qui réponds.",
    "sign_off": "À demain, 7 h.  \nMaud",
    "postscript": "P.S. Si quelque chose vous résiste depuis des semaines, parlons-en vingt minutes. C’est offert, et "
    "je ne vends rien au téléphone. [Choisir un créneau](https://lepasdujour.example/rendez-vous/)",
}

PAGE = {
    "slug": "accueil",
    "headline": "Devenez quelqu’un sur qui l’on peut compter.",
    "promise": "Un email par jour, à 7 h, deux minutes de lecture.",
    "introduction": "Pour les indépendants qui connaissent leur métier et veulent que cela se sache : une idée, "
    "un exemple, un geste à faire avant ce soir.",
    "bullets": "Une seule idée : Ni revue de liens ni dossier ; une chose comprise vaut mieux que dix parcourues.\n"
    "Un exemple vécu : Le mien, ou celui d’un client qui a dit oui, avec les chiffres quand il y en a.\n"
    "Un pas à faire : Petit, faisable avant ce soir, sans outil à acheter ni compte à ouvrir.",
    "quote": "« Je ne lis pas tous les emails que je reçois. Celui-là, si, debout, avec le café. "
    "En avril, j’ai enfin relancé mes devis : trois sur cinq ont été signés. »",
    "quote_by": "Nadia Benhaddou, graphiste à Nantes",
    "about": "Je m’appelle Maud Castéra. Pendant onze ans, j’ai vendu le travail des autres avant d’oser vendre "
    "le mien. Depuis 2017, à Bayonne, j’accompagne des indépendants qui veulent vivre de leur métier sans se déguiser. "
    "Quand on répond à mes emails, c’est moi qui lis, et c’est moi qui réponds.",
    "questions": "## Un email par jour, n’est-ce pas trop ?\n\n"
    "Pour certains, si. Un lien au bas de chaque email permet de faire une pause ou de partir. "
    "Un clic, sans question.\n\n"
    "## Est-ce vraiment gratuit ?\n\n"
    "Oui. Je vis de mes accompagnements. Un P.S. rappelle parfois qu’ils existent ; c’est toute la publicité.\n\n"
    "## J’habite loin de Paris. À quelle heure le recevrai-je ?\n\n"
    "À 7 h chez vous, à Montréal comme à Saint-Denis de La Réunion.\n\n"
    "## Que devient mon adresse ?\n\n"
    "Elle sert à vous envoyer cet email, et à rien d’autre. Elle n’est ni vendue, ni prêtée, ni croisée. "
    "Vous pouvez la faire effacer quand vous voulez.",
    "button": "Recevoir l’email de demain",
    "thanks": "Un mot de bienvenue vous attend déjà dans votre boîte.",
}

FIRST_NAMES = (
    "Adèle Bastien Camille Denis Élodie Farid Gaëlle Hugo Inès Joël Karine Léon Maïté Nadia Olivier Perrine Quentin "
    "Rachida Solène Thibault Ursule Valentin Wendy Yasmine"
)
ZONES = ["Europe/Paris"] * 5 + ["Europe/Brussels", "America/Montreal", "Indian/Reunion"]


class Login(NamedTuple):
    name: str
    password: str


@transaction.atomic
def make() -> Login | None:
    """Make everything; return the author's login, or None where that user was there before."""
    publication = Publication(**PUBLICATION)
    publication.full_clean()
    publication.save()
    articles = sorted(import_articles(publication, str(SAMPLES)).articles, key=lambda article: article.pk)
    sequence = welcome_sequence(publication, articles[:IN_SEQUENCE])
    composing.compose_into(composing.daily_queue(publication), articles[IN_SEQUENCE:])
    make_page(publication, sequence)
    make_readers(publication, sequence, timezone.now())
    return make_author(publication)


def welcome_sequence(publication: Publication, articles: list[Article]) -> Series:
    sequence = composing.sequence(publication, "dix-premiers-pas")
    composing.compose_into(sequence, articles)
    return sequence


def make_page(publication: Publication, sequence: Series) -> None:
    # The shortest one stands best beside the form.
    sample = min((entry.issue for entry in sequence.entries.select_related("issue")), key=lambda issue: len(issue.body))
    page = OptInPage(publication=publication, main=True, sample=sample, series=sequence, **PAGE)
    page.full_clean()
    page.save()


def make_readers(publication: Publication, sequence: Series, now: datetime) -> None:
    """Make a few dozen readers: some have read the sequence, the others stand somewhere in it."""
    ranks = [0, *sequence.entries.values_list("rank", flat=True)]
    for number, first_name in enumerate(FIRST_NAMES.split()):
        address = addresses.normalise(f"{ascii_name(first_name)}@lecteurs.example")
        reader = Subscriber.objects.create(
            publication=publication,
            address=address.address,
            address_key=address.key,
            address_hash=address.hash,
            zone=ZONES[number % len(ZONES)],
            language=publication.language,
            first_name=first_name,
            origin="demo",
        )
        reader.start(now, sequence)
        # Not a start in the past, which would owe the mornings since then.
        since = now - timedelta(days=number)
        Subscriber.objects.filter(pk=reader.pk).update(member_since=since)
        reader.walks.update(started_at=since, reached=ranks[min(number, len(ranks) - 1)])


def ascii_name(name: str) -> str:
    return unicodedata.normalize("NFD", name).encode("ascii", "ignore").decode().lower()


def make_author(publication: Publication) -> Login | None:
    users = get_user_model()._default_manager
    if users.filter(username="maud").exists():
        return None
    login = Login("maud", secrets.token_urlsafe(12))
    user = users.create_superuser(login.name, publication.sender, login.password)
    Member.objects.create(publication=publication, user=user)
    return login
