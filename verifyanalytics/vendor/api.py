"""The vendor's API as constants: where it is, what is called, and what its codes mean.

The client, the simulator, the journal and the store take them from here. Source: the vendor's
pages on CertVerify, on signing and on the gateway's errors.
"""

from __future__ import annotations

ENDPOINT = "https://visual.volcengineapi.com"
DOMAINS = ("volcengineapi.com",)
"""Domains of the vendor to which a call may be sent."""

API_VERSION = "2022-08-31"
REGION = "cn-north-1"
SERVICE = "cv"

VERIFY = "CertVerify"
QUERY = "CertVerifyQuery"
ACTIONS = (VERIFY, QUERY)

VERIFY_KEYS = ("cert_pro_src_verify", "cert_pro_no_src_verify")
"""Values of ``req_key`` for CertVerify: with a photo of the vendor's source, and without."""

QUERY_KEY = "cert_pro_verify_query"

RESULT_KEPT_S = 3600.0
"""Seconds for which the result of a token can be queried: about an hour."""

MAX_REQUEST_BYTES = 10 * 1024 * 1024

SUCCESS = 10000
REFUSED_CODES = frozenset({50400})
RATE_CODES = frozenset({50429, 50430})
FAULT_CODES = frozenset({50500, 50501})
"""Service codes after which it is unknown whether the call was processed."""

UNSETTLED_CODES = tuple(sorted(REFUSED_CODES | RATE_CODES | FAULT_CODES))
"""Service codes that settle nothing about a token: refused, limited or failed before a verdict."""

UNKNOWN_TOKEN = (50215, 201202)
"""Code and sub-code with which the service answers a query of a token without a result.

The vendor documents 201202 as an invalid parameter, so they are no proof that nothing was
processed; `resolve(no_result=…)` makes them one where the user has the vendor's word for it.
"""

GATEWAY_RATE = "FlowLimitExceeded"
GATEWAY_CLOCK = "InvalidTimestamp"
GATEWAY_REFUSED = frozenset(
    {"SignatureDoesNotMatch", "InvalidAccessKey", "InvalidSecretToken", "LackPolicy"}
)
GATEWAY_NUMBERS = {
    100006: "InvalidTimestamp",
    100009: "InvalidAccessKey",
    100010: "SignatureDoesNotMatch",
    100012: "LackPolicy",
    100018: "FlowLimitExceeded",
}
"""Names of the gateway's numbers (``CodeN``).

These names and numbers are the closed list of gateway errors that come before any processing:
rate, clock, signature and permission. After every other error it is unknown whether the service
behind the gateway has worked, ``FailToConnect`` and names of later years included.
"""
