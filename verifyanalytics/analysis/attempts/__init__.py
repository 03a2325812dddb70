"""Attempts and sessions: retries, exposure, lost people, bursts."""

from verifyanalytics.lazy import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "sessions": "analysis.attempts.retries",
        "retry_then_pass": "analysis.attempts.retries",
        "exposure": "analysis.attempts.retries",
        "lost_people": "analysis.attempts.retries",
        "attempts_to_pass": "analysis.attempts.retries",
        "bursts": "analysis.attempts.retries",
        "replayed_images": "analysis.attempts.replays",
    },
)
