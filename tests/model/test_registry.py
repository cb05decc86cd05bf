"""The model registry against a dict: saves, failed saves, promotions, aliases, deletions,
compaction and reopening in any order, with names that look like keys."""

from __future__ import annotations

import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from synadb import ModelRegistry

NAMES = ["m", "m/v1", "m/v1/meta", "é"]
STAGES = ["development", "staging", "production", "archived"]
names = st.sampled_from(NAMES)
versions = st.integers(1, 6)
aliases = st.sampled_from(["a", "b"])


class RegistryMachine(RuleBasedStateMachine):
    @initialize(shared=st.booleans())
    def begin(self, shared):
        self.folder = tempfile.TemporaryDirectory()
        self.shared = shared
        self.next = dict.fromkeys(NAMES, 1)
        self.live: dict[str, dict[int, list]] = {name: {} for name in NAMES}  # data, stage, since
        self.alias: dict[tuple[str, str], int] = {}
        self.events: dict[str, list] = {name: [] for name in NAMES}
        self.clock = 0
        self.registry = self.open()

    def open(self, **options):
        path = self.folder.name + "/models.db"
        return ModelRegistry(path, sync_on_write=False, shared=self.shared, **options)

    @rule(name=names, size=st.sampled_from([0, 1, 100, (1 << 20) + 1]), byte=st.integers(0, 255))
    def save(self, name, size, byte):
        version = self.next[name]
        self.next[name] += 1
        data = bytes([byte]) * size
        assert self.registry.save(name, data, {"n": str(version)}).version == version
        self.live[name][version] = [data, "development", 0]
        self.events[name].append((version, "development"))

    @rule(name=names, size=st.sampled_from([10, 2 << 20]))
    def fail_to_save(self, name, size):
        class Broken:
            left = 3

            def read(self, _):
                self.left -= 1
                if not self.left:
                    raise OSError("broken")
                return bytes(size)

        try:
            self.registry.save_file(name, Broken())
        except OSError as error:
            assert str(error) == "broken"

    @rule(name=names, version=versions, stage=st.sampled_from(STAGES))
    def promote(self, name, version, stage):
        self.clock += 1
        if version not in self.live[name]:
            try:
                self.registry.promote(name, version, stage)
            except ValueError:
                return
            raise AssertionError("promoted what is not there")
        self.registry.promote(name, version, stage)
        self.live[name][version][1:] = [stage, self.clock]
        self.events[name].append((version, stage))

    @rule(name=names, version=versions, alias=aliases)
    def set_alias(self, name, version, alias):
        if version in self.live[name]:
            self.registry.set_alias(name, alias, version)
            self.alias[name, alias] = version

    @rule(name=names, version=st.none() | versions)
    def delete(self, name, version):
        gone = [v for v in self.live[name] if version in (None, v)]
        assert self.registry.delete(name, version) == len(gone)
        for v in gone:
            del self.live[name][v]
            self.events[name].append((v, None))
        kept = self.alias.items()
        self.alias = {k: v for k, v in kept if not (k[0] == name and v in gone)}

    @rule()
    def compact(self):
        self.registry.compact()

    @rule()
    def reopen(self):
        self.registry.close()
        self.registry = self.open()

    @invariant()
    def agrees(self):
        if not hasattr(self, "registry"):
            return
        there = [name for name in sorted(NAMES, key=str.encode) if self.live[name]]
        assert self.registry.names() == there
        for name in NAMES:
            found = {v.version: v for v in self.registry.list(name)}
            assert list(found) == sorted(self.live[name])
            for version, (data, stage, _) in self.live[name].items():
                assert found[version].stage == stage and found[version].size_bytes == len(data)
                assert found[version].metadata == {"n": str(version)}
                assert self.registry.load(name, version) == data
            live = self.live[name].items()
            best = max(((s, v) for v, (_, g, s) in live if g == "production"), default=(0, None))[1]
            production = self.registry.get_production(name)
            assert (production and production.version) == best
            wanted = {a: v for (n, a), v in self.alias.items() if n == name}
            assert self.registry.aliases(name) == wanted
            history = [
                (c.version, c.stage and str(c.stage)) for c in self.registry.stage_history(name)
            ]
            assert history == self.events[name]

    def teardown(self):
        if hasattr(self, "registry"):
            self.registry.close()
            self.folder.cleanup()


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
