"""Layouts that compiled programs, the thread team and Python share, in bytes.

The *core* is the team's own memory. A *ticket* stands in the call record: which team, how many
threads. Both are laid out here and nowhere else.
"""

from __future__ import annotations

# The ticket: three words.
TICKET_RUN, TICKET_CORE, TICKET_THREADS = 0, 8, 16
TICKET_BYTES = 24

# The core. What threads write at different times lies on cache lines of its own.
CORE_BARRIER = 0  # address of void barrier(core)
CORE_CLAIMED = 64  # i64: tasks claimed so far in this job
CORE_ARRIVED = 128  # i32: threads that reached the barrier
CORE_EPOCH = 192  # i32: barriers passed
CORE_SLEEPERS = 256  # i32: threads parked in a barrier
CORE_JOB = 320  # i32: number of the job, times 1024, plus its threads
CORE_JOB_SLEEPERS = 384  # i32: threads parked between jobs
CORE_THREADS = 448  # i32: threads of the job that runs
CORE_SPAWNED = 452  # i32: threads there are, the caller's among them
CORE_PROCESS = 456  # i32: the process that the threads live in; -1 while it changes
CORE_LOCK = 460  # i32: 1 while a job runs
CORE_FUNCTION = 472  # what the job runs
CORE_RECORD = 480  # and on what
CORE_MUTEX = 512
CORE_CONDITION = 640
CORE_SIGNALS = 768
CORE_SAVED_SIGNALS = 896
CORE_ATTRIBUTES = 1024
CORE_SLOTS = 1152  # 16 bytes a thread: the core's address, its number, the last job before it
MOST_THREADS = 1023
CORE_BYTES = CORE_SLOTS + 16 * (MOST_THREADS + 1)
