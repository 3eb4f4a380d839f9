from django.contrib.auth import views as auth
from django.urls import path

from desk import stopping, views, waving
from desk.forms import LoginForm

app_name = "desk"

login = auth.LoginView.as_view(
    template_name="desk/login.html", authentication_form=LoginForm, redirect_authenticated_user=True
)

urlpatterns = [
    path("", views.rooms, name="rooms"),
    path("login/", login, name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("<slug:slug>/", views.show_today, name="today"),
    path("<slug:slug>/place/", views.place, name="place"),
    path("<slug:slug>/cover/", views.cover, name="cover"),
    path("<slug:slug>/break/", views.announce, name="break"),
    path("<slug:slug>/import/", views.bring_in, name="import"),
    path("<slug:slug>/waves/", waving.calendar, name="waves"),
    path("<slug:slug>/stop/", stopping.stop, name="stop"),
    path("<slug:slug>/stop/<int:pk>/", stopping.decide, name="decide"),
    path("<slug:slug>/issues/<int:pk>/", views.issue, name="issue"),
    path("<slug:slug>/issues/<int:pk>/html/", views.issue_html, name="issue_html"),
    path("<slug:slug>/issues/<int:pk>/compare/", views.compare, name="compare"),
]
