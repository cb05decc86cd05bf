"""`synadb demo`: the texts it collects, the vectors it makes of them, and what it answers."""

import doctest
import json
import subprocess
import sys

import numpy as np
import pytest

import synadb.demo.corpus
import synadb.demo.library
import synadb.demo.words
from synadb import SynaDB, VectorStore
from synadb.demo import app, corpus, lsa, main, words
from synadb.demo.corpus import Document
from synadb.demo.library import BUILD_HISTORY, QUERY_HISTORY, Library

# A question and the modules, any of which answers it.
QUESTIONS = {
    "how do I read a zip archive": {"zipfile"},
    "compress data with gzip": {"gzip"},
    "parse command line arguments": {"argparse", "optparse", "getopt"},
    "run a subprocess and capture its output": {"subprocess"},
    "send an email": {"email", "smtplib"},
    "create a temporary file": {"tempfile"},
    "parse a CSV file": {"csv"},
    "pick a random element from a list": {"random"},
    "match text with a regular expression": {"re"},
    "pretty print a data structure": {"pprint"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A library of the whole standard library, built once."""
    folder = tmp_path_factory.mktemp("demo") / "library"
    assert main(["--out", str(folder), "--quiet", "--query", "zip archive"]) == 0
    return folder


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr()


# ------------------------------------------------------------------------------------ the answers


def test_most_questions_find_their_module_among_the_first_five(folder, capsys):
    arguments = [part for question in QUESTIONS for part in ("--query", question)]
    status, said = run(capsys, "--out", folder, "--json", "-k", 5, *arguments)
    assert status == 0
    right = []
    for answer in json.loads(said.out)["answers"]:
        modules = {hit["name"].split(".")[0] for hit in answer["hits"]}
        if modules & QUESTIONS[answer["query"]]:
            right.append(answer["query"])
    assert len(right) >= 8, sorted(set(QUESTIONS) - set(right))


def test_the_same_folder_is_used_again(folder, capsys):
    before = sorted((file.name, file.stat().st_ino) for file in folder.iterdir())
    with SynaDB(folder / "texts.db") as texts, VectorStore(folder / "vectors.db", 256) as vectors:
        count, rows = len(texts), len(vectors)
    status, said = run(capsys, "--out", folder, "--query", "parse a CSV file", "-k", 2)
    assert status == 0
    assert "again" in said.out and "csv" in said.out and str(folder) in said.out
    assert sorted((file.name, file.stat().st_ino) for file in folder.iterdir()) == before
    with SynaDB(folder / "texts.db") as texts, VectorStore(folder / "vectors.db", 256) as vectors:
        assert (len(texts), len(vectors)) == (count, rows)


def test_the_history_grows_with_every_question(folder, capsys):
    with SynaDB(folder / "texts.db") as texts:
        before = texts.get_history_tensor(QUERY_HISTORY)
        assert texts.get_history_tensor(BUILD_HISTORY).size == 1
    _, said = run(capsys, "--out", folder, "--json", "-q", "one thing", "-q", "another thing")
    result = json.loads(said.out)
    assert result["history"]["values"] == before.size + 2
    with SynaDB(folder / "texts.db") as texts:
        after = texts.get_history_tensor(QUERY_HISTORY)
    assert np.array_equal(after[: before.size], before)
    assert after[-1] == pytest.approx(result["answers"][-1]["ms"], abs=1e-3)


def test_json_tells_everything(folder, capsys):
    _, said = run(capsys, "--out", folder, "--json")
    result = json.loads(said.out)
    assert result["reused"] is True and result["documents"] > 2000
    assert [answer["query"] for answer in result["answers"]] == app.QUERIES
    hit = result["answers"][0]["hits"][0]
    assert hit["name"].startswith("zipfile") and hit["file"].startswith("zipfile")
    assert hit["line"] >= 1 and 0 <= hit["score"] <= 2 and hit["summary"]


def test_quiet_prints_answers_only(folder, capsys):
    _, said = run(capsys, "--out", folder, "--quiet", "-q", "compress data with gzip", "-k", 1)
    lines = said.out.strip().splitlines()
    assert len(lines) == 4 and "gzip" in lines[1]
    assert "vectors: " in lines[3] and "words: " in lines[3]
    assert said.err == ""


def test_a_question_of_unknown_words_has_no_answer(folder, capsys):
    status, said = run(capsys, "--out", folder, "-q", "xyzzyq plughq")
    assert status == 0
    assert "no word of this is in the texts" in said.out


def test_the_command_line_leads_here(folder):
    done = subprocess.run(
        [sys.executable, "-m", "synadb", "demo", "--out", str(folder), "-q", "zip archive"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "zipfile" in done.stdout


def test_bad_arguments_have_their_exit_status(capsys, tmp_path):
    for arguments in (["-k", "0"], ["-k", "x"], ["--nonsense"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    file = tmp_path / "file"
    file.write_text("not a folder")
    capsys.readouterr()
    status, said = run(capsys, "--out", file)
    assert status == 1
    assert said.err.startswith("synadb demo: ") and "Traceback" not in said.err


# ------------------------------------------------------------------------------------ the library


def documents_of(*texts):
    return [Document(f"m{i}", f"m{i}", "", f"m{i}.py", 1, "", text) for i, text in enumerate(texts)]


def test_building_again_replaces_and_forgets(tmp_path):
    with Library(tmp_path / "lib") as library:
        assert not library.is_current and library.about == {}
        library.build(documents_of("red apples", "green apples", "red and green pears"))
        assert library.is_current and library.about["documents"] == 3
        library.build(documents_of("blue and red plums", "blue skies, red skies", "plums"))
        assert library.is_current and len(library.vectors) == 3
        library.build(documents_of("blue and red plums", "blue skies, red plums"))
        assert library.is_current and len(library.vectors) == 2
        assert sorted(library.texts.scan("doc/", keys_only=True)) == ["doc/m0", "doc/m1"]
        assert {answer.document.name for answer in library.ask("blue")} == {"m0", "m1"}
        assert library.texts.get_history_tensor(BUILD_HISTORY).size == 3
    with Library(tmp_path / "lib") as library:
        assert len(library.ask("plums")) == 2


def test_an_interrupted_build_is_not_current(tmp_path):
    class Stop(Exception):
        pass

    documents = documents_of("red apples", "green apples", "red and green pears")

    def stop(step, done, total):
        raise Stop

    with Library(tmp_path / "lib") as library:
        with pytest.raises(Stop):
            library.build(documents, progress=stop)
        library.vectors.insert_batch(["m0"], np.ones((1, 256)))  # as far as another one came
        assert not library.is_current
        library.build(documents)
        assert library.is_current and len(library.vectors) == 3


def test_a_folder_without_sources_says_so(tmp_path):
    with Library(tmp_path / "lib") as library:
        with pytest.raises(ValueError, match="no Python sources"):
            library.build([])


# ------------------------------------------------------------------------------------- the corpus


def test_public_docstrings_are_collected_without_importing(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text('"""A package of things."""\n')
    (tmp_path / "pkg" / "_private.py").write_text('"""Nobody should see this."""\n')
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_x.py").write_text('"""A test is no documentation."""\n')
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "mod.py").write_text(
        '"""The module.\n\nMore of it."""\n'
        "raise SystemExit('imported')\n"
        "if True:\n"
        "    class Thing(Base):\n"
        '        """A thing to have."""\n'
        "        def use(self, times=1, *, hard=False):\n"
        '            """Use the thing."""\n'
        "        def _hide(self):\n"
        '            """Hide the thing."""\n'
        "def short():\n"
        '    """No."""\n'
    )
    found = {document.name: document for document in corpus.collect(str(tmp_path))}
    assert sorted(found) == ["mod", "mod.Thing", "mod.Thing.use", "pkg"]
    assert found["mod"].summary == "The module."
    assert found["mod.Thing"].signature == "(Base)"
    assert found["mod.Thing.use"].signature == "(self, times=1, *, hard=False)"
    assert (found["mod.Thing.use"].module, found["mod.Thing.use"].line) == ("mod", 8)


def test_the_standard_library_has_thousands_of_texts(folder):
    with SynaDB(folder / "texts.db") as texts:
        document = Document(**texts["doc/zipfile.ZipFile.namelist"])
        assert texts["library/about"]["documents"] > 2000
    assert document.module == "zipfile" and document.qualname == "ZipFile.namelist"


# -------------------------------------------------------------------------------------- the maths


def sparse_of(dense):
    rows, columns = np.nonzero(dense)
    starts = np.zeros(len(dense) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(dense)), out=starts[1:])
    return lsa.Sparse(starts, columns.astype(np.int32), dense[rows, columns], dense.shape[1])


def random_sparse(height, width, share, seed=1):
    random = np.random.default_rng(seed)
    dense = random.standard_normal((height, width)).astype(np.float32)
    return dense * (random.random((height, width)) < share)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_sparse_products_are_those_of_dense_matrices(share, monkeypatch):
    monkeypatch.setattr(lsa, "_BLOCK_ENTRIES", 50)
    dense = random_sparse(120, 80, share)
    other = random_sparse(80, 7, 1.0, seed=2)
    np.testing.assert_allclose(sparse_of(dense).dot(other), dense @ other, rtol=1e-4, atol=1e-4)
    flipped = sparse_of(dense).transposed()
    np.testing.assert_allclose(
        flipped.dot(dense[:, :3]), dense.T @ dense[:, :3], rtol=1e-4, atol=1e-4
    )


def test_singular_vectors_are_those_of_the_dense_decomposition():
    # A spectrum that falls like that of texts: then the first vectors are well defined.
    left = np.linalg.qr(random_sparse(300, 60, 1.0))[0]
    right = np.linalg.qr(random_sparse(90, 60, 1.0, seed=2))[0]
    dense = (left * 0.8 ** np.arange(60)) @ right.T
    found = lsa.right_singular_vectors(sparse_of(dense.astype(np.float32)), 20)
    assert found.shape == (90, 20)
    np.testing.assert_allclose(found.T @ found, np.eye(20), atol=1e-4)
    overlap = np.abs(np.sum(found * right[:, :20], axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    again = lsa.right_singular_vectors(sparse_of(dense.astype(np.float32)), 20)
    assert np.array_equal(found, again)


def test_more_dimensions_than_there_are_do_no_harm():
    dense = random_sparse(5, 4, 1.0)
    assert lsa.right_singular_vectors(sparse_of(dense), 256).shape == (4, 4)


def test_rare_terms_count_more_and_rows_have_unit_length():
    counts = [{"common": 1.0, "rare": 1.0}, {"common": 3.0}, {"common": 1.0, "rare": 2.0}, {"x": 1}]
    model = lsa.train(counts, 2)
    assert set(model.vocabulary) == {"common", "rare"}
    assert model.idf[model.vocabulary["rare"]] > model.idf[model.vocabulary["common"]]
    vectors = model.embed([*counts, {"unknown": 1.0}])
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, rtol=1e-5)
    assert not vectors[3].any() and not vectors[4].any()
    with pytest.raises(ValueError, match="no term occurs in two"):
        lsa.train([{"a": 1.0}, {"b": 1.0}])


def test_words_meet_at_their_stems():
    for group in (
        ["compress", "compressed", "compressing", "compression", "compresses"],
        ["archive", "archives", "archived"],
        ["copy", "copies", "copied"],
        ["run", "running", "runs"],
        ["parse", "parser", "parsing", "parses"],
        ["directory", "directories"],
    ):
        assert len({words.stem(word) for word in group}) == 1, group
    assert words.terms("the of and") == []
    assert words.terms("HTTPServer read_all_lines") == [
        "httpserv",
        "http",
        "serv",
        "readalllin",
        "read",
        "lin",
    ]


@pytest.mark.parametrize("module", [synadb.demo.corpus, synadb.demo.words, synadb.demo.library])
def test_the_examples_of_the_docstrings_run(module, tmp_path):
    result = doctest.testmod(module, extraglobs={"tmp": tmp_path})
    assert result.failed == 0 and result.attempted > 0
