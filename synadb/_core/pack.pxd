from libc.stdint cimport uint8_t, uint64_t

# Tags of values, kinds of dtypes and of zones: the format is described in pack.pyx.
cdef enum:
    VERSION = 1
    DEPTH_MAX = 512

cdef enum:
    T_NONE = 0x00
    T_FALSE = 0x01
    T_TRUE = 0x02
    T_INT = 0x03
    T_BIGINT = 0x04
    T_FLOAT = 0x05
    T_COMPLEX = 0x06
    T_STR = 0x07
    T_BYTES = 0x08
    T_BYTEARRAY = 0x09
    T_LIST = 0x0A
    T_TUPLE = 0x0B
    T_DICT = 0x0C
    T_SET = 0x0D
    T_FROZENSET = 0x0E
    T_RANGE = 0x0F
    T_DATE = 0x10
    T_TIME = 0x11
    T_DATETIME = 0x12
    T_TIMEDELTA = 0x13
    T_DECIMAL = 0x14
    T_FRACTION = 0x15
    T_UUID = 0x16
    T_ARRAY = 0x20
    T_SCALAR = 0x21
    T_NP_STR = 0x22
    T_NP_BYTES = 0x23
    T_SMALL = 0x80

cdef enum:
    D_PLAIN = 0
    D_STRUCT = 1
    D_SUBARRAY = 2
    D_OBJECT = 3
    D_STRING = 4
    D_LONG = 5

cdef enum:
    Z_NONE = 0
    Z_OFFSET = 1
    Z_NAMED = 2
    Z_KEY = 3

# Encodes one value after another into one growing buffer; buf[0:len] is the last one.
cdef class Packer:
    cdef uint8_t *buf
    cdef size_t len, cap
    cdef int encode(self, object value) except -1
    cdef int room(self, size_t more) except -1
    cdef int byte(self, uint8_t b) except -1
    cdef int raw(self, const void *data, size_t size) except -1
    cdef int varint(self, uint64_t n) except -1
    cdef int zigzag(self, object n) except -1
    cdef int text(self, str s) except -1
    cdef int value(self, object v, int depth) except -1
    cdef int integer(self, object v) except -1
    cdef int sequence(self, uint8_t tag, object items, int depth) except -1
    cdef int mapping(self, dict items, int depth) except -1
    cdef int clock(self, object t) except -1
    cdef int zone(self, object tz) except -1
    cdef int rare(self, object v, int depth) except -1
    cdef int array(self, object a, int depth) except -1
    cdef int array_data(self, object a, int depth) except -1
    cdef int scalar(self, object v) except -1
    cdef int dtype(self, object dt) except -1
