"""Cython wrappers of the C interface; each module wraps one part of include/ and is its only user.

status.pyx    what the core reports -> a Python exception, once for all modules
progress.pyx  progress callbacks and Ctrl-C in long calls
pack.pyx      Python values of any type <-> self-describing bytes
values.pyx    Python values <-> the typed values of the store
kv.pyx        an open database: typed puts and gets, batches, upkeep
cursor.pyx    what lives on an open database: scans, batches, blobs
libsynadb.pxd every extern declaration
"""
