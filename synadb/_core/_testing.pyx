"""Make the core fail, count and record. Built only over the SYNA_TESTING copy of the core, for
processes of their own (the fixtures `testing_env` and `run_testing`); never part of a wheel.

    from synadb._core import _testing as t
    t.use_vfs("mem")            # files under /mem, in memory; also "record", "posix"
    t.fail_io(3, errno.EIO)     # the third call of the system fails
    t.fail_alloc(5)             # the fifth allocation fails
    t.counters()                # calls and allocations since then
    image = t.crash(seed=7)     # "mem", "record": what a power loss could leave now
    db.close(); t.restore(image)
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t

cdef extern from *:
    """
    #define SYNA_MAY_CALL_HEAP
    #define SYNA_MAY_CALL_KERNEL
    """

cdef extern from "io/vfs.h":
    cdef struct vfs:
        pass
    const vfs vfs_posix
    void syna_test_set_vfs(const vfs *table)

cdef extern from "base/mem.h":
    int64_t syna_test_live_blocks()

cdef extern from "vfs_mem.h":
    const vfs vfs_mem
    cdef struct mem_fs:
        pass
    mem_fs *mem_fs_new(uint64_t seed)
    void mem_fs_free(mem_fs *fs)
    void mem_fs_use(mem_fs *fs)
    void mem_fs_copy(mem_fs *dst, const mem_fs *src)
    void mem_fs_set_clock(mem_fs *fs, uint64_t us, uint64_t step)
    void mem_fs_set_space(mem_fs *fs, uint64_t bytes)
    uint64_t mem_fs_find(const mem_fs *fs, const char *path)
    uint64_t mem_fs_create(mem_fs *fs, const char *path)
    void mem_fs_remove_name(mem_fs *fs, const char *path)
    const uint8_t *mem_fs_bytes(const mem_fs *fs, uint64_t file, size_t *size)
    void mem_fs_write(mem_fs *fs, uint64_t file, uint64_t offset, const void *bytes, size_t len)
    const char *mem_fs_name(const mem_fs *fs, size_t index, uint64_t *file)
    size_t mem_fs_open_count(const mem_fs *fs)
    const char *mem_fs_faults(const mem_fs *fs)

cdef extern from "vfs_record.h":
    const vfs vfs_record
    cdef struct effect:
        pass
    ctypedef struct record "struct trace":
        effect *effects
        size_t count
    ctypedef int record_mistake "enum record_mistake"
    int MISTAKE_NONE
    void record_begin(const vfs *below, record_mistake mistake)
    record *record_end()
    const record *record_trace()
    void trace_free(record *t)
    void effect_print(const effect *e, char *out, size_t cap)

cdef extern from "vfs_fault.h" nogil:
    const vfs vfs_fault
    ctypedef int fault_call "enum fault_call"
    int FAULT_CALLS
    cdef struct fault:
        int64_t at
        int system
        uint32_t only
        bint forever
        bint short_io
    const char *fault_call_name(fault_call call)
    void fault_begin(const vfs *below)
    void fault_arm(const fault *f)
    int64_t fault_fired()
    fault_call fault_first()
    int64_t fault_count(fault_call call)
    void fault_alloc(int64_t at, bint forever)
    int64_t fault_alloc_fired()
    int64_t fault_alloc_count()

cdef extern from "crash_states.h":
    void crash_sample(const record *t, const mem_fs *start, uint64_t seed, mem_fs *image)


cdef class Image:
    """A file system: what `crash` or `snapshot` returned."""
    cdef mem_fs *fs

    def __dealloc__(self):
        mem_fs_free(self.fs)

    def read(self, path):
        """The bytes of a file; None when there is none."""
        cdef uint64_t file = mem_fs_find(self.fs, path.encode())
        cdef size_t size
        if not file:
            return None
        cdef const uint8_t *data = mem_fs_bytes(self.fs, file, &size)
        return (<const char *>data)[:size] if size else b""

    def names(self):
        """The names of all files, as paths."""
        cdef size_t i = 0
        found = []
        while mem_fs_name(self.fs, i, NULL) != NULL:
            found.append(mem_fs_name(self.fs, i, NULL).decode())
            i += 1
        return found


cdef mem_fs *world = NULL      # the memory file system in use
cdef mem_fs *beginning = NULL  # what it was when recording began
cdef bint recording = False


cdef Image new_image(const mem_fs *source):
    cdef Image image = Image()
    image.fs = mem_fs_new(0)
    if source != NULL:
        mem_fs_copy(image.fs, source)
    return image


cdef stop_recording():
    global recording, beginning
    if recording:
        trace_free(record_end())
    recording = False
    mem_fs_free(beginning)
    beginning = NULL


cdef start_recording():
    global recording, beginning
    stop_recording()
    beginning = mem_fs_new(0)
    mem_fs_copy(beginning, world)
    record_begin(&vfs_mem, MISTAKE_NONE)
    recording = True


def use_vfs(name, *, seed=1, clock_us=None):
    """From now on the core calls the system ("posix"), works on files in memory ("mem"), or there with
    a record of every effect ("record"). Nothing may be open. Faults can be injected into all three.

    clock_us: the memory file system's clock, which then moves by 1 us a look."""
    global world
    stop_recording()
    if world != NULL:
        mem_fs_use(NULL)
        mem_fs_free(world)
        world = NULL
    if name == "posix":
        fault_begin(&vfs_posix)
    elif name in ("mem", "record"):
        world = mem_fs_new(seed)
        if clock_us is not None:
            mem_fs_set_clock(world, clock_us, 1)
        mem_fs_use(world)
        if name == "record":
            start_recording()
        fault_begin(&vfs_record if recording else &vfs_mem)
    else:
        raise ValueError(f"no such table: {name}")
    syna_test_set_vfs(&vfs_fault)


def set_clock(us, step=1):
    """The time of the memory file system, in microseconds since 1970."""
    if world == NULL:
        raise RuntimeError("use_vfs('mem') first")
    mem_fs_set_clock(world, us, step)


def set_space(size):
    """Bytes of disk of the memory file system; 0 = no limit."""
    if world == NULL:
        raise RuntimeError("use_vfs('mem') first")
    mem_fs_set_space(world, size)


# ------------------------------------------------------------------------------- failing

def fail_alloc(k, forever=False):
    """The k-th allocation from now on fails, or all from it on. 0: none."""
    fault_alloc(k, forever)


def fail_io(k, errno, *, short_io=False, forever=False, only=None):
    """The k-th call of the table from now on fails with this errno, or all from it on. 0: none.

    short_io: a failing read or write does half of its bytes first. only: names of the calls that count,
    as in counters()."""
    cdef fault f
    f.at = k
    f.system = errno
    f.only = 0
    f.forever = forever
    f.short_io = short_io
    names = call_names()
    for name in only or ():
        f.only |= <uint32_t>1 << <uint32_t>names.index(name)
    fault_arm(&f)


def fired():
    """How many failures were delivered since fail_alloc or fail_io, and by what call the first."""
    count = fault_fired()
    what = fault_call_name(fault_first()).decode() if count else None
    if fault_alloc_fired():
        return fault_alloc_fired(), "memory"
    return count, what


cdef call_names():
    return [fault_call_name(<fault_call>i).decode() for i in range(FAULT_CALLS)]


def counters():
    """Calls of the table by name since the last fail_io, allocations since the last fail_alloc with
    k > 0, and blocks of memory and descriptors of the memory file system in use now."""
    found = {name: fault_count(<fault_call>i) for i, name in enumerate(call_names())}
    found["allocations"] = fault_alloc_count()
    found["live_blocks"] = syna_test_live_blocks()
    if world != NULL:
        found["open_files"] = mem_fs_open_count(world)
    return found


def faults():
    """What the core did that it must not do (vfs_mem.h), "" when nothing."""
    return mem_fs_faults(world).decode() if world != NULL else ""


# ------------------------------------------------------------------------------- crashing

def trace():
    """Every effect since use_vfs("record") or restore(), one line of text each."""
    cdef char text[512]
    cdef const record *t = record_trace()
    if not recording:
        raise RuntimeError("use_vfs('record') first")
    lines = []
    for i in range(t.count):
        effect_print(&t.effects[i], text, sizeof(text))
        lines.append((<bytes>text).decode())
    return lines


def snapshot():
    """The memory file system as it is: what the death of the process leaves."""
    if world == NULL:
        raise RuntimeError("use_vfs('mem') first")
    return new_image(world)


def crash(seed):
    """What a power loss at this moment could leave: one state chosen by the seed."""
    cdef Image image = new_image(NULL)
    if not recording:
        raise RuntimeError("use_vfs('record') first")
    crash_sample(record_trace(), beginning, seed, image.fs)
    return image


def restore(Image image):
    """The memory file system becomes this image. Nothing may be open."""
    if world == NULL:
        raise RuntimeError("use_vfs('mem') first")
    if mem_fs_open_count(world):
        raise RuntimeError(f"{mem_fs_open_count(world)} files are open")
    mem_fs_copy(world, image.fs)
    if recording:
        start_recording()


def install(path, data):
    """Write a file of the memory file system."""
    if world == NULL:
        raise RuntimeError("use_vfs('mem') first")
    cdef uint64_t file = mem_fs_create(world, path.encode())
    cdef const unsigned char[::1] view = data
    if len(data):
        mem_fs_write(world, file, 0, &view[0], <size_t>len(data))


def remove(path):
    """Remove a name from the memory file system."""
    if world == NULL:
        raise RuntimeError("use_vfs('mem') first")
    mem_fs_remove_name(world, path.encode())
