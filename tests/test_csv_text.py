"""Tables that people write: whatever of them would be lost is one sentence."""

import pytest

from makeavideo import UserError
from makeavideo.csv_text import read_rows, read_table


@pytest.mark.parametrize("text", ["\ufeffID;Prompt\none;a cat, asleep\n", "id\tprompt\r\none\ta cat, asleep\r\n"])
def test_a_table_as_spreadsheets_write_it(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "a.csv", "id", "prompt") == {"one": {"id": "one", "prompt": "a cat, asleep"}}


@pytest.mark.parametrize(
    "text, told",
    [
        ("id,prompt\none,a cat, asleep\n", "Line 2 of {} has more cells than the head: put a text in quotes."),
        ('id,prompt\none,"a\ncat"\none,a dog\n', "The table {} has two rows of 'one': take one of them out."),
        ("id,prompt,prompt\none,a,b\n", "The table {} has the column 'prompt' twice: take one of them out."),
        ("id,text\none,a\n", "The table {} has no column prompt: it needs id and prompt."),
        ("name;prompt\none;a\n", "The table {} has no column id: begin it with a line of column names, "),
        ("x" * 200_000, "The table {} is no csv (the row of line 1: field larger than field limit"),
        ("id,prompt\n", "The table {} has no rows: give a csv with a heading and a row for each id."),
        ("", "The table {} has no column id: "),
        ('id,prompt\none,"a\n', "The table {} is no csv (the row of line 2: unexpected end of data): mend that row."),
        (b"id,prompt\none,B\xe4r\n", "The table {} cannot be read (it is not in UTF-8): give a csv file."),
        (None, "The table {} cannot be read (No such file or directory): give a csv file."),
    ],
)
def test_what_would_be_lost_is_one_sentence(tmp_path, text, told):
    file = tmp_path / "a.csv"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as refused:
        read_table(file, "id", "prompt")
    assert str(refused.value).startswith(told.format(file))


def test_short_rows_are_whole_and_empty_ones_nothing():
    lines = ["prompt,seed,,\n", "a,,,\n", ",,,\n", "\n", "b\n", "c,1,,note\n"]
    a, b, c = ({"prompt": name, "seed": seed} for name, seed in (("a", ""), ("b", ""), ("c", "1")))
    assert list(read_rows(lines, "The list", "prompt")) == [(2, a, False), (5, b, False), (6, c, True)]
