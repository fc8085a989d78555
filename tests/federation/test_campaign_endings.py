"""How a campaign ends, whatever comes of its rounds."""

from hypothesis import given
from hypothesis import strategies as st

from federation.models import Campaign
from federation.services import campaigns
from federation.states import CampaignState

ENDS = st.lists(st.sampled_from(["published", "kept", "failed"]), max_size=40)


@given(
    ends=ENDS,
    n_rounds=st.integers(1, 30),
    patience=st.none() | st.integers(1, 5),
    evaluate_every=st.integers(1, 5),
)
def test_every_campaign_ends_with_its_reason_and_never_before_one_is_given(
    ends: list[str], n_rounds: int, patience: int | None, evaluate_every: int
) -> None:
    campaign = Campaign(n_rounds=n_rounds, patience=patience, evaluate_every=evaluate_every)
    held = ends + ["published"] * (n_rounds + campaigns.FAILED_IN_A_ROW)
    n_most = n_rounds + campaigns.FAILED_IN_A_ROW - 1  # a last round that fails may be held again
    goes_on = [campaigns.ending_of(campaign, held[:n]) is None for n in range(n_most + 1)]
    assert goes_on[0]
    assert not all(goes_on)
    n_held = goes_on.index(False)
    assert set(held[n_rounds - 1 : n_held - 1]) <= {"failed"}
    ending = campaigns.ending_of(campaign, held[:n_held])
    assert ending is not None
    if ending.state == CampaignState.FAILED:
        assert set(held[max(0, n_held - 3) : n_held]) == {"failed"}
    elif n_held < n_rounds:
        assert patience is not None
        since = held[:n_held][::-1]
        since = since[: since.index("published")] if "published" in since else since
        assert since.count("kept") >= patience
