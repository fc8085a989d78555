"""The order of waiting work, in SQL: by class, then fair between federations, then fair between a federation's tenants.

Start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996). Each tenant and each
federation is a flow with a finish tag. The start tag of its next piece of work is the later of that tag and the flows'
clock; when work begins, the clock is set to its start tag and the flow's finish tag to start tag + 1/weight. A flow
that was idle gets no credit for it, and one with much work waits for all that have had less. With equal weights,
and within one federation and class, at most one piece of another tenant's work begins between a tenant's first
request and its first start, however much the other has queued; with work of F federations waiting, at most F.

A tenant with as many attempts under way as it may have at once keeps its place in the order and is passed over; so are
local runs and personal prefixes of a tenant that has spent its device seconds of the month.

The view `federation_waiting` tells the order, and the function `federation_claim_next` takes what is first (both:
migration 0020); here it is foreseen. All run in the platform's scope: the order is over all tenants.
"""

from typing import Final

# Each further piece of a flow's work is due one turn later.
PLACE: Final = """
    WITH foreseen AS (
        SELECT id, class, created_at,
            federation_tag + (row_number() OVER (PARTITION BY federation ORDER BY created_at, id) - 1)
                / federation_weight::float AS federation_tag,
            tenant_tag + (row_number() OVER (PARTITION BY tenant ORDER BY created_at, id) - 1)
                / tenant_weight::float AS tenant_tag
        FROM federation_waiting WHERE federation_may_begin(kind, tenant)
    ), placed AS (
        SELECT id, row_number() OVER (ORDER BY class DESC, federation_tag, tenant_tag, created_at, id) AS place
        FROM foreseen
    )
    SELECT place FROM placed WHERE id = %s
"""

SECONDS_PER_START: Final = """
    SELECT seconds_per_start FROM federation_claimclock WHERE last_start_at > clock_timestamp() - interval '10 minutes'
"""
