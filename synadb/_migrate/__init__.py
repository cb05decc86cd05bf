"""How the ancestor's files become ours; `synadb.migrate` is the public side.

report.py       what came over and what did not, collected on the way
place.py        the new file, which gets its name when it is complete
logs.py         key-value logs: a copy in the core, then the components that they hold
parts.py        what every component's part of a log has to say: keys to leave out, records to write
vectors.py      vectors in a log
registry.py     versions of models
runs.py         experiments
tensors.py      tensors in chunks
transitions.py  experiences
rows.py         the files of vectors: .mmap, .gwi, .cascade
sparse.py       .svs
"""
