"""The one place that knows Flower: privfin's protocol as ServerApp, ClientApp and a local Grid.

The same ServerApp and ClientApp objects that Flower would deploy run here in one process. The
local grid hands each message to the ClientApp directly, so nothing needs Ray, ports or daemons.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import cast

# Flower reads these when it is imported: no usage reports, no update check.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from privfin.errors import PrivfinError, ProtocolError
from privfin.federation.messages import (
    SiteFailedError,
    Task,
    TaskHandler,
    TaskKind,
    Transport,
)

#: Marks our byte strings, so that Flower's averaging strategies refuse them.
STYPE = "privfin.bytes.v1"
#: Flower's error codes end below this; ours are this plus the exit code of the site's error.
_SITE_ERROR = 1000
_COORDINATOR_NODE = 1


def _pack(head: dict[str, str | int | list[str]], parts: Iterable[bytes]) -> RecordDict:
    arrays = {
        f"{index:06d}": Array(dtype="uint8", shape=(len(part),), stype=STYPE, data=part)
        for index, part in enumerate(parts)
    }
    return RecordDict(
        {"head": ConfigRecord(cast("dict[str, object]", head)), "parts": ArrayRecord(arrays)}
    )


def _unpack(content: RecordDict) -> tuple[ConfigRecord, tuple[bytes, ...]]:
    parts = content.array_records["parts"]
    for array in parts.values():
        if array.stype != STYPE:
            raise ProtocolError(f"a message part has type '{array.stype}', expected '{STYPE}'")
    return content.config_records["head"], tuple(parts[key].data for key in sorted(parts))


def _task_of(message: Message) -> Task:
    head, parts = _unpack(message.content)
    return Task(
        kind=cast("TaskKind", str(head["kind"])),
        round=int(cast("int", head["round"])),
        attempt=int(cast("int", head["attempt"])),
        cohort=tuple(cast("list[str]", head["cohort"])),
        parts=parts,
        piece=int(cast("int", head["piece"])),
    )


def make_client_app(handler_for: Callable[[Context], TaskHandler]) -> ClientApp:
    """A ClientApp that passes every message to the site of the node it runs on."""
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        reply = handler_for(context).handle(_task_of(message))
        return Message(_pack({}, [reply]), reply_to=message)

    app.train()(serve)
    app.query()(serve)
    return app


class GridTransport(Transport):
    """Tasks over a Flower Grid, local or deployed."""

    def __init__(self, grid: Grid, node_of_site: Mapping[str, int]) -> None:
        self._grid = grid
        self._nodes = dict(node_of_site)

    def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
        """Send one message a site and collect the replies; see :class:`Transport`."""
        site_of_node = {self._nodes[site]: site for site in tasks}
        messages = []
        for site, task in tasks.items():
            head: dict[str, str | int | list[str]] = {
                "kind": task.kind,
                "round": task.round,
                "attempt": task.attempt,
                "cohort": list(task.cohort),
                "piece": task.piece,
            }
            kind = "train" if task.kind in ("update", "sum", "finish") else "query"
            messages.append(
                self._grid.create_message(
                    _pack(head, task.parts), kind, self._nodes[site], str(task.round)
                )
            )
        answers: dict[str, bytes] = {}
        for reply in self._grid.send_and_receive(messages):
            site = site_of_node[reply.metadata.src_node_id]
            if reply.has_error():
                code = max(1, int(reply.error.code) - _SITE_ERROR)
                raise SiteFailedError(f"site '{site}' failed: {reply.error.reason}", code, site)
            _, parts = _unpack(reply.content)
            if len(parts) != 1:
                raise ProtocolError(f"site '{site}' sent {len(parts)} parts, expected 1")
            answers[site] = parts[0]
        missing = sorted(set(tasks) - set(answers))
        if missing:
            raise SiteFailedError(f"no answer from site '{missing[0]}'", site=missing[0])
        return answers


class LocalGrid(Grid):  # type: ignore[misc]  # mypy does not read flwr
    """Runs the ClientApp of every node in this process, one after the other.

    Sites run in turn because they share the machine's cores; a site's own error comes back as
    an error message, as it would over the network.
    """

    def __init__(self, client_app: ClientApp, sites: Iterable[str]) -> None:
        self._app = client_app
        self._run = Run.create_empty(run_id=1)
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"site": site},
                state=RecordDict(),
                run_config={},
            )
            for node, site in enumerate(sites, start=_COORDINATOR_NODE + 1)
        }
        self._replies: dict[str, Message] = {}
        self._sent = 0
        # Message() asks for the identity of the running task, which SuperLink would set.
        TaskIdentity.task_id, TaskIdentity.run_id = 1, 1
        TaskIdentity.node_id = _COORDINATOR_NODE

    @property
    def node_of_site(self) -> dict[str, int]:
        """Node identifier of every site."""
        return {str(c.node_config["site"]): node for node, c in self._contexts.items()}

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Identifiers of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and run the ClientApp on each; replies wait to be pulled."""
        identifiers = []
        for message in messages:
            self._sent += 1
            identifier = str(self._sent)
            message.metadata.__dict__["_message_id"] = identifier
            self._replies[identifier] = self._deliver(message)
            identifiers.append(identifier)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to these messages."""
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and return the replies."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        try:
            return self._app(message, context)
        except PrivfinError as error:
            failure = Error(code=_SITE_ERROR + error.exit_code, reason=str(error))
            return Message(failure, reply_to=message)


def run_locally(
    handlers: Mapping[str, TaskHandler], coordinate: Callable[[Transport], None]
) -> None:
    """Run a coordinator's main function against sites in this process, through Flower's apps.

    Args:
        handlers: the site objects by name.
        coordinate: what the ServerApp does with its transport.
    """
    client_app = make_client_app(lambda context: handlers[str(context.node_config["site"])])
    grid = LocalGrid(client_app, handlers)
    server_app = ServerApp()

    @server_app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        coordinate(GridTransport(grid, cast("LocalGrid", grid).node_of_site))

    server_app(
        grid,
        Context(
            run_id=1, node_id=_COORDINATOR_NODE, node_config={}, state=RecordDict(), run_config={}
        ),
    )
