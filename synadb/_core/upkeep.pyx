"""Long calls and facts: compaction, backup, refresh, figures, verify and salvage. Documented where
they are public: `synadb.SynaDB`, `synadb.verify`, `synadb.salvage`."""

from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize

from synadb._core.kv cimport Database, db_enter, db_leave, path_bytes
from synadb._core.libsynadb cimport (
    SYNA_COMPACT_HISTORY, SYNA_COMPACT_LATEST, SYNA_COMPACT_LIVE_HISTORY, syna_check, syna_db_backup,
    syna_db_compact, syna_db_get_stats, syna_db_refresh, syna_db_report, syna_db_stats,
    syna_open_report, syna_salvage, syna_verify)
from synadb._core.progress cimport Progress, progress_context, progress_step
from synadb._core.status cimport check

import os

from synadb.errors import ArgumentError, Reason
from synadb.types import CheckReport, Finding, OpenReport, Stats


cdef int32_t mode_of(keep_history) except -1:
    if keep_history == "live":
        return SYNA_COMPACT_LIVE_HISTORY
    if isinstance(keep_history, str):
        raise ArgumentError(
            0, f"keep_history is {keep_history!r}; expected False, True or 'live'",
            reason=Reason.ARGUMENT)
    return SYNA_COMPACT_HISTORY if keep_history else SYNA_COMPACT_LATEST


def compact(Database db not None, keep_history, progress):
    cdef Progress p = Progress(progress)
    cdef int32_t mode = mode_of(keep_history)
    cdef int32_t rc
    ident = db.begin_upkeep()
    with nogil:
        rc = syna_db_compact(db.ptr, mode, progress_step, &p.context)
    db.end_upkeep(ident)
    p.finish(rc)


def backup(Database db not None, path, progress):
    cdef bytes target = path_bytes(path)
    cdef const char *to = target
    cdef Progress p = Progress(progress)
    cdef int32_t rc
    ident = db.begin_upkeep()
    with nogil:
        rc = syna_db_backup(db.ptr, to, progress_step, &p.context)
    db.end_upkeep(ident)
    p.finish(rc)


def refresh(Database db not None):
    cdef int32_t changed = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_db_refresh(db.ptr, &changed)
    db_leave(db)
    check(rc)
    return changed != 0


def stats(Database db not None):
    cdef syna_db_stats s
    cdef int32_t rc
    memset(&s, 0, sizeof(s))
    s.size = sizeof(s)
    db_enter(db)
    with nogil:
        rc = syna_db_get_stats(db.ptr, &s)
    db_leave(db)
    check(rc)
    return Stats(
        keys=s.keys, deleted_keys=s.deleted_keys, frames=s.frames, file_bytes=s.file_bytes,
        allocated_bytes=s.allocated_bytes, live_bytes=s.live_bytes, index_bytes=s.index_bytes,
        history_bytes=s.history_bytes, commits=s.commits, syncs=s.syncs,
        durable_bytes=s.durable_bytes, generation=s.generation,
        uuid=PyBytes_FromStringAndSize(<char *>s.uuid, 16).hex(),
        format=f"{s.format_major}.{s.format_minor}")


def open_report(Database db not None):
    cdef syna_open_report r
    cdef int32_t rc
    memset(&r, 0, sizeof(r))
    r.size = sizeof(r)
    db_enter(db)
    with nogil:
        rc = syna_db_report(db.ptr, &r)
    db_leave(db)
    check(rc)
    return OpenReport(
        clean=r.clean != 0, created=r.created != 0, legacy=r.legacy != 0, rebuilt=r.rebuilt != 0,
        read_only=r.read_only != 0, format=f"{r.format_major}.{r.format_minor}",
        frames_scanned=r.frames_scanned, cut_offset=r.cut_offset if r.cut_bytes else None,
        cut_bytes=r.cut_bytes, cut_saved=r.cut_saved != 0)


# ------------------------------------------------------------------------- files, not handles

cdef int32_t on_finding(void *context, uint64_t offset, const char *text) noexcept nogil:
    with gil:
        return add_finding(<Progress>(<progress_context *>context).progress, offset, text)


cdef int32_t add_finding(Progress p, uint64_t offset, const char *text) noexcept:
    try:
        p.findings.append(Finding(offset, text.decode("utf-8", "replace")))
    except MemoryError as error:
        p.error = error
        return 1
    return 0


cdef object check_report(const syna_check *c, bytes path, list findings):
    return CheckReport(
        path=os.fsdecode(path), frames=c.frames, bytes=c.bytes, damaged=c.damaged,
        torn_bytes=c.torn_bytes, records_saved=c.records_saved, findings=tuple(findings))


def verify(path, progress):
    cdef bytes source = path_bytes(path)
    cdef const char *c_source = source
    cdef Progress p = Progress(progress)
    cdef syna_check result
    cdef int32_t rc
    memset(&result, 0, sizeof(result))
    result.size = sizeof(result)
    p.findings = []
    with nogil:
        rc = syna_verify(c_source, on_finding, &p.context, progress_step, &result)
    p.finish(rc)
    return check_report(&result, source, p.findings)


def salvage(path, to, progress):
    cdef bytes source = path_bytes(path)
    cdef const char *c_source = source
    cdef bytes target = path_bytes(to)
    cdef const char *c_target = target
    cdef Progress p = Progress(progress)
    cdef syna_check result
    cdef int32_t rc
    memset(&result, 0, sizeof(result))
    result.size = sizeof(result)
    p.findings = []
    with nogil:
        rc = syna_salvage(c_source, c_target, on_finding, &p.context, progress_step, &result)
    p.finish(rc)
    return check_report(&result, source, p.findings)
