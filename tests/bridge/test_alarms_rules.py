"""The file of rules: what is right becomes rules, what is wrong is told with its line."""

from pathlib import Path

import pytest

from bridge.alarms.rules import Kind, Rule, read_rules
from bridge.durations import duration_text, parse_duration
from mqtt_client.errors import SettingsError

EXAMPLE = Path(__file__).parents[2] / "deploy/alarms.example.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the rules are."""
    return tmp_path / "alarms.toml"


def faults(file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_rules(file)
    return [fault.removeprefix(f"ALARM_RULES: {str(file)!r} ") for fault in caught.value.faults]


def test_the_example_has_a_rule_of_each_kind() -> None:
    rules = read_rules(EXAMPLE)

    assert {rule.kind for rule in rules} == set(Kind)


def test_a_rule_is_read_whole(file: Path) -> None:
    file.write_text(
        '[[rule]]\nname = "warm"\nseverity = "critical"\nquantity = "temperature"\nnodes = ["a", "b"]\n'
        'sensors = "main"\nabove = 30\nbelow = 5.5\nhysteresis = 0.5\nfor = "1,5 h"\n',
        encoding="utf-8",
    )

    assert read_rules(file) == [
        Rule(
            "warm",
            Kind.QUANTITY,
            "critical",
            frozenset("ab"),
            frozenset({"main"}),
            "temperature",
            above=30,
            below=5.5,
            hysteresis=0.5,
            duration_s=5400,
        )
    ]


@pytest.mark.parametrize(
    ("text", "free_bytes", "share"),
    [("2 GB", 2_000_000_000, None), ("512MiB", 512 * 1024**2, None), ("1,5 kB", 1500, None), ("5 %", None, 0.05)],
)
def test_a_limit_of_a_disk_is_a_size_or_a_share(
    file: Path, text: str, free_bytes: int | None, share: float | None
) -> None:
    file.write_text(f'[[rule]]\nname = "disk"\ndisk_free_below = "{text}"', encoding="utf-8")

    (rule,) = read_rules(file)

    assert (rule.free_bytes, rule.free_share) == (free_bytes, share)


def test_all_faults_are_told_at_once_each_with_its_line(file: Path) -> None:
    text = """\
colour = "red"

[[rule]]
name = "warm"
quantity = "temperature"
above = "hot"
for = 5

[[rule]]
quantity = "node"
above = nan

[[ rule ]]  # named as the first
name = "warm"
lost_within = "1h"
"""

    assert faults(file, text) == [
        "line 1: 'colour' is not known; allowed are tables [[rule]]",
        "line 6: rule 'warm': above is 'hot'; allowed is a finite number",
        "line 7: rule 'warm': for is 5; allowed is a text of a number with s, min, h, d or w, such as '10 min'",
        "line 9: rule 2: it has no name; allowed is a name of its own",
        "line 10: rule 2: quantity is 'node'; allowed is a quantity's name such as 'temperature'",
        "line 11: rule 2: above is nan; allowed is a finite number",
    ]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ('name = "x"', "line 1: rule 'x': it watches nothing; allowed is exactly one of quantity, no_data_for"),
        ('name = "x"\nquantity = "co2"', "line 3: rule 'x': it has no bound; allowed are above, below or both"),
        ('name = "x"\nno_data_for = "1h"\nlost_within = "1h"', "line 4: rule 'x': it watches two things"),
        ('name = "x"\nno_data_for = "1 parsec"', "line 3: rule 'x': no_data_for is '1 parsec'"),
        ('name = "x"\nserver_unreachable_for = "1h"\nnodes = ["a"]', "line 4: rule 'x': 'nodes' is not known here"),
        ('name = "x"\ndisk_free_below = "100 %"', "line 3: rule 'x': disk_free_below is '100 %'"),
        ('name = "x"\nno_data_for = "1h"\nnodes = ["bridge"]', "line 4: rule 'x': nodes is ['bridge']"),
        ('name = "x"\nno_data_for = "1h"\nseverity = "loud"', "line 4: rule 'x': severity is 'loud'"),
        (
            'name = "x"\nquantity = "co2"\nabove = 5\nbelow = 4\nhysteresis = 1',
            "line 4: rule 'x': above is less than below with twice the hysteresis",
        ),
    ],
)
def test_a_fault_names_its_rule_and_what_is_allowed(file: Path, rule: str, fault: str) -> None:
    (told,) = faults(file, f"[[rule]]\n{rule}\n")

    assert told.startswith(fault)


def test_two_rules_of_one_name_are_a_fault(file: Path) -> None:
    rule = '[[rule]]\nname = "x"\nlost_within = "1h"\n'

    assert faults(file, rule * 2) == ["line 5: rule 'x': another rule has this name; allowed is one"]


def test_what_is_no_toml_is_told_with_its_line(file: Path) -> None:
    (told,) = faults(file, '[[rule]]\nname = "x\n')

    assert "is no TOML" in told
    assert "line 2" in told


def test_a_table_that_is_no_list_is_a_fault(file: Path) -> None:
    assert faults(file, '[rule]\nname = "x"\n') == ["line 1: rule is no list of tables; allowed is [[rule]]"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10 min", 600), ("1,5h", 5400), ("30d", 2_592_000)])
def test_durations_are_numbers_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-5s", "1 year", "1e9h", "99999999d", "nan s"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no number|longer"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(600, "10 min"), (90, "90 s"), (0.5, "0.5 s"), (172_800, "2 d")])
def test_a_duration_is_said_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
