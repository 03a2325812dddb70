"""Replies and calls for tests of the journal."""

from __future__ import annotations

from verifyanalytics.journal.journal import Journal
from verifyanalytics.vendor.replies import Outcome, Reply

OK = Reply(Outcome.ANSWERED, http_status=200, code=10000, request_id="r1", billed=True)
LOST = Reply(Outcome.LOST, message="ConnectionResetError")


def plan(journal: Journal, *keys: str) -> int:
    return journal.plan((key, "CertVerify", "cert_pro_src_verify") for key in keys)
