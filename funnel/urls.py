from django.contrib import admin
from django.urls import include, path

from desk.entering import AdminLoginForm
from funnel import health

admin.site.login_form = AdminLoginForm
handler500 = "funnel.health.failed"
urlpatterns = [
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("admin/", admin.site.urls),
    path("desk/", include("desk.urls")),
    path("", include("newsletters.urls")),
    # Last, because the first word of its addresses is a publication's.
    path("", include("optin.urls")),
]
