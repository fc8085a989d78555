"""What trainers wrote last before they ended in the middle of an attempt."""

from django.db import models
from django.db.models.functions import Now


class TrainerLogTail(models.Model):
    """The end of a trainer's log when an attempt lost it. For operators alone: a library may quote what it works on."""

    id = models.BigAutoField(primary_key=True)
    subject = models.CharField(max_length=64, help_text="The public id of what was worked on.")
    attempt = models.PositiveIntegerField()
    lines = models.JSONField(default=list)
    happened_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "end of a trainer's log"
        verbose_name_plural = "ends of trainers' logs"
        ordering = ["id"]
        indexes = [models.Index(fields=["subject"], name="trainer_log_tail_subject")]

    def __str__(self) -> str:
        return f"{self.subject}, attempt {self.attempt}"
