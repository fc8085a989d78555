"""The console in a real Chromium against real processes: an operator holds rounds, a member sees its tenant's part."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PageLeft

from tests.platform import OPERATOR_EMAIL, OPERATOR_PASSWORD, PROJECT, RunningPlatform, post

pytestmark = [pytest.mark.processes, pytest.mark.browser, pytest.mark.timeout(600)]

SCREENSHOTS = PROJECT / "var" / "screenshots"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]
N_STEPS = (
    2_500  # enough to be watched: workers beat once a second, an idle machine makes some 300 steps in one
)
ROUND_SECONDS = 240
MEMBER_EMAIL = "engineer@example.com"
MEMBER_PASSWORD = "another horse, another staple"
ROUND = re.compile(r"Round \d of Three houses")


@dataclass
class Visit:
    """A browser's tab and what went wrong in it."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)  # of events, that were opened

    def watch(self) -> None:
        """Note requests to other machines, failed ones, errors of scripts, and what the content policy forbade."""
        self.page.on("request", lambda request: self._note_outside(request.url))
        self.page.on("response", lambda response: self._note_failure(response.status, response.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda told: self._note_told(told.type, told.text))

    def shoot(self, name: str) -> None:
        """A screenshot of the whole page, the sidebar as high as the rest."""
        height = max(900, int(self.page.evaluate("document.querySelector('#main').scrollHeight")))
        self.page.set_viewport_size({"width": 1440, "height": height})
        self.page.wait_for_timeout(500)  # charts glide to their new size
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
        self.page.set_viewport_size({"width": 1440, "height": 900})

    def _note_outside(self, url: str) -> None:
        if not url.startswith((self.url, "data:")):
            self.faults.append(f"asked {url}")

    def _note_told(self, kind: str, text: str) -> None:
        if kind == "error":
            self.faults.append(text)

    def _note_failure(self, status: int, url: str) -> None:
        if "/console/events/" in url:
            self.streams.append(url)
        if status >= 400:
            self.faults.append(f"{status} from {url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    program = shutil.which("chromium")
    assert program, "there is no chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def federation(platform: RunningPlatform) -> dict[str, Any]:
    """Three tenants after one round."""
    made = platform.make_federation("Three houses", n_steps=N_STEPS, learning_rate=0.0005)
    platform.finish_round(platform.start_round(made), seconds=ROUND_SECONDS)
    return made


@contextmanager
def visiting(browser: Browser, url: str, email: str, password: str) -> Iterator[Visit]:
    """A tab in which somebody has signed in; whatever went wrong in it fails the test."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=url)
    visit = Visit(context.new_page(), url)
    visit.watch()
    visit.page.goto("/console/")
    visit.page.get_by_label("Username").fill(email)
    visit.page.get_by_label("Password").fill(password)
    visit.page.get_by_role("button", name="Log in").click()
    expect(visit.page.get_by_role("heading", name="Live rounds")).to_be_visible()
    yield visit
    context.close()
    assert visit.faults == []


@pytest.fixture
def visit(browser: Browser, platform: RunningPlatform) -> Iterator[Visit]:
    """The operator's tab."""
    with visiting(browser, platform.url, OPERATOR_EMAIL, OPERATOR_PASSWORD) as visit:
        yield visit


def open_federation(visit: Visit, federation: dict[str, Any]) -> None:
    visit.page.locator("#nav-sidebar-apps").get_by_text("Federations", exact=True).click()
    visit.page.get_by_role("link", name=federation["name"]).click()
    expect(visit.page.get_by_role("heading", level=2, name=federation["name"])).to_be_visible()


def give_password(visit: Visit, email: str, password: str) -> None:
    """As an operator, to an account that has none."""
    visit.page.goto(f"/console/auth/user/?q={email}")
    visit.page.get_by_role("link", name=email).click()
    visit.page.goto(visit.page.url.replace("/change/", "/password/"))
    visit.page.locator("#id_password1").fill(password)
    visit.page.locator("#id_password2").fill(password)
    visit.page.get_by_role("button", name="Change password").click()
    expect(visit.page.get_by_text("Password changed successfully")).to_be_visible()


def press(visit: Visit, label: str) -> None:
    """Press a button and say yes to its question."""
    visit.page.get_by_role("button", name=label).first.click()
    visit.page.get_by_role("dialog").get_by_role("button", name=label).click()


def grow_personal_prefix(visit: Visit) -> None:
    """As a member on the federation's page: by its own label shares, which takes a worker no training."""
    visit.page.get_by_role("link", name="Grow a personal prefix").click()
    visit.page.get_by_label("Rule").select_option("prior")
    visit.shoot("member-grow-personal-prefix")
    visit.page.get_by_role("button", name="Grow").click()
    give_up_at = time.monotonic() + ROUND_SECONDS
    while not visit.page.locator("#main").get_by_text("completed").count():
        assert time.monotonic() < give_up_at, visit.page.locator("#main").inner_text()
        visit.page.wait_for_timeout(500)
        visit.page.reload()
    visit.shoot("member-personal-prefix")


def seen_until_the_end(page: Page) -> set[str]:
    """What the progress said, asked until the round has an outcome; nothing is reloaded by hand."""
    seen: set[str] = set()
    give_up_at = time.monotonic() + ROUND_SECONDS
    while not page.locator(".prl-outcome").count():
        assert time.monotonic() < give_up_at, page.locator("#round").inner_text()
        with suppress(PageLeft):  # the page of a round that has ended loads itself anew
            seen.update(page.locator(".prl-run__told").all_inner_texts())
        page.wait_for_timeout(200)
    return seen


def test_an_operator_starts_a_round_and_sees_it_move_and_finish(
    visit: Visit, federation: dict[str, Any]
) -> None:
    open_federation(visit, federation)
    press(visit, "Start round")
    expect(visit.page.get_by_role("heading", level=2, name=ROUND)).to_be_visible()
    told = visit.page.locator(".prl-run__told", has_text=re.compile(rf"^[1-9]\d* / {N_STEPS} steps"))
    expect(told.first).to_be_visible(timeout=1_000 * ROUND_SECONDS)
    visit.shoot("round-live")
    seen = seen_until_the_end(visit.page)
    assert len({text for text in seen if "steps" in text}) >= 3, seen
    assert any("/console/events/rnd_" in url for url in visit.streams)
    expect(visit.page.locator(".prl-outcome")).to_contain_text("The gate published the candidate")
    assert visit.page.locator(".prl-badge", has_text="accepted").count() == 3
    expect(visit.page.get_by_role("button", name="Cancel round")).to_have_count(0)
    visit.shoot("round-finished")

    visit.page.get_by_role("link", name="Three houses", exact=True).first.click()
    lines = "Chart.getChart(document.querySelector('canvas[data-chart=accuracy]')).data.datasets.length"
    visit.page.wait_for_load_state("load")
    assert visit.page.evaluate(lines) == 4  # three tenants and their mean
    visit.shoot("federation")
    visit.page.locator("#nav-sidebar-apps").get_by_text("Dashboard", exact=True).click()
    expect(visit.page.get_by_role("link", name=re.compile("Three houses round")).first).to_be_visible()
    visit.shoot("dashboard")


def test_an_operator_rolls_back_and_cancels_a_round(visit: Visit, federation: dict[str, Any]) -> None:
    open_federation(visit, federation)
    press(visit, "Roll back to this")
    expect(
        visit.page.get_by_text(re.compile(r"version \d of Three houses is the published one now"))
    ).to_be_visible()
    press(visit, "Start round")
    expect(visit.page.get_by_role("heading", level=2, name=ROUND)).to_be_visible()
    press(visit, "Cancel round")
    expect(visit.page.get_by_text(f"Canceled by operator:{OPERATOR_EMAIL}.").first).to_be_visible()


def test_an_operator_starts_a_campaign_and_sees_it_move_until_it_is_canceled(
    visit: Visit, federation: dict[str, Any]
) -> None:
    open_federation(visit, federation)
    visit.page.get_by_role("link", name="Start a campaign").click()
    visit.page.get_by_label("Rounds").fill("2")
    visit.page.get_by_role("button", name="Start campaign").click()
    live = visit.page.locator("#campaign .prl-live__told")
    before = live.inner_text()
    width = visit.page.locator("#campaign .prl-live .prl-bar__fill").get_attribute("style")
    expect(visit.page.locator("#campaign .prl-live .prl-bar__fill")).not_to_have_attribute(
        "style", width or "", timeout=1_000 * ROUND_SECONDS
    )
    assert before == "0 of 3 tenants have trained"
    assert any("/console/events/cmp_" in url for url in visit.streams)
    visit.shoot("campaign-live")
    press(visit, "Cancel campaign")
    expect(visit.page.get_by_text("what it has published stays.").first).to_be_visible()


def test_a_member_sees_its_tenants_part_and_has_its_roles_buttons(
    visit: Visit, browser: Browser, platform: RunningPlatform, federation: dict[str, Any]
) -> None:
    acme = platform.tenants[0]
    post(platform.operator, f"tenants/{acme.id}/members", {"email": MEMBER_EMAIL, "role": "engineer"})
    give_password(visit, MEMBER_EMAIL, MEMBER_PASSWORD)
    with visiting(browser, platform.url, MEMBER_EMAIL, MEMBER_PASSWORD) as member:
        expect(member.page.get_by_text("Acme · engineer")).to_be_visible()
        member.shoot("member-dashboard")
        open_federation(member, federation)
        expect(member.page.get_by_role("button", name="Start round")).to_have_count(0)
        assert "Globex" not in member.page.content()
        grow_personal_prefix(member)
        open_federation(member, federation)
        member.shoot("member-federation")
        member.page.locator("#nav-sidebar-apps").get_by_text("Enrolments", exact=True).click()
        member.page.get_by_role("link", name="Acme").first.click()
        press(member, "Take part")
        expect(member.page.get_by_text("Acme takes part in Three houses with reviews.")).to_be_visible()
        member.shoot("member-enrolment")


def test_a_person_changes_the_own_password_by_the_old_one(
    visit: Visit, browser: Browser, platform: RunningPlatform
) -> None:
    person, old, new = "changing@example.com", MEMBER_PASSWORD, f"{MEMBER_PASSWORD} anew"
    acme = platform.tenants[0]
    post(platform.operator, f"tenants/{acme.id}/members", {"email": person, "role": "viewer"})
    give_password(visit, person, old)
    with visiting(browser, platform.url, person, old) as member:
        for tried in ("not the old one", old):
            member.page.goto("/console/password_change/")
            member.page.locator("#id_old_password").fill(tried)
            member.page.locator("#id_new_password1").fill(new)
            member.page.locator("#id_new_password2").fill(new)
            member.page.get_by_role("button", name="Change password").click()
            if tried != old:
                expect(member.page.get_by_text("Your old password was entered incorrectly")).to_be_visible()
                member.shoot("own-password")
        expect(member.page.get_by_text("Your password was changed")).to_be_visible()
    with visiting(browser, platform.url, person, new):
        pass
