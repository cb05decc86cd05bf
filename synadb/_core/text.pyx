"""An open text index: the calls of synadb/text.h over prepared arguments. `synadb.TextIndex` inherits
from `TextHandle`, turns what users pass into texts and documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport UINT64_MAX, int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cpython.object cimport PyTypeObject

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_TEXT_ALL, SYNA_TEXT_METADATA, SYNA_TEXT_TEXTS, syna_document,
    syna_free_spans, syna_free_text, syna_free_text_hits, syna_span, syna_text, syna_text_close,
    syna_text_compact, syna_text_contains, syna_text_count, syna_text_delete, syna_text_explain,
    syna_text_find, syna_text_flush, syna_text_frequency, syna_text_get, syna_text_get_stats,
    syna_text_hit, syna_text_ids, syna_text_open, syna_text_options, syna_text_put,
    syna_text_refresh, syna_text_search, syna_text_set_metadata, syna_text_spans,
    syna_text_stats, syna_text_terms)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport place_of, put
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)
    void PyObject_GC_UnTrack(object what)

import json
import warnings

from synadb.errors import ArgumentError, Reason


cdef const char *utf8_of(object text, const char *what, Py_ssize_t *size) except NULL:
    """A str's bytes, borrowed from it."""
    if not isinstance(text, str):
        raise TypeError(f"{what.decode()} is a str, not {type(text).__name__}")
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError:
        raise ArgumentError(0, f"{what.decode()} {text!r:.80} cannot be encoded as UTF-8",
                            reason=Reason.ARGUMENT) from None


cdef object text_or_none(const char *text, size_t size):
    return None if text is NULL else PyUnicode_DecodeUTF8(text, size, NULL)


cdef tuple hit_tuple(const syna_text_hit *hit):
    """(id, score, text or None, JSON of the metadata or None)"""
    return (PyUnicode_DecodeUTF8(hit.id, hit.id_len, NULL), hit.score,
            text_or_none(hit.text, hit.text_len), text_or_none(hit.metadata, hit.metadata_len))


cdef class TextResults:
    """How results are made: objects of `kind`, a dataclass with slots. One without metadata refers to
    nothing that could refer back to it, so the collector need not look at it."""
    cdef object kind
    cdef Py_ssize_t key, score, text, metadata, snippet

    def __init__(self, kind not None):
        self.kind = kind
        self.key = place_of(kind, "key")
        self.score = place_of(kind, "score")
        self.text = place_of(kind, "text")
        self.metadata = place_of(kind, "metadata")
        self.snippet = place_of(kind, "snippet")

    cdef object make(self, const syna_text_hit *hit):
        cdef object made = PyType_GenericAlloc(<PyTypeObject *>self.kind, 0)
        cdef object metadata = None
        put(made, self.key, PyUnicode_DecodeUTF8(hit.id, hit.id_len, NULL))
        put(made, self.score, hit.score)
        put(made, self.text, text_or_none(hit.text, hit.text_len))
        if hit.metadata is not NULL:
            metadata = json.loads(PyUnicode_DecodeUTF8(hit.metadata, hit.metadata_len, NULL))
        put(made, self.metadata, metadata)
        put(made, self.snippet, None)
        if hit.metadata is NULL:
            PyObject_GC_UnTrack(made)
        return made


# Documents as the core wants them; the list keeps the texts alive meanwhile.
cdef class DocumentArray:
    cdef list items
    cdef syna_document *documents

    def __cinit__(self, list items not None):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = len(items)
        self.items = items
        self.documents = <syna_document *>malloc(max(count, 1) * sizeof(syna_document))
        if self.documents is NULL:
            raise MemoryError()
        memset(self.documents, 0, max(count, 1) * sizeof(syna_document))
        for i in range(<Py_ssize_t>count):
            key, text, metadata = items[i]
            self.documents[i].id = key_utf8(key, &size)
            self.documents[i].id_len = size
            self.documents[i].text = utf8_of(text, b"a text", &size)
            self.documents[i].text_len = size
            if metadata is not None:
                self.documents[i].metadata = utf8_of(metadata, b"metadata", &size)
                self.documents[i].metadata_len = size

    def __dealloc__(self):
        free(self.documents)


# Queries likewise.
cdef class QueryArray:
    cdef list queries
    cdef const char **texts
    cdef size_t *lens
    cdef size_t *counts

    def __cinit__(self, list queries not None):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = max(len(queries), 1)
        self.queries = queries
        self.texts = <const char **>malloc(count * sizeof(char *))
        self.lens = <size_t *>malloc(count * sizeof(size_t))
        self.counts = <size_t *>malloc(count * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL or self.counts is NULL:
            raise MemoryError()
        for i in range(len(queries)):
            self.texts[i] = utf8_of(queries[i], b"a query", &size)
            self.lens[i] = size

    def __dealloc__(self):
        free(self.texts)
        free(self.lens)
        free(self.counts)


cdef void call_stemmer(void *context, char *word, size_t *size, size_t room) noexcept nogil:
    """Ask the Python function; whatever goes wrong leaves the word as it is."""
    with gil:
        try:
            raw = (<object>context)(PyUnicode_DecodeUTF8(word, size[0], NULL)).encode("utf-8")
            if 0 < len(raw) <= <Py_ssize_t>room:
                memcpy(word, <const char *>raw, len(raw))
                size[0] = len(raw)
        except Exception as error:
            warnings.warn(f"a stemmer failed: {error!r}", RuntimeWarning)


cdef class TextHandle(Handle):
    cdef syna_text *ptr

    def __cinit__(self):
        self.noun = "text index"

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, bint sync_on_write, bint read_only, bint must_exist, double k1, double b,
              analyzer, stemmer, progress):
        """`stemmer`: a function that lives for ever, or None."""
        cdef bytes raw = path_bytes(path)
        cdef bytes name = None if analyzer is None else analyzer.encode("utf-8")
        cdef const char *c_path = raw
        cdef syna_text_options o
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.no_sync = not sync_on_write
        o.read_only = read_only
        o.must_exist = must_exist
        o.bm25_given = True
        o.k1 = k1
        o.b = b
        if name is not None:
            o.analyzer = name
        if stemmer is not None:
            o.stem = call_stemmer
            o.stem_context = <void *>stemmer
        o.progress = progress_step
        o.context = &steps.context
        with nogil:
            rc = syna_text_open(c_path, &o, &self.ptr)
        steps.finish(rc)
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_text_close(self.ptr)
        self.ptr = NULL
        return rc

    # -------------------------------------------------------------------------------- writing

    def _put(self, list items not None):
        """items: (id, text, JSON of the metadata or None). Returns how many ids were new."""
        cdef DocumentArray array = DocumentArray(items)
        cdef size_t count = len(items)
        cdef size_t added = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_put(self.ptr, array.documents, count, &added)
        self.leave()
        check(rc)
        return added

    def _delete(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t deleted = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    def _set_metadata(self, key, metadata):
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t json_size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef const char *json = NULL
        cdef int32_t rc
        if metadata is not None:
            json = utf8_of(metadata, b"metadata", &json_size)
        self.enter()
        with nogil:
            rc = syna_text_set_metadata(self.ptr, k, size, json, json_size)
        self.leave()
        check(rc)

    def flush(self):
        """Make every document stored so far durable; needed only with ``sync_on_write=False``."""
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_flush(self.ptr)
        self.leave()
        check(rc)

    def _compact(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_compact(self.ptr, progress_step, &steps.context)
        self.leave()
        steps.finish(rc)

    def refresh(self):
        """See what the writer of the file has done since; for an index opened ``read_only``.

        Returns
        -------
        bool
            Whether documents came, went or changed.
        """
        cdef int32_t changed = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    # -------------------------------------------------------------------------------- reading

    def _get(self, key):
        """A hit tuple, or None."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef syna_text_hit *hit = NULL
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_get(self.ptr, k, size, &hit)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        try:
            return hit_tuple(hit)
        finally:
            syna_free_text_hits(hit)

    def _contains(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_text_count(self.ptr)
        self.leave()
        return count

    def _keys(self):
        cdef syna_text_hit *hits = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_ids(self.ptr, &hits, &count)
        self.leave()
        check(rc)
        try:
            return [PyUnicode_DecodeUTF8(hits[i].id, hits[i].id_len, NULL) for i in range(count)]
        finally:
            syna_free_text_hits(hits)

    def _find(self, list queries not None, k, filter, bint every, bint texts,
              TextResults make not None):
        """A list of hits for each query, and how they were found: (terms, postings, scored,
        candidates, verified). k None: no limit."""
        cdef QueryArray array = QueryArray(queries)
        cdef syna_text_search how
        cdef syna_text_explain told
        cdef syna_text_hit *hits = NULL
        cdef syna_text_hit *hit
        cdef size_t count = len(queries)
        cdef size_t q, i
        cdef Py_ssize_t size = 0
        cdef int32_t rc
        memset(&how, 0, sizeof(how))
        memset(&told, 0, sizeof(told))
        how.size = sizeof(how)
        told.size = sizeof(told)
        how.k = UINT64_MAX if k is None else k
        how.flags = ((SYNA_TEXT_ALL if every else 0) | (SYNA_TEXT_TEXTS if texts else 0)
                     | SYNA_TEXT_METADATA)
        if filter is not None:
            how.filter = utf8_of(filter, b"the filter", &size)
            how.filter_len = size
        how.explain = &told
        self.enter()
        with nogil:
            rc = syna_text_find(self.ptr, array.texts, array.lens, count, &how, &hits, array.counts)
        self.leave()
        check(rc)
        results = []
        hit = hits
        try:
            for q in range(count):
                results.append([make.make(&hit[i]) for i in range(array.counts[q])])
                hit += array.counts[q]
        finally:
            syna_free_text_hits(hits)
        return results, (told.terms, told.postings, told.scored, told.candidates, told.verified)

    def _spans(self, query, text):
        """(start, end) in the UTF-8 bytes of the text."""
        cdef Py_ssize_t query_size = 0
        cdef Py_ssize_t text_size = 0
        cdef const char *q = utf8_of(query, b"a query", &query_size)
        cdef const char *t = utf8_of(text, b"a text", &text_size)
        cdef syna_span *spans = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_spans(self.ptr, q, query_size, t, text_size, &spans, &count)
        self.leave()
        check(rc)
        try:
            return [(spans[i].start, spans[i].end) for i in range(count)]
        finally:
            syna_free_spans(spans)

    def _terms(self, text):
        cdef Py_ssize_t size = 0
        cdef const char *t = utf8_of(text, b"a text", &size)
        cdef char *lines = NULL
        cdef size_t len = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_terms(self.ptr, t, size, &lines, &len)
        self.leave()
        check(rc)
        try:
            return PyUnicode_DecodeUTF8(lines, len, NULL).split("\n")[:-1]
        finally:
            syna_free_text(lines, len)

    def _frequency(self, term):
        cdef Py_ssize_t size = 0
        cdef const char *t = utf8_of(term, b"a term", &size)
        cdef uint64_t documents = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_text_frequency(self.ptr, t, size, &documents)
        self.leave()
        check(rc)
        return documents

    def _stats(self):
        """(analyzer, version, k1, b, documents, dead_rows, terms, postings, average_length,
        memory_bytes, file_bytes)"""
        cdef syna_text_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_text_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return (s.analyzer.decode("ascii"), s.analyzer_version, s.k1, s.b, s.documents,
                s.dead_rows, s.terms, s.postings, s.average_length, s.memory_bytes, s.file_bytes)
