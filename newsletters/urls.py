from django.urls import path, re_path

from newsletters.views import access, archive, badge, hooks, leaving, letterbox, reader

urlpatterns = [
    *hooks.hooks(),
    path("leave/<str:token>/", leaving.leave, name="leave"),
    path("reader/<str:token>/", reader.reader, name="reader"),
    path("data/<str:token>/", access.access, name="access"),
    path("data/move/<str:token>/", access.move, name="move"),
    path("letterbox/", letterbox.messages, name="letterbox"),
    re_path(r"^letterbox/(?P<name>[0-9a-f]{40})/$", letterbox.message, name="letterbox_message"),
    re_path(r"^letterbox/(?P<name>[0-9a-f]{40})/html/$", letterbox.html, name="letterbox_html"),
    re_path(r"^letterbox/(?P<name>[0-9a-f]{40})/source/$", letterbox.source, name="letterbox_source"),
    path("<slug:slug>/archive/", archive.archive, name="archive"),
    path("<slug:slug>/archive/<slug:public_id>/", archive.issue, name="archive_issue"),
    path("<slug:slug>/badge.svg", badge.badge, name="badge"),
    path("<slug:slug>/privacy/", archive.privacy, name="privacy"),
]
