"""T9 over the copy of the core that can crash: see machine.py."""

from pathlib import Path


def test_P2_P4_the_database_is_a_dict_with_a_past(run_testing):
    print(run_testing(Path(__file__).with_name("machine.py"), timeout=7200))
