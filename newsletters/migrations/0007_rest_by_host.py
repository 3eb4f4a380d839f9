import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('newsletters', '0006_count_steps_ahead'),
    ]

    operations = [
        # Workers of the version before read these columns until they end, so they stay in the table.
        migrations.AlterField(
            model_name='relay',
            name='failures',
            field=models.PositiveSmallIntegerField(default=0, db_default=0, editable=False),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name='relay', name='failures'),
                migrations.RemoveField(model_name='relay', name='resting_until'),
            ],
        ),
        migrations.CreateModel(
            name='Rest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('host', models.CharField(blank=True, max_length=255)),
                ('until', models.DateTimeField()),
                ('failures', models.PositiveSmallIntegerField(default=0)),
                ('relay', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rests', to='newsletters.relay')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('relay', 'host'), name='rest_once_a_host')],
            },
        ),
    ]
