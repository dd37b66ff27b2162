"""What is on the screen, and on the lines that stand for it in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stt.cli.screen import Lines, Screen, Tally, span, stamp
from stt.events import Committed, Draft, Event, Final, Level, Problem, State
from stt.transcript import Segment


def final(text: str, number: int = 1, **more: object) -> Final:
    segments = (Segment(2.0, 3.25, text, 0.9),) if text else ()
    return Final(number, 1.5, 3.6, 3.25, 3.7, segments, text, 0.21, **more)  # type: ignore[arg-type]


def level(lag_s: float = 0.0, rms_db: float = -30.0) -> Level:
    return Level(1.0, rms_db, rms_db + 12, 0.9, lag_s)


def shown(*events: Event, width: int = 70, **options: object) -> tuple[str, str]:
    """Return what scrolled by, and the part below it that changes."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False, highlight=False)
    tally = Tally()
    screen = Screen(tally, "desk | parakeet fp16 on cpu", console=console, **options)  # type: ignore[arg-type]
    with screen:
        for event in events:
            tally.take(event)
            screen.take(event)
        with console.capture() as capture:
            console.print(screen.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), capture.get()


def test_before_anybody_speaks() -> None:
    _, below = shown()
    assert below.splitlines()[0].startswith("listening    [------")
    assert below.splitlines()[1] == "desk | parakeet fp16 on cpu | Ctrl-C ends"


def test_committed_words_stand_before_the_draft() -> None:
    _, below = shown(State(0, "speech"), Committed(1, 1, "Good"), Draft(1, 1, "Good", "morn", 0.4))
    assert below.splitlines()[0] == "Good … morn"
    assert below.splitlines()[1].startswith("speech")


def test_a_final_scrolls_by_with_its_time_and_leaves_no_draft() -> None:
    events = [Draft(1, 1, "", "good mourning", 0.4), final("Good morning.")]
    above, below = shown(*events)
    assert "0:02.0 Good morning." in above
    assert "mourning" not in below
    assert below.splitlines()[-1].startswith("text after 0.21 s, median 0.21 s | desk")


def test_a_long_final_is_there_in_full() -> None:
    text = " ".join(f"word{number}" for number in range(60))
    above, _ = shown(final(text), width=40)
    assert above.split() == ["0:02.0", *text.split()]


def test_words_carried_over_a_seam_stay_on_the_screen() -> None:
    _, below = shown(final("one two", seam=True, carried="three"))
    assert below.splitlines()[0].startswith("three")


def test_problems_and_lag_are_shown() -> None:
    above, below = shown(Problem(1.0, "overrun", "0.2 s of sound was lost"), level(lag_s=2.5))
    assert "stt: 0.2 s of sound was lost" in above
    assert "listening" in below
    assert "2.5 s behind" in shown(level(lag_s=2.5))[1]
    assert "behind" not in shown(level(lag_s=0.5))[1]


def test_text_is_never_read_as_markup() -> None:
    above, _ = shown(final("[bold]not bold[/bold] :smile:"))
    assert "[bold]not bold[/bold] :smile:" in above


def test_a_narrow_terminal_cuts_the_figures_not_the_words() -> None:
    _, below = shown(Draft(1, 1, "a fairly long sentence that wraps", "", 0.4), width=24)
    assert " ".join(below.split("…")[0].split()) == "a fairly long sentence that wraps"
    assert all(len(line) <= 24 for line in below.splitlines())


def test_a_window_made_narrower_is_drawn_anew() -> None:
    console = Console(width=70, file=io.StringIO(), force_terminal=True, highlight=False)
    with Screen(Tally(), "desk", console=console) as screen:
        for event in (final("Good morning."), final("Good night.", 2)):
            screen.take(event)
        assert isinstance(console.file, io.StringIO)
        before = console.file.tell()
        console.width = 30
        screen.take(State(0, "speech"))
        anew = console.file.getvalue()[before:]
        assert "\x1b[2J" in anew
        assert anew.index("Good morning.") < anew.index("Good night.")
        before = console.file.tell()
        console.width = 80
        screen.take(State(0, "listening"))
        assert "Good night." not in console.file.getvalue()[before:]


def test_the_meter_follows_the_level() -> None:
    _, quiet = shown(level(rms_db=-55.0))
    _, loud = shown(level(rms_db=-10.0))
    assert 0 < quiet.count("#") < loud.count("#")
    assert "-10.0 dB" in loud


@pytest.mark.parametrize(("on", "message"), [(False, "space = talk"), (True, "listening")])
def test_push_to_talk_says_what_to_press(on: bool, message: str) -> None:
    _, below = shown(talking=lambda: on)
    assert below.startswith(message)


def test_lines_go_out_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(bare=False, quiet=False)
    for event in [level(), Draft(1, 1, "", "good", 0.4), final("Good morning."), final("")]:
        lines.take(event)
    assert capsys.readouterr() == ("[0:02.0 - 0:03.2] Good morning.\n", "")


def test_lag_is_told_once_until_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(bare=True, quiet=False)
    for lag_s in (0.2, 2.5, 3.0, 0.6, 2.5, 0.0, 2.5):
        lines.take(level(lag_s))
    assert capsys.readouterr().err.count("s behind") == 2


def test_quiet_lines_tell_problems_only(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(bare=True, quiet=True)
    lines.take(level(5.0))
    lines.take(Problem(1.0, "clipping", "too loud"))
    assert capsys.readouterr() == ("", "stt: too loud\n")


def test_the_tally_counts() -> None:
    tally = Tally()
    finals = [final("a b"), final("", 2, suppressed="Thank you."), final("c", 3, seam=True)]
    for event in [*finals, level(1.5)]:
        tally.take(event)
    assert (tally.utterances, tally.left_out, tally.most_behind) == (2, 1, 1.5)
    assert tally.latencies == [0.21, 0.21], "a seam is no end"


def test_times_are_those_of_the_words() -> None:
    assert span(final("Good")) == (2.0, 3.25)
    assert span(final("")) == (1.5, 3.6)
    assert [stamp(s) for s in (0.0, 3.25, 59.96, 3723.44)] == [
        "0:00.0",
        "0:03.2",
        "1:00.0",
        "1:02:03.4",
    ]
