"""The logic of the TTS service: pools of replicas, leases, and the order of a turn's chunks.

    turn.py, batch.py   which chunk is spoken when, and whose frames leave next
    chunk.py            one chunk from text to frames: buffer, window, cancel
    pool.py, job.py     leases: who gets which replica, and what happens when one is lost
    service.py          all pools, names of voices, the one timer

No task and no socket in here but those that start a replica: messages of replicas come in as calls
and leave as calls, so that a frame crosses this process in one step.
"""
