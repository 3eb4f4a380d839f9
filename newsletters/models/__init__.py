from newsletters.models.article import Article, Source
from newsletters.models.delivery import Clock, Day, Delivery, Letter, Outgoing, Relay
from newsletters.models.issue import Issue, IssueText, Revision, Text
from newsletters.models.publication import Member, Publication
from newsletters.models.series import Entry, Series, Walk
from newsletters.models.subscriber import Subscriber, Suppression

__all__ = [
    "Article",
    "Clock",
    "Day",
    "Delivery",
    "Entry",
    "Issue",
    "IssueText",
    "Letter",
    "Member",
    "Outgoing",
    "Publication",
    "Relay",
    "Revision",
    "Series",
    "Source",
    "Subscriber",
    "Suppression",
    "Text",
    "Walk",
]
