"""Runs of experiments: the calls of synadb/experiment.h on an open database. `synadb.experiment`
documents what they do.

Rules as in kv.pyx: take what is needed from the Python arguments first, bracket the core's call
with db_enter and db_leave, release the GIL around it, and build Python objects after it. Texts go
to this part of the core NUL-terminated, so one that holds a NUL is refused here.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strlen

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport Database, db_enter, db_leave
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_RUN_ID_ROOM, SYNA_SUCCESS, syna_db, syna_free_text,
    syna_metric_stats, syna_run_check, syna_run_delete, syna_run_end, syna_run_log_artifact,
    syna_run_log_metrics, syna_run_log_params, syna_run_meta, syna_run_metric,
    syna_run_metric_stats, syna_run_options, syna_run_resume, syna_run_set_tags, syna_run_start,
    syna_runs, syna_runs_latest)
from synadb._core.status cimport check, fail

import operator

import numpy as np

from synadb.errors import ArgumentError, IntegerRangeError, InvalidKeyError, Reason

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)


cdef const char *name_of(object name) except NULL:
    """The UTF-8 of a name; it lives as long as the str."""
    cdef Py_ssize_t size = 0
    cdef const char *text = key_utf8(name, &size)
    if <Py_ssize_t>strlen(text) != size:
        raise InvalidKeyError(
            0, f"the name {name!r:.80} contains a NUL character", reason=Reason.ARGUMENT)
    return text


cdef const char *value_of_param(object value) except NULL:
    cdef Py_ssize_t size = 0
    cdef const char *text
    if not isinstance(value, str):
        raise TypeError(f"expected a str, not {type(value).__name__}")
    try:
        text = PyUnicode_AsUTF8AndSize(value, &size)
    except UnicodeEncodeError:
        raise ArgumentError(
            0, f"the text {value!r:.80} cannot be encoded as UTF-8",
            reason=Reason.ARGUMENT) from None
    if <Py_ssize_t>strlen(text) != size:
        raise ArgumentError(
            0, f"the text {value!r:.80} contains a NUL character", reason=Reason.ARGUMENT)
    return text


cdef int64_t step_of(object step) except? -2:
    """The step as the core wants it: -1 for the next one."""
    if step is None:
        return -1
    number = operator.index(step)
    if number < 0:
        raise ArgumentError(
            0, f"step is {number}; expected 0 or more, or None for the next one",
            reason=Reason.ARGUMENT)
    if number > INT64_MAX:
        raise IntegerRangeError(
            0, f"step {number} does not fit in 64 signed bits", reason=Reason.ARGUMENT)
    return number


# Names, and texts to go with them, as the core wants them; the lists keep them alive meanwhile.
cdef class Texts:
    cdef list names, values
    cdef const char **name_array
    cdef const char **value_array

    def __cinit__(self, list names not None, list values):
        cdef Py_ssize_t i
        cdef size_t count = max(len(names), 1)
        self.names = names
        self.values = values
        self.name_array = <const char **>malloc(count * sizeof(char *))
        self.value_array = <const char **>malloc(count * sizeof(char *))
        if self.name_array is NULL or self.value_array is NULL:
            raise MemoryError()
        for i in range(len(names)):
            self.name_array[i] = name_of(names[i])
            if values is not None:
                self.value_array[i] = value_of_param(values[i])

    def __dealloc__(self):
        free(self.name_array)
        free(self.value_array)


# ------------------------------------------------------------------------------------ a run's life


def start(Database db not None, experiment, tags_json, parent, system_json):
    """Start a run; its id. The last three are str or None."""
    cdef syna_run_options o
    cdef char id[SYNA_RUN_ID_ROOM]
    cdef int32_t rc
    memset(&o, 0, sizeof(o))
    o.size = sizeof(o)
    o.experiment = name_of(experiment)
    if tags_json is not None:
        o.tags_json = value_of_param(tags_json)
    if parent is not None:
        o.parent = name_of(parent)
    if system_json is not None:
        o.system_json = value_of_param(system_json)
    db_enter(db)
    with nogil:
        rc = syna_run_start(db.ptr, &o, id)
    db_leave(db)
    if rc != SYNA_SUCCESS:
        fail(rc)
    return id.decode("ascii")


def require_running(Database db not None, run_id):
    """Raise unless the run may be logged to."""
    cdef const char *id = name_of(run_id)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_check(db.ptr, id)
    db_leave(db)
    check(rc)


def end(Database db not None, run_id, int32_t status):
    cdef const char *id = name_of(run_id)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_end(db.ptr, id, status)
    db_leave(db)
    check(rc)


def resume(Database db not None, run_id):
    cdef const char *id = name_of(run_id)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_resume(db.ptr, id)
    db_leave(db)
    check(rc)


def set_tags(Database db not None, run_id, tags_json):
    cdef const char *id = name_of(run_id)
    cdef const char *tags = value_of_param(tags_json)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_set_tags(db.ptr, id, tags)
    db_leave(db)
    check(rc)


def delete(Database db not None, run_id):
    """Delete a run; how many keys it had, 0 when there is none."""
    cdef const char *id = name_of(run_id)
    cdef int64_t deleted = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_delete(db.ptr, id, &deleted)
    db_leave(db)
    if rc == SYNA_ERR_KEY_NOT_FOUND:
        return 0
    check(rc)
    return deleted


# ----------------------------------------------------------------------------------------- logging


def log_params(Database db not None, run_id, list names not None, list values not None):
    """Log texts under names, in one commit."""
    cdef const char *id = name_of(run_id)
    cdef Texts texts = Texts(names, values)
    cdef size_t count = len(names)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_log_params(db.ptr, id, texts.name_array, texts.value_array, count)
    db_leave(db)
    check(rc)


def log_metric(Database db not None, run_id, name, value, step):
    """Log one value; step None is the next one."""
    cdef const char *id = name_of(run_id)
    cdef const char *metric = name_of(name)
    cdef double number = value
    cdef int64_t at = step_of(step)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_log_metrics(db.ptr, id, &metric, &number, 1, at)
    db_leave(db)
    if rc != SYNA_SUCCESS:
        fail(rc)


def log_metrics(Database db not None, run_id, list names not None,
                const double[::1] values not None, step):
    """Log values under names, in one commit."""
    cdef const char *id = name_of(run_id)
    cdef Texts texts = Texts(names, None)
    cdef size_t count = values.shape[0]
    cdef const double *numbers = &values[0] if count else NULL
    cdef int64_t at = step_of(step)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_log_metrics(db.ptr, id, texts.name_array, numbers, count, at)
    db_leave(db)
    check(rc)


def log_artifact(Database db not None, run_id, name, data, kind):
    """Log a bytes-like object; kind None when it is just bytes."""
    cdef const char *id = name_of(run_id)
    cdef const char *artifact = name_of(name)
    cdef const char *what = NULL
    cdef Py_buffer view
    cdef int32_t rc
    if kind is not None:
        what = name_of(kind)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        db_enter(db)
        with nogil:
            rc = syna_run_log_artifact(db.ptr, id, artifact, view.buf, view.len, what)
        db_leave(db)
    finally:
        PyBuffer_Release(&view)
    check(rc)


# ----------------------------------------------------------------------------------------- reading


def meta(Database db not None, run_id):
    """The record of a run as JSON; None when there is none."""
    cdef const char *id = name_of(run_id)
    cdef char *json = NULL
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_meta(db.ptr, id, &json)
    db_leave(db)
    if rc == SYNA_ERR_KEY_NOT_FOUND:
        return None
    check(rc)
    try:
        return json.decode("utf-8")
    finally:
        syna_free_text(json, 0)


# Where the visitors below put what they see. An exception ends the walk and is raised behind it.
cdef class Found:
    cdef list rows
    cdef object error

    def __cinit__(self):
        self.rows = []


cdef int32_t see_run(void *context, const char *run_id, const char *json,
                     size_t len) noexcept with gil:
    cdef Found found = <Found>context
    try:
        found.rows.append((run_id.decode("utf-8"), PyUnicode_DecodeUTF8(json, len, NULL)))
    except BaseException as error:
        found.error = error
        return 1
    return 0


cdef int32_t see_latest(void *context, const char *run_id, int64_t step,
                        double value) noexcept with gil:
    cdef Found found = <Found>context
    try:
        found.rows.append((run_id.decode("utf-8"), step, value))
    except BaseException as error:
        found.error = error
        return 1
    return 0


def runs(Database db not None, experiment):
    """(id, record as JSON) of every run of an experiment, None: of all; in the order of ids."""
    cdef const char *name = NULL
    cdef Found found = Found()
    cdef int32_t rc
    if experiment is not None:
        name = name_of(experiment)
    db_enter(db)
    with nogil:
        rc = syna_runs(db.ptr, name, see_run, <void *>found)
    db_leave(db)
    if found.error is not None:
        raise found.error
    check(rc)
    return found.rows


def latest(Database db not None, experiment, metric):
    """(id, step, value at the highest step) of every run that has the metric."""
    cdef const char *name = NULL
    cdef const char *wanted = name_of(metric)
    cdef Found found = Found()
    cdef int32_t rc
    if experiment is not None:
        name = name_of(experiment)
    db_enter(db)
    with nogil:
        rc = syna_runs_latest(db.ptr, name, wanted, see_latest, <void *>found)
    db_leave(db)
    if found.error is not None:
        raise found.error
    check(rc)
    return found.rows


def points(Database db not None, run_id, metric):
    """(steps int64, values float64, times in microseconds uint64), in the order of steps."""
    cdef const char *id = name_of(run_id)
    cdef const char *name = name_of(metric)
    cdef int64_t[::1] steps
    cdef double[::1] values
    cdef uint64_t[::1] times
    cdef int64_t *step_room
    cdef double *value_room
    cdef uint64_t *time_room
    cdef size_t count = 0
    cdef size_t cap
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_run_metric(db.ptr, id, name, NULL, NULL, NULL, 0, &count)
    db_leave(db)
    check(rc)
    cap = count  # points that come in between are left for the next call
    step_array = np.empty(max(cap, 1), np.int64)
    value_array = np.empty(max(cap, 1), np.float64)
    time_array = np.empty(max(cap, 1), np.uint64)
    steps, values, times = step_array, value_array, time_array
    step_room, value_room, time_room = &steps[0], &values[0], &times[0]
    db_enter(db)
    with nogil:
        rc = syna_run_metric(db.ptr, id, name, step_room, value_room, time_room, cap, &count)
    db_leave(db)
    check(rc)
    count = min(count, cap)
    return step_array[:count], value_array[:count], time_array[:count]


def stats(Database db not None, run_id, metric):
    """(count, latest step, latest, min, max, mean); None when it was never logged."""
    cdef const char *id = name_of(run_id)
    cdef const char *name = name_of(metric)
    cdef syna_metric_stats s
    cdef int32_t rc
    memset(&s, 0, sizeof(s))
    s.size = sizeof(s)
    db_enter(db)
    with nogil:
        rc = syna_run_metric_stats(db.ptr, id, name, &s)
    db_leave(db)
    if rc == SYNA_ERR_KEY_NOT_FOUND:
        return None
    check(rc)
    return s.count, s.latest_step, s.latest, s.min, s.max, s.mean
