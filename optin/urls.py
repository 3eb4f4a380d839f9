from django.urls import path, re_path

from optin.views import confirming, joining, shared

urlpatterns = [
    path("", joining.home, name="home"),
    re_path(r"^accent/(?P<colour>[0-9a-f]{6})\.css$", shared.accent, name="accent"),
    re_path(r"^media/(?P<name>pages/[A-Za-z0-9_.-]+)$", shared.image, name="media"),
    path("confirm/<str:token>/", confirming.confirm, name="confirm"),
    path("<slug:slug>/", joining.main_page, name="main_page"),
    path("<slug:slug>/join/<slug:name>/", joining.page, name="page"),
    path("<slug:slug>/join/<slug:name>/embed/", joining.embed, name="embed"),
    path("<slug:slug>/join/<slug:name>/thanks/<str:token>/", confirming.thanks, name="thanks"),
]
