"""What a promise costs: how far the texts at hand would reach."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from newsletters import costs
from newsletters.costs import Stock
from newsletters.models import Article, Day, Issue, Publication, Series
from tests.test_planning import make_issue

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def make_article(publication: Publication, title: str, length: int = 900, age: int | None = None) -> Article:
    at = NOW - timedelta(days=age) if age is not None else None
    body = "Un mot. " * (length // 8)
    return Article.objects.create(
        publication=publication, title=title, url=f"https://blog.example/{title}", body=body, published_at=at
    )


def test_ten_texts_last_ten_days_daily_and_five_weeks_at_two_a_week() -> None:
    stock = Stock(texts=10, parts=14, weekly=0)

    found = {(one.weekdays, one.in_parts): one.days for one in costs.reaches(stock)}

    assert found["1234567", False] == 10
    assert found["1234567", True] == 14
    assert found["24", False] == 35
    assert costs.summary(stock, "en").startswith(
        "10 texts: 10 days every day; 14 days every day, the long texts in parts;"
    )
    assert "5 weeks on Tuesday and Thursday" in costs.summary(stock, "en")


def test_what_the_blog_publishes_makes_a_promise_last_longer_or_for_ever() -> None:
    found = {one.weekdays: one.days for one in costs.reaches(Stock(texts=10, parts=10, weekly=2))}

    assert found["1234567"] == 14
    assert found["24"] is None


@pytest.mark.parametrize(
    ("stock", "weekdays", "words"),
    [
        (
            Stock(40, 40, 0),
            "1234567",
            "Promise an email every day: what is there lasts 5 weeks, time enough to write on.",
        ),
        (Stock(10, 14, 0), "135", "Promise an email on Monday, Wednesday and Friday, the long texts in parts:"),
        (Stock(10, 10, 0), "24", "Promise an email on Tuesday and Thursday: what is there lasts 5 weeks"),
        (Stock(3, 3, 2), "24", "Promise an email on Tuesday and Thursday: your blog publishes as often by itself."),
        (
            Stock(2, 2, 0),
            "2",
            "Promise an email on Tuesday at most: what is there lasts 14 days. Write a few texts more first.",
        ),
    ],
)
def test_it_recommends_the_most_frequent_promise_that_leaves_a_month(stock: Stock, weekdays: str, words: str) -> None:
    best = costs.recommended(stock)

    assert best is not None
    assert best.weekdays == weekdays
    assert costs.advice(stock, "en").startswith(words)


def test_without_texts_it_says_what_to_do_first() -> None:
    assert costs.recommended(Stock(0, 0, 0)) is None
    assert costs.advice(Stock(0, 0, 0), "en") == "Nothing is imported yet. Import your blog, then choose a promise."


def test_it_counts_what_no_date_has_sent_and_the_last_year_of_the_blog(publication: Publication) -> None:
    for number in range(8):
        make_article(publication, f"new{number}", age=number * 7)
    make_article(publication, "long", length=7_600, age=400)
    sent = make_article(publication, "sent", age=60)
    issue = make_issue(publication, "sent")
    issue.article = sent
    issue.save()
    Day.objects.create(publication=publication, date=NOW.date(), issue=issue, fixed_at=NOW)
    make_issue(publication, "own words")

    stock = costs.stock(publication, NOW)

    assert (stock.texts, stock.parts) == (10, 12)
    assert round(stock.weekly, 2) == round(9 / (60 / 7), 2)


def test_the_command_prints_ledger_runway_and_costs(publication: Publication, capsys: Any) -> None:
    Publication.objects.update(language="en")
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    series.append(make_issue(publication, "La chaise vide"))
    today = datetime.now(UTC).date()
    for age, kept in ((3, True), (2, False), (1, True)):
        Day.objects.create(
            publication=publication,
            date=today - timedelta(days=age),
            issue=Issue.objects.get() if age == 1 else None,
            fixed_at=NOW,
            closed_at=NOW,
            expected=20,
            on_time=20 if kept else 0,
            missed={} if kept else {"dry": 20},
            kept=kept,
        )

    call_command("promise", "pas")

    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].split()[:4] == ["Date", "Kept", "Expected", "On"]
    assert [line.split()[1:4] for line in lines[1:4]] == [["yes", "20", "20"], ["no", "20", "0"], ["yes", "20", "20"]]
    assert "20 dry" in lines[2]
    assert "La chaise vide" in lines[3]
    assert "1 days in a row; 1 at best; 2 of 3 kept." in printed
    assert "On time: 66.7 % over 30 days, 66.7 % over 365." in printed
    assert "0 days ahead are covered." in printed
    assert "Nothing is imported yet." in printed


def test_the_command_names_a_publication_that_is_not_there(db: None) -> None:
    with pytest.raises(CommandError, match="There is no publication nobody"):
        call_command("promise", "nobody")
