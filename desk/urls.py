from django.contrib.auth import views as auth
from django.urls import path

from desk import promising, stopping, views, waving
from desk.entering import Login

app_name = "desk"

urlpatterns = [
    path("", views.rooms, name="rooms"),
    path("login/", Login.as_view(), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("<slug:slug>/", views.show_today, name="today"),
    path("<slug:slug>/place/", views.place, name="place"),
    path("<slug:slug>/cover/", views.cover, name="cover"),
    path("<slug:slug>/break/", views.announce, name="break"),
    path("<slug:slug>/promise/", promising.promise, name="promise"),
    path("<slug:slug>/promise/<int:pk>/", promising.drop, name="drop_change"),
    path("<slug:slug>/import/", views.bring_in, name="import"),
    path("<slug:slug>/break/<int:pk>/", views.take_back, name="take_back"),
    path("<slug:slug>/waves/", waving.calendar, name="waves"),
    path("<slug:slug>/stop/", stopping.stop, name="stop"),
    path("<slug:slug>/go-on/", stopping.go_on, name="go_on"),
    path("<slug:slug>/stop/<int:pk>/", stopping.decide, name="decide"),
    path("<slug:slug>/issues/<int:pk>/", views.issue, name="issue"),
    path("<slug:slug>/issues/<int:pk>/html/", views.issue_html, name="issue_html"),
    path("<slug:slug>/issues/<int:pk>/compare/", views.compare, name="compare"),
]
