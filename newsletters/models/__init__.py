from newsletters.models.article import Article, Source
from newsletters.models.bounce import Bounce
from newsletters.models.delivery import Delivery
from newsletters.models.halt import Halt
from newsletters.models.heartbeat import Heartbeat
from newsletters.models.issue import Issue, IssueText, Revision, Text
from newsletters.models.letter import Letter
from newsletters.models.limits import Allowance, Line, Wave
from newsletters.models.outgoing import Outgoing
from newsletters.models.promise import (
    Alarm,
    Break,
    Clock,
    Correction,
    Day,
    PromiseChange,
    Rehearsal,
    StepsAhead,
    Tally,
)
from newsletters.models.publication import Member, Publication
from newsletters.models.relay import Relay, Rest
from newsletters.models.seen import Seen
from newsletters.models.series import Entry, Series, Walk
from newsletters.models.stop import Stop
from newsletters.models.subscriber import Subscriber, Suppression

__all__ = [
    "Alarm",
    "Allowance",
    "Article",
    "Bounce",
    "Break",
    "Clock",
    "Correction",
    "Day",
    "Delivery",
    "Entry",
    "Halt",
    "Heartbeat",
    "Issue",
    "IssueText",
    "Letter",
    "Line",
    "Member",
    "Outgoing",
    "PromiseChange",
    "Publication",
    "Rehearsal",
    "Relay",
    "Rest",
    "Revision",
    "Seen",
    "Series",
    "Source",
    "StepsAhead",
    "Stop",
    "Subscriber",
    "Suppression",
    "Tally",
    "Text",
    "Walk",
    "Wave",
]
