"""Week 3 Day 5, task 1: what followed the last few tokens when they last occurred."""

from collections.abc import Sequence
from typing import Any, overload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from effort import effort
from support import make_prompt, refuses
from week3.day5_speculation.drafters import repeats


def propose(text: str, count: int = 4, drafter: Any = None) -> str:
    """The letters that are proposed after a text, each a token."""
    drafts = (drafter or answer.NgramDrafter()).propose([ord(letter) for letter in text], count)
    return "".join(map(chr, drafts))


def assert_proposed(text: str, expected: str, look_at: str, count: int = 4, drafter: Any = None) -> None:
    __tracebackhide__ = True
    got = propose(text, count, drafter)
    assert got == expected, f"{look_at}: after {text!r}, {got!r} is proposed, expected {expected!r}"


def test_task_1_what_followed_earlier_follows_again() -> None:
    assert_proposed("the cat sat, the ", "cat ", "'he ' has occurred, and 'cat ' followed it")
    assert_proposed("abcdefgh..abc", "defg", "'abc' has occurred at the very beginning")


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "abcdefg", "abcdefga"])
def test_task_1_nothing_is_proposed_for_what_never_occurred(text: str) -> None:
    assert_proposed(text, "", "the last two tokens have not occurred before")


def test_task_1_the_end_is_no_earlier_occurrence_of_itself() -> None:
    assert_proposed("abcd", "", "'bcd' occurs at the end alone, and nothing has followed it yet")
    assert_proposed("xyz1abcd..xyz", "1abc", "the latest *earlier* occurrence of 'xyz' is the one at the beginning")


def test_task_1_the_longest_match_wins() -> None:
    assert_proposed("abc1 .. xbc2 .. abc", "1 ..", "'abc' is longer than 'bc', which has occurred later, followed by 2")


def test_task_1_a_shorter_match_is_better_than_none() -> None:
    assert_proposed("abc1 .. xbc2 .. ybc", "2 ..", "'ybc' has never occurred, and 'bc' has")


def test_task_1_of_equal_matches_the_latest_wins() -> None:
    assert_proposed("abc1 .. abc2 .. abc", "2 ..", "'abc' was followed by 1 and, later, by 2")


def test_task_1_max_n_and_min_n_bound_the_match() -> None:
    text = "wxyz1 .. .xyz2 .. wxyz"
    assert_proposed(text, "1 ..", "max_n is 4, and 'wxyz' was followed by 1", drafter=answer.NgramDrafter(4, 2))
    assert_proposed(text, "2 ..", "max_n is 3, and 'xyz' was last followed by 2", drafter=answer.NgramDrafter(3, 2))
    assert_proposed("z1234..z", "", "min_n is 2, and only one token has occurred")
    assert_proposed("z1234..z", "1234", "min_n is 1, and 'z' has occurred", drafter=answer.NgramDrafter(3, 1))
    assert_proposed("abc1 .. xbc", "", "both are 3, and 'xbc' has not occurred", drafter=answer.NgramDrafter(3, 3))
    assert_proposed("abc1 .. abc", "1 ..", "both are 3, and 'abc' has occurred", drafter=answer.NgramDrafter(3, 3))


@pytest.mark.parametrize(("max_n", "min_n"), [(3, 0), (2, 3), (0, 0), (3, -1)])
def test_task_1_impossible_lengths_are_refused(max_n: int, min_n: int) -> None:
    assert_proposed("aabbaa", "bbaa", "the drafter with the usual lengths")
    with refuses(ValueError, "1 <= min_n <= max_n is needed", str(min_n)):
        answer.NgramDrafter(max_n, min_n)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_task_1_no_more_is_proposed_than_asked_for(count: int) -> None:
    assert_proposed("the cat sat, the ", "cat s"[:count], f"count is {count}", count)


def test_task_1_what_repeats_itself_goes_on_repeating() -> None:
    """A match may be followed by fewer tokens than are wanted before the known ones end."""
    assert_proposed("abcabc", "abcab", "'abc' was followed by 'abc', and that by what 'abc' is followed by", 5)
    assert_proposed("x = aaaa", "aaaaaaa", "'aaa' was last followed by one 'a', then the draft goes on itself", 7)
    assert_proposed("yes no yes no ", "yes no yes", "a period of seven letters", 10)


def test_task_1_other_tokens_are_no_match() -> None:
    """Ids of several digits, equal sums, and another order."""
    for earlier, last in [((1, 12), (11, 2)), ((7, 7), (6, 8)), ((3, 4), (4, 3)), ((1, 256), (0, 257))]:
        tokens = [*earlier, 90, 91, 92, 93, *last]
        got = answer.NgramDrafter().propose(tokens, 3)
        assert got == [], f"{last} has not occurred before, {earlier} is something else: {got} proposed after {tokens}"


def test_task_1_an_answer_that_grows_token_by_token() -> None:
    drafter, text = answer.NgramDrafter(), "she sells sea shells; she sells sea shells; she"
    for length in range(1, len(text) + 1):
        tokens = [ord(letter) for letter in text[:length]]
        got, expected = drafter.propose(tokens, 4), repeats(tokens, 4)
        assert got == expected, f"after {text[:length]!r}: {bytes(got)!r}, expected {bytes(expected)!r}; is the index kept up?"


@given(
    pieces=st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=20),
    lengths=st.sampled_from([(3, 2), (1, 1), (2, 1), (4, 2), (3, 3)]),
    count=st.integers(0, 6),
)
def test_task_1_random_texts_growing_in_pieces(pieces: list[list[int]], lengths: tuple[int, int], count: int) -> None:
    drafter, tokens = answer.NgramDrafter(*lengths), list[int]()
    for piece in pieces:
        tokens += piece
        got, expected = drafter.propose(list(tokens), count), repeats(tokens, count, *lengths)
        assert got == expected, f"max_n and min_n {lengths}, count {count}, tokens {tokens}: {got}, expected {expected}"


def test_task_1_a_call_for_no_drafts_learns_all_the_same() -> None:
    drafter = answer.NgramDrafter()
    propose("the cat sat", 0, drafter)
    propose("the cat sat on", 0, drafter)
    assert_proposed("the cat sat on the ", "cat ", "the first calls wanted no drafts", drafter=drafter)


# Sequences that do not go on


def test_task_1_the_same_tokens_again_give_the_same_draft() -> None:
    drafter = answer.NgramDrafter()
    for _ in range(3):  # a request that was preempted comes back as it was
        assert_proposed("the cat sat, the ", "cat ", "asked about the same tokens again", drafter=drafter)


def test_task_1_a_draft_that_was_wrong_leaves_no_trace() -> None:
    drafter = answer.NgramDrafter()
    assert_proposed("abc1xy abc", "1xy ", "the first draft", drafter=drafter)
    assert_proposed("abc1xy abc2", "", "what was proposed did not come, and 'c2' is new", drafter=drafter)
    assert_proposed("abc1xy abc2 abc", "2 ab", "'abc' was last followed by 2", drafter=drafter)


@pytest.mark.parametrize(
    "then",
    [
        *["", "x", "abc", "ab1ab", "other text, other te", "abcabc abcabc, abc and more", "ab ab ab"],
        "zyxzyx zyxzyx, zbczyx",  # its 17th and 18th letters are those of the text before
    ],
)
def test_task_1_other_tokens_than_before_are_looked_at_anew(then: str) -> None:
    drafter = answer.NgramDrafter()
    propose("abcabc abcabc, abc", 4, drafter)
    expected = propose(then, 4)
    assert_proposed(then, expected, "the drafter had seen another text before; a new drafter says this", drafter=drafter)
    longer = then + "zqzq!zqz"
    assert_proposed(longer, "q!zq", "and it goes on with the new text", drafter=drafter)


def test_task_1_what_was_said_before_another_text_came_is_forgotten() -> None:
    drafter = answer.NgramDrafter()
    propose("the cat sat, the cat", 4, drafter)
    assert_proposed("a dog? the ", "", "what followed 'he ' in another text does not count", drafter=drafter)


def test_task_1_two_drafters_know_nothing_of_each_other() -> None:
    one, other = answer.NgramDrafter(), answer.NgramDrafter()
    propose("abc1abc", 4, one)
    assert_proposed("abc", "", "another drafter has seen 'abc1', and this one has not", drafter=other)


def test_task_1_what_is_given_and_returned_is_left_alone() -> None:
    drafter, tokens = answer.NgramDrafter(), [ord(letter) for letter in "abc12 abc"]
    given = list(tokens)
    drafter.propose(tokens, 3).append(99)
    assert tokens == given, "the tokens belong to the request: propose changes nothing in them"
    assert drafter.propose(tokens, 3) == [ord(letter) for letter in "12 "], "the caller may do with a draft what it likes"
    tokens.append(ord("1"))  # the caller may also use one list all the time
    assert drafter.propose(tokens, 3) == [ord(letter) for letter in "2 a"], "the list that was given has grown by a token"


# What a call costs


class CountedTokens(Sequence[int]):
    """Counts how many of its tokens are looked at."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> list[int]: ...

    def __getitem__(self, place: int | slice) -> int | list[int]:
        got = self.tokens[place]
        self.reads += len(got) if isinstance(got, list) else 1
        return got


def test_task_1_a_call_reads_the_new_tokens_only() -> None:
    drafter, tokens = answer.NgramDrafter(), CountedTokens(make_prompt(3000))
    drafter.propose(tokens, 4)
    per_token = tokens.reads / 3000
    assert per_token <= 30, f"the first call read each token {per_token:.0f} times: an n-gram has three tokens"
    for new in [*make_prompt(30, seed=1), *tokens.tokens[100:110]]:
        tokens.tokens.append(new)
        tokens.reads = 0
        drafts = drafter.propose(tokens, 4)
        assert tokens.reads <= 60, f"one token was new, and {tokens.reads} of {len(tokens)} were read: keep the index"
    assert drafts == tokens.tokens[110:114], "the last ten tokens have occurred before"


def test_task_1_a_draft_is_found_without_a_search() -> None:
    """Counted in lines, list elements and bytes. The least of a few calls counts, since a growing dict moves at times."""
    drafter, tokens = answer.NgramDrafter(), make_prompt(3000)
    drafter.propose(tokens, 4)
    efforts = []
    for new in make_prompt(8, seed=1):
        tokens.append(new)
        efforts.append(effort(lambda: drafter.propose(tokens, 4)))
    assert min(efforts) <= 800, f"a call with one new token after 3000 took {min(efforts)} steps: look it up, don't search"
