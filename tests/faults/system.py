"""The whole system, with a proxy in every link: between each process and Kafka, and before the store."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.faults.disk import SmallDisk
from tests.faults.liar import Liar
from tests.faults.links import Network
from tests.faults.schedule import LINKS, PROCESSES

from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka, ports, program
from tidegate_infra.stack.member import Status
from tidegate_infra.stack.supervisor import Stack


class LinkedStack(Stack):
    """A local stack whose processes reach Kafka and the store through proxies.

    Kafka has a listener for every link, and tells who comes through it the proxy's address as its own.

    Parameters
    ----------
    data_dir, settings, on_status
        As for `Stack`.
    small_disks
        Whether Kafka's and the store's data stand on small disks.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, object],
        on_status: Callable[[Status], object],
        *,
        small_disks: bool,
    ) -> None:
        super().__init__(data_dir, PROCESSES, settings=settings, on_status=on_status)
        self.network = Network()
        self.disks: dict[str, SmallDisk] = {}
        self._listeners = {name: ports.free_port() for name in LINKS if name != "store"}
        self._controller_port = ports.free_port()
        self._below = ExitStack()
        if small_disks:
            places = {"kafka": data_dir / "kafka" / "data", "store": data_dir / "store"}
            self.disks = {name: SmallDisk(path) for name, path in places.items()}

    def start(self) -> None:
        """Start the proxies, then everything."""
        self._below.enter_context(self.network)
        for disk in self.disks.values():
            self._below.enter_context(disk)
        for name, port in self._listeners.items():
            self.network.add(name, port)
        super().start()

    def stop(self) -> None:
        """Stop everything, then the proxies."""
        super().stop()
        self._below.close()

    def settings_of(self, name: str) -> Settings:
        """Return the settings of a process, or of the app: its own way to Kafka and to the store."""
        links = self.network.links
        changes = {"kafka": f"127.0.0.1:{links[name].port}"} if name in links else {}
        if name in ("sink", "resolve"):
            changes["clickhouse"] = f"http://127.0.0.1:{links['store'].port}/tidegate"
        return self.settings.model_copy(update=changes)

    def _load(self) -> Settings:
        settings = super()._load()
        self.liar = Liar(int(settings.clickhouse.rpartition(":")[2].partition("/")[0]))
        self.network.do(self.liar.serve())
        self.network.add("store", self.liar.port)
        return settings

    def _launch_kafka(self) -> kafka.RunningKafka:
        port = int(self._settings.kafka.rpartition(":")[2])
        return kafka.launch(
            self._directory.path / "kafka",
            port,
            log=self._fresh_log("kafka"),
            group=self._group,
            properties=self._with_links(port),
        )

    def _with_links(self, port: int) -> dict[str, str]:
        links = {f"LINK_{name.upper()}": name for name in self._listeners}
        own = {"PLAINTEXT": port, "CONTROLLER": self._controller_port}
        listening = own | {name: self._listeners[link] for name, link in links.items()}
        told = {"PLAINTEXT": port} | {name: self.network.links[link].port for name, link in links.items()}
        return {
            "listeners": _addresses(listening),
            "advertised.listeners": _addresses(told),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listening),
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
        }

    def _launch(self, name: str) -> program.Program:
        port = self._health_ports[name] = ports.choose(0, name, self._health_ports.get(name))
        settings = self.settings_of(name).model_copy(update={"health_port": port})
        return program.start(name, settings, group=self._group, log=self._fresh_log(name), wait_seconds=60)


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
