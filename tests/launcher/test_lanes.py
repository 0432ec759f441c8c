"""Commands side by side, told in order."""

import os
import sys
from pathlib import Path

from include.cli.lanes import Command, run_lanes

HERE = Path(__file__).parent


def python(title, code):
    return Command(title, (sys.executable, "-c", code))


def wait_for(path):
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)\n"


def test_lanes_run_side_by_side(tmp_path, capfd):
    """Each waits for what only the other makes: one after the other neither would end."""
    a, b = tmp_path / "a", tmp_path / "b"
    first = python("first", f"open({str(a)!r}, 'w')\n" + wait_for(b))
    second = python("second", wait_for(a) + f"open({str(b)!r}, 'w')")
    found = run_lanes([[first], [second]], os.environ, HERE)
    assert [[done.code for done in lane] for lane in found] == [[0], [0]]


def test_output_is_whole_and_in_the_order_of_beginning(tmp_path, capfd):
    mark = tmp_path / "mark"
    slow = python("slow", wait_for(mark) + "print('slow said', 1)\nprint('slow said', 2)")
    quick = python("quick", f"print('quick said', 1)\nopen({str(mark)!r}, 'w')")
    run_lanes([[slow], [quick, python("later", "print('later said', 1)")]], os.environ, HERE)
    said = [line for line in capfd.readouterr().out.splitlines() if line]
    blocks = "\n".join(said).split("== ")[1:]
    assert sorted(block.splitlines()[0] for block in blocks) == ["later", "quick", "slow"]
    for block in blocks:
        title, *lines = block.splitlines()
        assert lines == [f"{title} said {number}" for number in range(1, len(lines) + 1)]
        assert lines


def test_a_failure_keeps_nothing_from_running_and_its_output_is_shown(capfd):
    bad = python("bad", "import sys; sys.stderr.write('what went wrong'); sys.exit(3)")
    lanes = [[bad, python("after", "pass")], [python("other", "pass")]]
    found = run_lanes(lanes, os.environ, HERE)
    assert [[done.code for done in lane] for lane in found] == [[3, 0], [0]]
    assert "what went wrong" in capfd.readouterr().out


def test_a_single_lane_has_the_terminal(capfd):
    code = "import os; print(os.environ['OF_MINE'], os.getcwd())"
    (done,) = run_lanes([[python("one", code)]], {**os.environ, "OF_MINE": "yes"}, HERE)[0]
    assert done.code == 0
    assert f"yes {HERE}" in capfd.readouterr().out
