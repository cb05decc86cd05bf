"""What `import synadb` brings, and what it costs."""

import pytest

import synadb

SEEDS = ["SynaDB", "SynaError", "VectorStore", "MmapVectorStore", "TensorEngine", "ModelRegistry",
         "Experiment", "Run", "ExperienceCollector", "GravityWellIndex", "CascadeIndex",
         "HybridVectorStore", "SparseVectorStore"]  # fmt: skip


@pytest.mark.parametrize("name", SEEDS)
def test_the_names_of_the_seeds_are_there(name):
    assert (
        isinstance(getattr(synadb, name), type) and name in synadb.__all__ and name in dir(synadb)
    )


def test_everything_exported_exists():
    assert sorted(synadb.__all__) == synadb.__all__
    assert all(hasattr(synadb, name) for name in synadb.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        getattr(synadb, "nonsense")  # noqa: B009


def test_the_version_is_that_of_the_core(python):
    from synadb._core.status import abi_version, version

    assert synadb.__version__ == version() and synadb.__version__.count(".") == 2
    assert abi_version() >= 1


def test_import_loads_numpy_and_the_standard_library_only(python):
    loaded = python(
        """
        import sys
        before = set(sys.modules)
        import numpy
        with_numpy = {name.split(".")[0] for name in sys.modules}
        import synadb
        ours = {name.split(".")[0] for name in sys.modules} - with_numpy
        print(" ".join(sorted(ours - set(sys.stdlib_module_names))) if hasattr(sys,
        "stdlib_module_names") else "synadb")
        """
    )
    # Compiled modules register helpers of their own, named after the compiler.
    assert {name for name in loaded.split() if "cython" not in name.lower()} == {"synadb"}


def test_import_loads_few_modules(python):
    """What makes it fast: SynaDB itself and little of the standard library that numpy has not
    loaded yet. How many milliseconds that takes, `bench.py footprint` says: at most 150."""
    loaded = python(
        """
        import sys, numpy.typing
        import atexit, copy, dataclasses, errno, threading  # and what they load
        before = set(sys.modules)
        import synadb
        print(" ".join(set(sys.modules) - before))
        """
    ).split()
    ours = {name for name in loaded if name.split(".")[0] == "synadb"}
    compiled = {name for name in ours if name.startswith("synadb._core.")}
    assert ours - compiled == {"synadb", "synadb._core", "synadb.blob", "synadb.db",
                               "synadb.errors", "synadb.interchange",
                               "synadb.interchange.methods", "synadb.types"}  # fmt: skip
    assert compiled == {"synadb._core." + name for name in
                        ("arrow", "cursor", "history", "kv", "pack", "progress", "status", "unpack",
                         "upkeep", "values")}  # fmt: skip
    rest = {name for name in loaded if "cython" not in name.lower()} - ours
    assert rest <= {"__future__", "gc", "numpy._typing._add_docstring"}, sorted(rest)


def test_heavy_parts_are_loaded_when_used(python):
    out = python(
        """
        import sys, synadb
        print("synadb.vector" in sys.modules, "synadb.cli" in sys.modules,
        "argparse" in sys.modules)
        synadb.VectorStore
        print("synadb.vector" in sys.modules)
        """
    )
    assert out.split()[0] == "False" and out.split()[-1] == "True"
