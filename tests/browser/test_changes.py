"""Manual changes to names, descriptions, tags and experiments, which are then verified on the server."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import expect
from server import eventually


@pytest.fixture
def word():
    return uuid.uuid4().hex[:12]


@pytest.fixture
def run(another, rest):
    run = another("misnamed")
    run.close()
    eventually(lambda: props(rest, run.hash)["active"] is False, "the run has ended")
    return run.hash


@pytest.fixture
def tag(rest, word):
    made = rest.post("/tags/", json={"name": f"t {word}", "color": "#18AB6D"}).json()["id"]
    yield made
    rest.delete(f"/tags/{made}/")


def props(rest, run):
    return rest.get(f"/runs/{run}/info/").raise_for_status().json()["props"]


def rename(page, name, description):
    """Changes name and description in the settings of a run or an experiment."""
    card = page.locator(".NameAndDescriptionCard")
    expect(card.get_by_role("button", name="Save")).to_be_disabled()
    card.locator("input").fill(name)
    card.locator("textarea").first.fill(description)
    card.get_by_role("button", name="Save").click()
    expect(card.get_by_role("button", name="Save")).to_be_disabled()


def renamed(page, name, description):
    card = page.locator(".NameAndDescriptionCard")
    expect(card.locator("input")).to_have_value(name)
    expect(card.locator("textarea").first).to_have_value(description)


def test_a_run_is_renamed_and_described(visit, rest, run, word):
    before = props(rest, run)
    page = visit.open(f"/runs/{run}/settings")
    expect(page.locator(".NameAndDescriptionCard input")).to_have_value("misnamed")
    rename(page, f"größer {word}", "two\nlines")
    expect(page.get_by_text("Changes successfully saved")).to_be_visible()
    visit.shot("run-renamed")
    assert props(rest, run) == {**before, "name": f"größer {word}", "description": "two\nlines"}
    page.reload()
    renamed(page, f"größer {word}", "two\nlines")
    expect(page.get_by_text(f"/ größer {word}")).to_be_visible()
    page = visit.open(f"/runs/{run}/overview")
    expect(page.get_by_text("two lines")).to_be_visible()


def test_a_tag_is_added_and_removed(visit, rest, run, tag, word):
    page = visit.open(f"/runs/{run}/overview")
    expect(page.get_by_text("No attached tags")).to_be_visible()
    page.locator(".AttachedTagsList__ControlPopover__editPopoverButton").click()
    choice = page.locator(".SelectTag__tags__item", has_text=f"t {word}")
    attached = page.locator(".AttachedTagsList__tags")
    choice.click()
    expect(attached).to_have_text(f"t {word}")
    eventually(lambda: [one["id"] for one in props(rest, run)["tags"]] == [tag], "the run has the tag")
    visit.shot("run-tag-on")
    choice.click()
    expect(page.get_by_text("No attached tags")).to_be_visible()
    eventually(lambda: props(rest, run)["tags"] == [], "the run has no tag")
    assert rest.get(f"/tags/{tag}/").json()["run_count"] == 0
    page.reload()
    expect(page.get_by_text("No attached tags")).to_be_visible()


def test_a_tag_is_renamed_and_deleted(visit, rest, run, tag, word):
    rest.post(f"/runs/{run}/tags/new/", json={"tag_name": f"t {word}"}).raise_for_status()
    page = visit.open("/tags")
    table = page.locator(".Tags__TagList__tagListBox")

    def act(name, icon):
        """Clicks a button that is only shown while the pointer is over the row."""
        table.get_by_text(name, exact=True).hover()
        table.locator(f".TagsTable__commentCell__actionsContainer button:has(.icon-{icon})").click()

    act(f"t {word}", "edit")
    form = page.locator(".TagForm")
    form.locator("input").fill(f"renamed {word}")
    form.locator("textarea").first.fill("a comment")
    form.locator(".TagForm__tagFormContainer__colorContainer__colorBox__colorButton").nth(4).click()
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Tag successfully updated")).to_be_visible()
    expect(form).to_have_count(0)
    expect(table.get_by_text(f"renamed {word}", exact=True)).to_be_visible()
    expect(table.get_by_text(f"t {word}", exact=True)).to_have_count(0)
    visit.shot("tag-renamed")
    stored = rest.get(f"/tags/{tag}/").json()
    assert (stored["name"], stored["description"], stored["run_count"]) == (f"renamed {word}", "a comment", 1)
    assert stored["color"].startswith("#") and stored["color"] != "#18AB6D"
    assert [one["name"] for one in props(rest, run)["tags"]] == [f"renamed {word}"]

    act(f"renamed {word}", "delete")
    modal = page.locator(".ConfirmModal")
    modal.locator("input").fill(f"renamed {word}")
    visit.shot("tag-delete")
    modal.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Tag successfully deleted")).to_be_visible()
    expect(modal).to_have_count(0)
    expect(table.get_by_text(f"renamed {word}", exact=True)).to_have_count(0)
    visit.shot("tag-deleted")
    assert rest.get(f"/tags/{tag}/").status_code == 404
    assert props(rest, run)["tags"] == []


def test_an_experiment_is_renamed(visit, rest, another, word):
    run = another("of an experiment", experiment=f"e {word}").hash
    experiment = eventually(lambda: props(rest, run)["experiment"]["id"], "the run has its experiment")
    page = visit.open(f"/experiments/{experiment}/settings")
    expect(page.locator(".NameAndDescriptionCard input")).to_have_value(f"e {word}")
    rename(page, f"größer {word}", "what is tried")
    visit.shot("experiment-renamed")
    stored = eventually(
        lambda: rest.get(f"/experiments/{experiment}/").json()["name"] == f"größer {word}"
        and rest.get(f"/experiments/{experiment}/").json(),
        "it is stored",
    )
    assert (stored["description"], stored["run_count"], stored["archived"]) == ("what is tried", 1, False)
    assert props(rest, run)["experiment"]["name"] == f"größer {word}"
    page.reload()
    renamed(page, f"größer {word}", "what is tried")
    page = visit.open(f"/runs/{run}")
    expect(page.get_by_text(f"größer {word}").first).to_be_visible()
    rest.delete(f"/experiments/{experiment}/").raise_for_status()
