"""The memory of a server, which does not grow with what workers write, nor with the number of workers that read."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import grpc
import memory
from conftest import storage_of
from optuna.storages._grpc.auto_generated import api_pb2
from optuna.study import StudyDirection

FEW = 8
MANY = 40
# How much larger the peak with five times the attributes may be.
FACTOR = 1.6
READERS = 12
# How much more memory all readers may take than one. Two of their answers are prepared at a time.
READERS_FACTOR = 2.5


def write(storage, count, size):
    """Adds a study of trials, each with an attribute of this size, and returns its id."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    for _ in range(count):
        storage.set_trial_user_attr(storage.create_new_trial(study_id), "large", "x" * size)
    return study_id


def read(place, study_id, count):
    """Reads all trials with several clients at once, and returns the sizes of the answers."""
    request = api_pb2.GetTrialsRequest(study_id=study_id, trial_id_greater_than=-1).SerializeToString()
    sizes = []

    def read_once():
        with grpc.insecure_channel(place, options=[("grpc.max_receive_message_length", -1)]) as channel:
            sizes.append(len(channel.unary_unary("/optuna.StorageService/GetTrials")(request)))

    readers = [threading.Thread(target=read_once) for _ in range(count)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return sizes


def test_trials_with_large_attributes_take_bounded_memory(own_server):
    storage = storage_of(own_server)
    peaks = []
    for count in (FEW, MANY):
        memory.reset_peak(own_server.process)
        write(storage, count, 4 << 20)
        peaks.append(memory.peak(own_server.process))
    assert peaks[1] <= FACTOR * peaks[0], peaks
    storage.close()


def test_many_readers_of_a_large_study_take_bounded_memory(own_server):
    storage = storage_of(own_server)
    study_id = write(storage, 128, 256 << 10)
    before = memory.current(own_server.process)
    costs = []
    for count in (1, READERS):
        memory.reset_peak(own_server.process)
        sizes = read(urlsplit(own_server.query).netloc, study_id, count)
        assert len(sizes) == count and min(sizes) > 32 << 20
        costs.append(memory.peak(own_server.process) - before)
    assert costs[1] <= READERS_FACTOR * costs[0], costs
    storage.close()
