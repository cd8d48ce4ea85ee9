"""`matyan follow` on a server whose log is Apache Kafka, while everything breaks."""

import itertools
import os
import signal
from types import SimpleNamespace

from event_records import records_of
from imported import last_of_each_step, points
from peers import peers_module
from test_follow_tensorboard import command, follow_once, line_with, runs_of, stored_run, wait_for
from test_import_tensorboard import EXPECTED, LOGS

from matyan_client.errors import NotFoundError

ROUNDS = 3
# Each round breaks something at three of them.
PIECES = 3 * ROUNDS + 2


def torn(content, count):
    """Returns the content of a file in pieces, all but the last of which end within a record."""
    records = records_of(content)
    ends = [sum(map(len, records[: len(records) * at // count])) + 5 for at in range(1, count)]
    bounds = [0, *ends, len(content)]
    return [content[start:end] for start, end in itertools.pairwise(bounds)]


class Growing:
    """The files of two writers in one folder."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.files = {}
        for label in ("x", "nested/tensors"):
            [source] = (LOGS / label).iterdir()
            file = folder / f"{source.name}.{os.urandom(4).hex()}"
            self.files[file] = torn(source.read_bytes(), PIECES)

    def grow(self):
        """Adds the next piece to both files."""
        for file, pieces in self.files.items():
            with file.open("ab") as opened:
                opened.write(pieces.pop(0))

    def grow_to_end(self):
        while any(self.files.values()):
            self.grow()


def points_so_far(server, run_hash):
    """The points of a run; none while a restarted server has not applied its beginning."""
    try:
        return points(stored_run(server, run_hash))
    except NotFoundError:
        return {}


def test_rule_125_faults_over_kafka_lose_and_double_nothing(own_kafka_server, tmp_path):
    system = own_kafka_server
    server = SimpleNamespace(url=system.query)
    logs = tmp_path / f"logs-{os.urandom(4).hex()}"
    growing = Growing(logs / "both")
    growing.grow()
    followers = []

    def follow():
        followers.append(command(network, str(logs)))
        return followers[-1]

    with peers_module("network").Network(system.query) as network:
        try:
            begun = line_with(follow(), "new run ").split()[-1]
            for faults in range(1, ROUNDS + 1):
                # What is sent next is stored, and is sent again to the restarted server.
                network.lose_answers(1)
                growing.grow()
                wait_for(lambda count=faults: network.lost_answers == count, followers[-1])
                network.cut()
                growing.grow()
                system.restart()
                network.restore()
                network.break_requests(1)
                growing.grow()
                wait_for(lambda count=faults: network.broken_requests == count, followers[-1])
                followers[-1].kill()
                follow()
            growing.grow_to_end()
            expected = {
                (name, "{}"): last_of_each_step(found)
                for label in ("x", "nested/tensors")
                for name, found in EXPECTED[label]["scalars"].items()
            }
            wait_for(lambda: points_so_far(server, begun) == expected, followers[-1])
            followers[-1].send_signal(signal.SIGINT)
            _, problems = followers[-1].communicate()
            assert followers[-1].returncode == 0, problems
        finally:
            for follower in followers:
                follower.kill()
                follower.wait()
    result, _ = follow_once(server, logs)
    assert (result["runs_begun"], result["points"]) == ([], 0)
    assert runs_of(server, logs) == [begun]
    assert points(stored_run(server, begun)) == expected
