"""Layouts that compiled programs, the thread team and Python share, in bytes.

The *core* is the team's own memory. A *ticket* stands in the call record: which team, how many
threads. Both are laid out here and nowhere else.
"""

from __future__ import annotations

# The ticket: three words.
TICKET_RUN, TICKET_CORE, TICKET_THREADS = 0, 8, 16
TICKET_BYTES = 24

# The core. What threads write at different times lies on cache lines of its own, and not on
# neighbouring ones, which some processors fetch in pairs.
CORE_REACH = 0  # address of void reach(core, i64 finished, i32 thread): waits for FINISHED
CORE_ROUSE = 8  # address of void rouse(core): wakes who waits for FINISHED
CORE_FUNCTION = 16  # what the job runs
CORE_RECORD = 24  # and on what
CORE_THREADS = 32  # i32: threads the job may have
CORE_FAULTY = 36  # i32: whether a check failed in launches that are finished
CORE_FIRST_CLAIM = 40  # i64: CLAIMED and FINISHED before the job
CORE_FIRST_FINISH = 48
CORE_CLAIMED = 128  # i64: tasks claimed so far, of all jobs
CORE_FINISHED = 256  # i64: tasks finished so far, of all jobs
CORE_SLEEPERS = 384  # i32: threads parked for FINISHED
CORE_ROUSED = 388  # i32: how often they were woken; on this they park
CORE_JOB = 512  # i32: number of the job
CORE_JOB_SLEEPERS = 640  # i32: threads parked between jobs
CORE_GATE = 768  # i64: who may join the job, see below
CORE_SPAWNED = 896  # i32: threads there are, the caller's among them
CORE_PROCESS = 900  # i32: the process that the threads live in; -1 while it changes
CORE_LOCK = 904  # i32: 1 while a job runs
CORE_MUTEX = 1024
CORE_CONDITION = 1152
CORE_SIGNALS = 1280
CORE_SAVED_SIGNALS = 1408
CORE_ATTRIBUTES = 1536
CORE_SLOTS = 1664  # one for each thread
MOST_THREADS = 1023
SLOT_CORE = 0  # the core's address
SLOT_NUMBER = 8  # i32: the thread's number
SLOT_FIRST = 12  # i32: the last job before the thread was made
SLOT_INSIDE = 16  # i64: the number of the job whose code the thread is in, plus 1; 0 is none
SLOT_BYTES = 64
CORE_BYTES = CORE_SLOTS + SLOT_BYTES * (MOST_THREADS + 1)

# The gate of a job, from the lowest bit: threads that are reading what the job is, threads that
# have joined it, threads that may join it (0 is closed), 10 bits each; the job's number.
GATE_FIELD = (1 << 10) - 1
GATE_JOINED, GATE_PLACES, GATE_JOB = 10, 20, 30

# What a job runs on: the call record, the steps, and the record's words.
JOB_RECORD, JOB_STEPS, JOB_LENGTH = range(3)
JOB_WORDS = 3
