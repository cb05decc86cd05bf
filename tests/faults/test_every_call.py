"""T5 and T6 through Python, over the copy of the core that can be made to fail: every_call.py."""

from pathlib import Path


def test_P7_every_failure_is_typed_and_leaves_everything_as_it_was(run_testing):
    print(run_testing(Path(__file__).with_name("every_call.py")))


def test_the_testing_module_is_in_no_wheel():
    import importlib.util

    assert importlib.util.find_spec("synadb._core._testing") is None
