"""Chat templates: text as transformers makes it, and a clear error for a template that fails, however it fails."""

import os
import signal
import sys
import threading
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tiny_llm_kit.models.chat_template import render

MESSAGES = [{"role": "user", "content": 'Is 2 < 3 & "é" ≠ e?\n'}, {"role": "assistant", "content": "Yes 👍"}]
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}<{{ message.role }}>{{ message['content'] | trim }}\n{% endfor %}",
        "  {% if add_generation_prompt %}\n  go {%- endif %}\n end",
        "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}",
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{{ bos_token }}{{ nothing }}{{ 'tools' if tools else 'none' }}",
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice(messages[1].content) }}",
    ],
)
def test_text_is_that_of_transformers(template: str) -> None:
    variables = {"bos_token": "<s>", "add_generation_prompt": True}
    expected, _ = render_jinja_template([MESSAGES], chat_template=template, **variables)
    assert render(template, {"messages": MESSAGES, "tools": None, "documents": None, **variables}) == expected[0]


def test_the_date_is_there_for_templates_that_tell_it() -> None:
    assert len(render("{{ strftime_now('%Y-%m-%d') }}", {})) == len("2026-01-31")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for", "unexpected 'end of template'"),
        ("{{ messages.nothing.at_all }}", "has no attribute 'nothing'"),
        ("{{ raise_exception('Roles must take turns') }}", "Roles must take turns"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ range(10**9) }}", "Range too big"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "RecursionError"),
        ("{{ raise_exception('x' * 10**6) }}", "x"),
    ],
)
def test_a_template_that_fails_says_why(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"the model's chat template fails: .*{message}") as caught:
        render(template, {"messages": MESSAGES})
    assert len(str(caught.value)) < 1000, "an error of any length hides what it says"
    assert render("{{ 1 + 1 }}", {}) == "2", "the next template should not suffer"


@pytest.mark.parametrize(
    "template",
    [
        ENDLESS,
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
        "{{ 7 ** (10 ** 9) }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ 'x' * 10 ** 8 }}",
        "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1, 2]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    ],
)
def test_time_and_memory_are_bounded(template: str) -> None:
    with pytest.raises(ValueError, match=r"the model's chat template fails: it (took more|needed too much|wrote \d+)"):
        render(template, {})
    assert render("{{ 1 + 1 }}", {}) == "2", "the next template should not suffer"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory; elsewhere the time bounds it")
def test_memory_is_bounded_by_itself() -> None:
    with pytest.raises(ValueError, match=r"it needed too much memory"):
        render("{{ ('x' * (3 * 2 ** 29)) | length }}", {})  # 1.5 GiB, which takes less time than is allowed


def test_ctrl_c_ends_a_template_and_nothing_else() -> None:
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        render(ENDLESS, {})
    assert render("{{ 1 + 1 }}", {}) == "2", "the answer of the interrupted template should not be taken for this one's"


def test_threads_get_their_own_answers() -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        answers[number] = [render("{{ number }}", {"number": number}) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [str(number)] * 20 for number in range(8)}


def test_a_process_forked_off_gets_its_own_answers() -> None:
    assert render("{{ 0 }}", {}) == "0"
    child = os.fork()
    numbers = range(0 if child else 1000, 500 if child else 1500)
    right = all(render("{{ n }}", {"n": n}) == str(n) for n in numbers)
    if not child:
        os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    assert right, "this process read an answer that was meant for the other"
    assert status == 0, "the process forked off read an answer that was meant for the other"
