"""The thread team as LLVM text.

Threads wait for a job, run it together, meet in a barrier, and wait again. Waiting spins for a
bounded while, since the next job or the last thread is mostly microseconds away, then parks: an
idle team uses no processor. The barrier is central: a count of arrivals and an epoch.

A job's number and its count of threads are one word, so that a thread that wakes late, when the
next job is already set up, knows whether that one is its own. Where the team is busy, or threads
cannot be made, the job runs on the caller's thread: results do not depend on it.
"""

from __future__ import annotations

from nnc.backends.llvm import abi
from nnc.backends.llvm.target import Target

SPINS = 2000
"""Pauses before a waiting thread parks."""
YIELD_EVERY = 128
"""Pauses (a power of two) between offers of the processor to another thread."""
STACK_BYTES = 8 << 20

_FUTEX_CALL = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_WAIT_PRIVATE, _WAKE_PRIVATE = 128, 129
# Signals of a fault of the thread itself; all others are left to the program's own threads.
_OWN_SIGNALS = (4, 5, 7, 8, 10, 11)

_FUTEX = """
declare i64 @syscall(i64, ...)
define internal void @wait(ptr %word, i32 %old, ptr %core) {{
  call i64 (i64, ...) @syscall(i64 {call}, ptr %word, i32 {wait}, i32 %old,
                              ptr null, ptr null, i32 0)
  ret void
}}
define internal void @wake(ptr %word, ptr %core) {{
  call i64 (i64, ...) @syscall(i64 {call}, ptr %word, i32 {wake}, i32 2147483647,
                              ptr null, ptr null, i32 0)
  ret void
}}
define internal void @prepare(ptr %core) {{
  ret void
}}
"""

_CONDITION = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
define internal void @wait(ptr %word, i32 %old, ptr %core) {{
entry:
  %mutex = getelementptr i8, ptr %core, i64 {mutex}
  %condition = getelementptr i8, ptr %core, i64 {condition}
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  br label %look
look:
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %old
  br i1 %same, label %sleep, label %done
sleep:
  %slept = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %look
done:
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}}
define internal void @wake(ptr %word, ptr %core) {{
  %mutex = getelementptr i8, ptr %core, i64 {mutex}
  %condition = getelementptr i8, ptr %core, i64 {condition}
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  %woken = call i32 @pthread_cond_broadcast(ptr %condition)
  ret void
}}
define internal void @prepare(ptr %core) {{
  %mutex = getelementptr i8, ptr %core, i64 {mutex}
  %condition = getelementptr i8, ptr %core, i64 {condition}
  %made = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %made2 = call i32 @pthread_cond_init(ptr %condition, ptr null)
  ret void
}}
"""

_WAITING = """
declare i32 @sched_yield()
define internal void @await(ptr %core, ptr %word, i32 %old, ptr %sleepers) {{
entry:
  br label %spin
spin:
  %turn = phi i32 [0, %entry], [%next, %again]
  %now = load atomic i32, ptr %word acquire, align 4
  %same = icmp eq i32 %now, %old
  br i1 %same, label %rest, label %done
rest:
  call void @pause()
  %next = add i32 %turn, 1
  %phase = and i32 %next, {yield_mask}
  %offer = icmp eq i32 %phase, 0
  br i1 %offer, label %yield, label %again
yield:
  %yielded = call i32 @sched_yield()
  br label %again
again:
  %more = icmp ult i32 %next, {spins}
  br i1 %more, label %spin, label %park
park:
  %before = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %look
look:
  %later = load atomic i32, ptr %word seq_cst, align 4
  %still = icmp eq i32 %later, %old
  br i1 %still, label %sleep, label %woken
sleep:
  call void @wait(ptr %word, i32 %old, ptr %core)
  br label %look
woken:
  %awake = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %done
done:
  ret void
}}
define internal void @change(ptr %core, ptr %word, i32 %new, ptr %sleepers) {{
entry:
  store atomic i32 %new, ptr %word seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %done, label %rouse
rouse:
  call void @wake(ptr %word, ptr %core)
  br label %done
done:
  ret void
}}
define internal void @barrier(ptr %core) {{
entry:
  %arrivedp = getelementptr i8, ptr %core, i64 {arrived}
  %epochp = getelementptr i8, ptr %core, i64 {epoch}
  %sleepers = getelementptr i8, ptr %core, i64 {sleepers}
  %threadsp = getelementptr i8, ptr %core, i64 {threads}
  %threads = load i32, ptr %threadsp
  %epoch = load atomic i32, ptr %epochp acquire, align 4
  %before = atomicrmw add ptr %arrivedp, i32 1 acq_rel
  %mine = add i32 %before, 1
  %last = icmp eq i32 %mine, %threads
  br i1 %last, label %open, label %stay
open:
  store atomic i32 0, ptr %arrivedp monotonic, align 4
  %following = add i32 %epoch, 1
  call void @change(ptr %core, ptr %epochp, i32 %following, ptr %sleepers)
  ret void
stay:
  call void @await(ptr %core, ptr %epochp, i32 %epoch, ptr %sleepers)
  ret void
}}
"""

_WORKER = """
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
define internal ptr @worker(ptr %slot) {{
entry:
  %core = load ptr, ptr %slot
  %numberp = getelementptr i8, ptr %slot, i64 8
  %number = load i32, ptr %numberp
  %firstp = getelementptr i8, ptr %slot, i64 12
  %first = load i32, ptr %firstp
  %jobp = getelementptr i8, ptr %core, i64 {job}
  %sleepers = getelementptr i8, ptr %core, i64 {job_sleepers}
  %functionp = getelementptr i8, ptr %core, i64 {function}
  %recordp = getelementptr i8, ptr %core, i64 {record}
  br label %idle
idle:
  %seen = phi i32 [%first, %entry], [%job, %look], [%job, %work]
  call void @await(ptr %core, ptr %jobp, i32 %seen, ptr %sleepers)
  br label %look
look:
  %job = load atomic i32, ptr %jobp acquire, align 4
  %threads = and i32 %job, {most}
  %mine = icmp ult i32 %number, %threads
  br i1 %mine, label %work, label %idle
work:
  %function = load ptr, ptr %functionp
  %record = load ptr, ptr %recordp
  call void %function(i32 %number, ptr %record, ptr %core, i32 %threads)
  call void @barrier(ptr %core)
  br label %idle
}}
define internal i1 @spawn(ptr %core, i32 %number) {{
  %offset = mul i32 %number, 16
  %slots = getelementptr i8, ptr %core, i64 {slots}
  %slot = getelementptr i8, ptr %slots, i32 %offset
  %numberp = getelementptr i8, ptr %slot, i64 8
  %firstp = getelementptr i8, ptr %slot, i64 12
  %jobp = getelementptr i8, ptr %core, i64 {job}
  %job = load i32, ptr %jobp
  store ptr %core, ptr %slot
  store i32 %number, ptr %numberp
  store i32 %job, ptr %firstp
  %all = getelementptr i8, ptr %core, i64 {signals}
  %saved = getelementptr i8, ptr %core, i64 {saved_signals}
  %attributes = getelementptr i8, ptr %core, i64 {attributes}
  %handle = alloca i64
  %r0 = call i32 @sigfillset(ptr %all)
{own_signals}
  %r1 = call i32 @pthread_attr_init(ptr %attributes)
  %r2 = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 {stack})
  %r3 = call i32 @pthread_sigmask(i32 {set_mask}, ptr %all, ptr %saved)
  %failed = call i32 @pthread_create(ptr %handle, ptr %attributes, ptr @worker, ptr %slot)
  %r4 = call i32 @pthread_sigmask(i32 {set_mask}, ptr %saved, ptr null)
  %made = icmp eq i32 %failed, 0
  ret i1 %made
}}
"""

_RUN = """
declare i32 @getpid()
declare i64 @llvm.umin.i64(i64, i64)
declare i32 @llvm.umin.i32(i32, i32)
define internal void @renew(ptr %core) {{
  %barrierp = getelementptr i8, ptr %core, i64 {barrier}
  %arrivedp = getelementptr i8, ptr %core, i64 {arrived}
  %sleepers = getelementptr i8, ptr %core, i64 {sleepers}
  %job_sleepers = getelementptr i8, ptr %core, i64 {job_sleepers}
  %spawnedp = getelementptr i8, ptr %core, i64 {spawned}
  %lock = getelementptr i8, ptr %core, i64 {lock}
  store ptr @barrier, ptr %barrierp
  store i32 0, ptr %arrivedp
  store i32 0, ptr %sleepers
  store i32 0, ptr %job_sleepers
  store i32 1, ptr %spawnedp
  store i32 0, ptr %lock
  call void @prepare(ptr %core)
  ret void
}}
define void @nnc.team.run(ptr %ticket, ptr %function, ptr %record, i64 %width) {{
entry:
  %corepp = getelementptr i8, ptr %ticket, i64 {ticket_core}
  %core = load ptr, ptr %corepp
  %askedp = getelementptr i8, ptr %ticket, i64 {ticket_threads}
  %asked = load i64, ptr %askedp
  %useful = call i64 @llvm.umin.i64(i64 %asked, i64 %width)
  %wanted = trunc i64 %useful to i32
  %processp = getelementptr i8, ptr %core, i64 {process}
  %spawnedp = getelementptr i8, ptr %core, i64 {spawned}
  %lock = getelementptr i8, ptr %core, i64 {lock}
  %known = load atomic i32, ptr %processp seq_cst, align 4
  %process = call i32 @getpid()
  %same = icmp eq i32 %known, %process
  br i1 %same, label %enter, label %other
other:
  %changing = icmp eq i32 %known, -1
  br i1 %changing, label %solo, label %take
take:
  %taken = cmpxchg ptr %processp, i32 %known, i32 -1 seq_cst seq_cst
  %ours = extractvalue {{ i32, i1 }} %taken, 1
  br i1 %ours, label %remake, label %solo
remake:
  call void @renew(ptr %core)
  store atomic i32 %process, ptr %processp seq_cst, align 4
  br label %enter
enter:
  %free = cmpxchg ptr %lock, i32 0, i32 1 seq_cst seq_cst
  %entered = extractvalue {{ i32, i1 }} %free, 1
  br i1 %entered, label %grow, label %solo
grow:
  %there = load i32, ptr %spawnedp
  %few = icmp ult i32 %there, %wanted
  br i1 %few, label %add, label %start
add:
  %made = call i1 @spawn(ptr %core, i32 %there)
  br i1 %made, label %added, label %start
added:
  %grown = add i32 %there, 1
  store i32 %grown, ptr %spawnedp
  br label %grow
start:
  %have = load i32, ptr %spawnedp
  %threads = call i32 @llvm.umin.i32(i32 %have, i32 %wanted)
  %many = icmp ugt i32 %threads, 1
  br i1 %many, label %together, label %leave
leave:
  store atomic i32 0, ptr %lock release, align 4
  br label %solo
solo:
  call void %function(i32 0, ptr %record, ptr null, i32 1)
  ret void
together:
  %threadsp = getelementptr i8, ptr %core, i64 {threads}
  %functionp = getelementptr i8, ptr %core, i64 {function}
  %recordp = getelementptr i8, ptr %core, i64 {record}
  %claimedp = getelementptr i8, ptr %core, i64 {claimed}
  %jobp = getelementptr i8, ptr %core, i64 {job}
  %sleepers = getelementptr i8, ptr %core, i64 {job_sleepers}
  store i32 %threads, ptr %threadsp
  store ptr %function, ptr %functionp
  store ptr %record, ptr %recordp
  store i64 0, ptr %claimedp
  %old = load i32, ptr %jobp
  %rounded = or i32 %old, {most}
  %following = add i32 %rounded, 1
  %job = or i32 %following, %threads
  call void @change(ptr %core, ptr %jobp, i32 %job, ptr %sleepers)
  call void %function(i32 0, ptr %record, ptr %core, i32 %threads)
  call void @barrier(ptr %core)
  store atomic i32 0, ptr %lock release, align 4
  ret void
}}
"""

_PAUSE = {
    "x86_64": "declare void @llvm.x86.sse2.pause()\n",
    "aarch64": "declare void @llvm.aarch64.hint(i32)\n",
}
_PAUSE_CALL = {
    "x86_64": "  call void @llvm.x86.sse2.pause()\n",
    "aarch64": "  call void @llvm.aarch64.hint(i32 1)\n",
}


def has_threads(target: Target) -> bool:
    """Whether ``target`` has POSIX threads, of which teams are made."""
    return not any(system in target.triple for system in ("windows", "win32", "wasm", "wasi"))


def team_text(target: Target, park: str | None = None) -> str:
    """Return the team's code. ``park`` chooses ``futex`` or ``condition``, by default the best."""
    call = _FUTEX_CALL.get(target.arch) if target.is_linux else None
    if park is None:
        park = "condition" if call is None else "futex"
    fields = {
        name.removeprefix("CORE_").lower(): value
        for name, value in vars(abi).items()
        if name.startswith(("CORE_", "TICKET_"))
    }
    own = "\n".join(f"  %s{n} = call i32 @sigdelset(ptr %all, i32 {n})" for n in _OWN_SIGNALS)
    parts = _FUTEX if park == "futex" else _CONDITION
    text = (parts + _WAITING + _WORKER + _RUN).format(
        **fields,
        call=call,
        wait=_WAIT_PRIVATE,
        wake=_WAKE_PRIVATE,
        spins=SPINS,
        yield_mask=YIELD_EVERY - 1,
        most=abi.MOST_THREADS,
        stack=STACK_BYTES,
        set_mask=2 if target.is_linux else 3,
        own_signals=own,
    )
    pause = (
        _PAUSE.get(target.arch, "")
        + "define internal void @pause() alwaysinline {\n"
        + _PAUSE_CALL.get(target.arch, "")
        + "  ret void\n}\n"
    )
    return f'target triple = "{target.triple}"\n{pause}{text}'
