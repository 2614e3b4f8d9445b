"""The files of a timeline: the trace against the format's schema, the page in a browser, and the program that writes them."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import jsonschema
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import tiny_llm_ref
from kit.timelines import Play, alone, everything
from tiny_llm_kit.cli.options import trace_option
from tiny_llm_kit.cli.timeline import main
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.timeline import Recorder, write_trace
from tiny_llm_kit.timeline.chrome_trace import as_trace
from tiny_llm_kit.timeline.files import read_trace, write_runs
from tiny_llm_kit.timeline.page import MOST_DRAWN, as_page
from tiny_llm_kit.timeline.run import Run
from tiny_llm_kit.timeline.worked_example import play

SCHEMA = json.loads((Path(__file__).parent / "chrome_trace_schema.json").read_text())
QUIET = Console(quiet=True)


def many(requests: int) -> Run:
    """So many requests, in two lanes by turns."""
    record = Recorder("many", slots=2)
    log = Play(record)
    for number in range(requests):
        alone(log, number, begin=4.0 * number, steps=3)
    return record.run()


def test_a_trace_keeps_to_the_format() -> None:
    document = as_trace([everything(), *play(tiny_llm_ref), Recorder("empty").run()])
    jsonschema.validate(json.loads(json.dumps(document)), SCHEMA)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda event: event.pop("name"),
        lambda event: event.update(ph="Y"),
        lambda event: event.update(pid="1"),
        lambda event: event.update(ts=-1) if "ts" in event else event.pop("args"),
        lambda event: event.pop("dur", None) or event.pop("s", None) or event.pop("id", None) or event.pop("args"),
    ],
)
def test_the_schema_would_notice(spoil: Callable[[dict[str, Any]], Any]) -> None:
    document = as_trace([everything()])
    for kind in "XCMibe":
        spoiled = json.loads(json.dumps(document))
        spoil(next(event for event in spoiled["traceEvents"] if event["ph"] == kind))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoiled, SCHEMA)


def test_a_trace_shows_slots_requests_and_counters() -> None:
    events = as_trace(play(tiny_llm_ref))["traceEvents"]
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert names[1, 1], names[1, 3] == ("slot 0", "slot 2")
    slices = {e["name"]: (e["tid"], e["ts"], e["dur"]) for e in events if e["pid"] == 2 and e.get("cat") == "request"}
    assert slices["E"] == (3, 8e6, 4e6), "in slot 2, from step 8 on, for 4 steps"
    assert {event["name"] for event in events if event["ph"] == "C"} == {"waiting", "active", "KV tokens"}
    assert sum(event.get("cat") == "prefill" for event in events) == 10
    assert sum(event["name"] == "first token" for event in events) == 10


def test_a_trace_is_read_again_as_it_was(tmp_path: Path) -> None:
    runs = [everything(), replace(play(tiny_llm_ref)[0], note="a note"), Recorder("empty", slots=2).run()]
    write_runs(QUIET, tmp_path / "trace.json", runs)
    assert read_trace(tmp_path / "trace.json") == runs
    assert (tmp_path / "trace.html").read_text(encoding="utf-8") == as_page(runs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "not a trace that --trace wrote"),
        ('{"traceEvents": []}', "not a trace that --trace wrote"),
        ('{"otherData": {"made_by": "tiny-llm timeline", "runs": [{}]}}', "not a trace that --trace wrote"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trace(tmp_path / "other.json")


STRANGE = [None, -1, 1e300, float("nan"), "x", [], {}, ["x"], 10**18]


@pytest.mark.parametrize("value", STRANGE, ids=repr)
def test_a_trace_that_was_changed_is_refused_or_drawn(tmp_path: Path, value: Any) -> None:
    """One value after another is replaced: what still has a meaning makes a page, and the rest is bad input. There are hundreds
    of places, so each is tried with a third of what is strange."""
    run = everything()
    trace, page = tmp_path / "trace.json", tmp_path / "trace.html"
    kinds = {(event["ph"], event["name"]): number for number, event in enumerate(as_trace([run])["traceEvents"])}
    places = [("otherData", "runs", 0, key) for key in as_trace([run])["otherData"]["runs"][0]]
    for number in kinds.values():
        event = as_trace([run])["traceEvents"][number]
        places += [("traceEvents", number, key) for key in event]
        places += [("traceEvents", number, "args", key) for key in event.get("args", {})]
    refused, places = 0, places[STRANGE.index(value) % 3 :: 3]
    for place in places:
        document: Any = as_trace([run])
        inner = document
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        trace.write_text(json.dumps(document))
        page.unlink(missing_ok=True)
        result = CliRunner().invoke(main, [str(trace)])
        assert result.exit_code in (0, 2), f"{place}: {result.exception!r}"
        assert page.exists() == (result.exit_code == 0), place
        refused += result.exit_code == 2
    assert refused > len(places) / 4


def test_names_may_hold_any_character(tmp_path: Path) -> None:
    name = "\x1b[31m \x00 \x7f \udce9 \ufffe </title> ]]> & \u4f60"
    run = many(1)
    run.lives[0].name = run.name = name
    write_runs(QUIET, tmp_path / "trace.json", [run])
    assert CliRunner().invoke(main, [str(tmp_path / "trace.json"), "--svg", str(tmp_path / "run.svg")]).exit_code == 0
    ElementTree.parse(tmp_path / "run.svg")
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert not set(map(chr, {*range(32), 127} - {9, 10})) & set(page)
    assert "\u241b[31m" in page
    assert "\u4f60" in page


def test_a_million_slots_that_nobody_takes_need_no_names() -> None:
    run = replace(many(2), lanes=1_000_000, slots=1_000_000)
    assert len(as_trace([run])["traceEvents"]) < 20_000


def test_a_page_needs_nothing_else_and_lets_no_name_out() -> None:
    page = as_page([everything()], title="<i>title</i>")
    assert "<script>alert" not in page
    assert "<b>run" not in page
    assert "<i>title" not in page
    assert not re.search(r"""(src|href)\s*=|@import|url\((?!#)|https?://(?!www\.w3\.org/2000/svg)""", page)


def test_without_javascript_a_page_tells_every_life() -> None:
    page = as_page([everything()])
    titles = re.findall(r"<title>(Request [^<]*)</title>", page)
    assert {title.split("\n")[0] for title in titles} >= {"Request q&quot;uote&amp;", "Request 3", "Request 4", "Request 5"}
    told = next(title for title in titles if "quot" in title)
    assert (
        "First token: 2 s after arrival (TTFT)\nAnswer: 2 tokens\nPer token: 1 s after the first (TPOT)\nFinished: 3 s" in told
    )
    assert "Never started" in next(title for title in titles if title.startswith("Request 4"))


def test_what_is_too_much_for_a_page_is_left_out_and_said() -> None:
    run = many(MOST_DRAWN + 5)
    page = as_page([run])
    assert page.count('class="slice hue') == MOST_DRAWN + page.split("<main>")[0].count('class="slice hue')
    assert f"the first {MOST_DRAWN:,} requests are shown; 5 more were left out" in page
    assert f'data-until="{4.0 * (MOST_DRAWN - 1) + 3}"' in page, "time ends with the last request that is shown"
    assert "left out" not in as_page([many(5)])


def test_an_empty_run_is_a_page() -> None:
    assert "0 requests" in as_page([Recorder("nothing").run()])
    assert as_page([])


PROBE = """
<iframe id="phone" style="width:360px;height:800px" srcdoc="{page}"></iframe>
<script>
const phone = document.getElementById("phone");
phone.onload = () => {{
  const found = {{}}, inner = phone.contentDocument, root = inner.documentElement, view = phone.contentWindow;
  const look = (name, at) => {{ try {{ found[name] = at(); }} catch (error) {{ found[name] = String(error); }} }};
  const key = (target, name) => target.dispatchEvent(new view.KeyboardEvent("keydown", {{ key: name, bubbles: true }}));
  look("ready", () => Number(root.dataset.ready));
  look("overflow", () => root.scrollWidth - root.clientWidth);
  const slices = [...inner.querySelectorAll(".marks .slice")], card = inner.getElementById("card");
  look("tab stops", () => inner.querySelectorAll('.marks [tabindex="0"]').length);
  look("titles", () => inner.querySelectorAll(".slice title").length);
  look("hidden at first", () => card.hidden);
  const move = {{ bubbles: true, clientX: 200, clientY: 200 }};
  const show = (slice) => slice.dispatchEvent(new view.PointerEvent("pointermove", move));
  look("card", () => {{ show(slices[0]); return card.innerText; }});
  look("chosen", () => inner.querySelectorAll(".marks .chosen").length);
  look("card is seen", () => {{ const box = card.getBoundingClientRect(); return box.left >= 0 && box.right <= 360; }});
  look("named", () => slices.every((slice) => slice.getAttribute("aria-label")));
  look("by keys", () => {{ slices[0].focus(); key(slices[0], "End"); return inner.activeElement.getAttribute("aria-label"); }});
  look("gone", () => {{ key(inner.activeElement, "Escape"); return card.hidden; }});
  const marks = inner.querySelector(".marks"), before = marks.clientWidth;
  look("zoomed", () => {{ inner.querySelector('[data-by="2"]').click(); return marks.getBoundingClientRect().width; }});
  look("still fits", () => root.scrollWidth - root.clientWidth);
  look("error", () => root.dataset.error ?? "none");
  const report = document.createElement("pre");
  report.textContent = JSON.stringify(found);
  document.body.append(report);
}};
</script>
"""


def test_a_page_works_in_a_browser(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser: install chromium (apt-get install chromium) to have pages tried in one")
    (tmp_path / "probe.html").write_text(PROBE.format(page=escape(as_page([everything(), *play(tiny_llm_ref)]))))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=9000",
    ]
    dumped = subprocess.run(
        [browser, *options, "--dump-dom", (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=45
    ).stdout
    report = re.search(r"<pre>(.*)</pre>", dumped, re.DOTALL)
    assert report, f"the page was not loaded, or its script did not end: {dumped[-300:]}"
    found = json.loads(report[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["error"] == "none"
    assert found["ready"] == 15, "a slice for each stay"
    assert found["overflow"] == found["still fits"] == 0, "at the width of a phone, the page itself need not be scrolled"
    assert found["tab stops"] == 3, "one per run"
    assert found["titles"] == 0, "a browser would show them beside the card"
    assert found["hidden at first"] is True
    assert "Request <script>alert(1)</script>" in found["card"]
    assert "Preempted\n1 time" in found["card"].replace("\t", "\n").replace("\n\n", "\n")
    assert found["chosen"] == 2 + 1, "both stays of the request, and its time in the queue"
    assert found["card is seen"] is True
    assert found["named"] is True
    assert found["by keys"].startswith("Request 6, "), "the End key leads to the last of the run"
    assert found["gone"] is True
    assert found["zoomed"] == 2 * 560, "at least 560 pixels, twice"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_example_is_one_command(tmp_path: Path) -> None:
    trace, picture = tmp_path / "new" / "example.json", tmp_path / "example.svg"
    result = run("--example", "--trace", str(trace), "--svg", str(picture))
    assert result.exit_code == 0, result.output
    assert re.search(r"first batch │ +12 │ +36 │ +24 │ +67% │", result.output)
    assert re.search(r"continuous +│ +12 │ +36 │ +36 │ +100% │", result.output)
    jsonschema.validate(json.loads(trace.read_text(encoding="utf-8")), SCHEMA)
    page = trace.with_suffix(".html")
    first = page.read_text(encoding="utf-8")
    page.unlink()
    again = run(str(trace))
    assert again.exit_code == 0, again.output
    assert page.read_text(encoding="utf-8") == first, "a trace is turned into the page it had"
    drawn = find_root() / "book/src/images/static-and-continuous.svg"
    assert picture.read_text(encoding="utf-8") == drawn.read_text(encoding="utf-8"), (
        "the book shows another picture than the command draws: pdm run timeline --example --svg"
        " book/src/images/static-and-continuous.svg"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either the FILE of a trace or --example"),
        (["some.json", "--example"], "either the FILE of a trace or --example"),
        (["some.json", "--trace", "other.json"], "leave it out"),
        (["no-such-file.json"], "no-such-file.json"),
        (["--example", "--trace", "page.html"], "name its JSON file"),
        (["--example", "--trace", "pyproject.toml/trace.json"], "is a file"),
        (["--example", "--svg", "tests"], "Is a directory"),
        (["--example", "--trace", "new.json", "--svg", "new.json"], "are the same file"),
        (["new.html"], "are the same file"),
        (["--example", "--solution", "nobody"], "nobody"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(find_root())
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_unfinished_task_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(*_: object) -> None:
        raise NotImplementedError("Week 9 Day 9, task 9: a stub")

    monkeypatch.setattr(tiny_llm_ref.ContinuousBatchScheduler, "step", stub)
    result = run("--example", "--trace", str(tmp_path / "trace.json"))
    assert result.exit_code == 2
    assert "Week 9 Day 9, task 9" in result.output
    assert not list(tmp_path.iterdir())


def test_both_files_are_tried_before_a_program_begins(tmp_path: Path) -> None:
    (tmp_path / "run.html").mkdir()

    @click.command()
    @trace_option
    def program(trace: Path | None) -> None:
        raise AssertionError("it began")

    result = CliRunner().invoke(program, ["--trace", str(tmp_path / "run.json")])
    assert result.exit_code == 2
    assert "run.html" in result.output


def test_a_program_writes_what_was_recorded(tmp_path: Path) -> None:
    record = Recorder("run")
    alone(Play(record), 1, begin=0, steps=3)
    write_trace(QUIET, tmp_path / "run.json", [record])
    assert read_trace(tmp_path / "run.json") == [record.run()]
