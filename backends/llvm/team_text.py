"""The thread team as LLVM text.

Threads wait for a job, join it, help until nothing of it is left to claim, and wait again. A job
has ended when its tasks are finished, not when its threads have come to the end: a thread that
does not get a processor delays the others only where it holds a task. Waiting, for a job or for
tasks that others hold, spins for a bounded while, since it is mostly microseconds, then parks: an
idle team uses no processor. Helpers offer their processor while they spin. The caller does not:
another process may keep it for milliseconds, and the tasks it waits for are held by threads that
run or soon do.

A thread joins through the *gate*, one word with the job's number and places. While it reads what
the job is, the caller waits for it; from then on it touches the caller's memory only for tasks
that it has claimed. Tasks are counted over all jobs, so a thread that wakes late, when its job
has ended, finds everything claimed. It may then still stand in the program's code, which is
unloaded only after ``nnc.team.settle``.

Where the team is busy, or threads cannot be made, the job runs on the caller's thread: results do
not depend on it.
"""

from __future__ import annotations

from nnc.backends.llvm import abi
from nnc.backends.llvm.target import Target

SPINS = 2000
"""Pauses before a waiting thread parks."""
YIELD_EVERY = 128
"""Pauses (a power of two) between a helper's offers of its processor to another thread."""
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
define internal void @wake(ptr %word, i32 %most, ptr %core) {{
  call i64 (i64, ...) @syscall(i64 {call}, ptr %word, i32 {wake}, i32 %most,
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
define internal void @wake(ptr %word, i32 %most, ptr %core) {{
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
define internal void @reach(ptr %core, i64 %finished, i32 %thread) {{
entry:
  %finishedp = getelementptr i8, ptr %core, i64 {finished}
  %sleepers = getelementptr i8, ptr %core, i64 {sleepers}
  %rousedp = getelementptr i8, ptr %core, i64 {roused}
  br label %spin
spin:
  %turn = phi i32 [0, %entry], [%next, %again]
  %now = load atomic i64, ptr %finishedp acquire, align 8
  %missing = icmp ult i64 %now, %finished
  br i1 %missing, label %rest, label %done
rest:
  call void @pause()
  %next = add i32 %turn, 1
  %phase = and i32 %next, {yield_mask}
  %round = icmp eq i32 %phase, 0
  %helper = icmp ne i32 %thread, 0
  %offer = and i1 %round, %helper
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
  %roused = load atomic i32, ptr %rousedp seq_cst, align 4
  %later = load atomic i64, ptr %finishedp seq_cst, align 8
  %still = icmp ult i64 %later, %finished
  br i1 %still, label %sleep, label %woken
sleep:
  call void @wait(ptr %rousedp, i32 %roused, ptr %core)
  br label %look
woken:
  %awake = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %done
done:
  ret void
}}
define internal void @rouse(ptr %core) {{
  %rousedp = getelementptr i8, ptr %core, i64 {roused}
  %before = atomicrmw add ptr %rousedp, i32 1 seq_cst
  call void @wake(ptr %rousedp, i32 2147483647, ptr %core)
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
  %numberp = getelementptr i8, ptr %slot, i64 {slot_number}
  %number = load i32, ptr %numberp
  %firstp = getelementptr i8, ptr %slot, i64 {slot_first}
  %first = load i32, ptr %firstp
  %jobp = getelementptr i8, ptr %core, i64 {job}
  %sleepers = getelementptr i8, ptr %core, i64 {job_sleepers}
  %gatep = getelementptr i8, ptr %core, i64 {gate}
  %insidep = getelementptr i8, ptr %slot, i64 {slot_inside}
  %functionp = getelementptr i8, ptr %core, i64 {function}
  %recordp = getelementptr i8, ptr %core, i64 {record}
  %threadsp = getelementptr i8, ptr %core, i64 {threads}
  br label %idle
idle:
  %seen = phi i32 [%first, %entry], [%job, %look], [%job, %work]
  %last = phi i64 [-1, %entry], [%last, %look], [%number64, %work]
  call void @await(ptr %core, ptr %jobp, i32 %seen, ptr %sleepers)
  %job = load atomic i32, ptr %jobp acquire, align 4
  br label %look
look:
  %gate = load atomic i64, ptr %gatep acquire, align 8
  %joined0 = lshr i64 %gate, {gate_joined}
  %joined = and i64 %joined0, {gate_field}
  %places0 = lshr i64 %gate, {gate_places}
  %places = and i64 %places0, {gate_field}
  %number64 = lshr i64 %gate, {gate_job}
  %free = icmp ult i64 %joined, %places
  %new = icmp ne i64 %number64, %last
  %mine = and i1 %free, %new
  br i1 %mine, label %join, label %idle
join:
  %entering = add i64 %gate, {gate_one}
  %swap = cmpxchg ptr %gatep, i64 %gate, i64 %entering seq_cst seq_cst
  %won = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %won, label %work, label %look
work:
  %inside = add i64 %number64, 1
  store atomic i64 %inside, ptr %insidep seq_cst, align 8
  %function = load ptr, ptr %functionp
  %record = load ptr, ptr %recordp
  %threads = load i32, ptr %threadsp
  call void %function(i32 %number, ptr %record, ptr %core, i32 %threads)
  store atomic i64 0, ptr %insidep release, align 8
  br label %idle
}}
define internal i1 @spawn(ptr %core, i32 %number) {{
  %offset = mul i32 %number, {slot_bytes}
  %slots = getelementptr i8, ptr %core, i64 {slots}
  %slot = getelementptr i8, ptr %slots, i32 %offset
  %numberp = getelementptr i8, ptr %slot, i64 {slot_number}
  %firstp = getelementptr i8, ptr %slot, i64 {slot_first}
  %jobp = getelementptr i8, ptr %core, i64 {job}
  %job = load i32, ptr %jobp
  store ptr %core, ptr %slot
  store i32 %number, ptr %numberp
  store i32 %job, ptr %firstp
  %insidep = getelementptr i8, ptr %slot, i64 {slot_inside}
  store i64 0, ptr %insidep
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
  %reachp = getelementptr i8, ptr %core, i64 {reach}
  %rousep = getelementptr i8, ptr %core, i64 {rouse}
  %sleepers = getelementptr i8, ptr %core, i64 {sleepers}
  %job_sleepers = getelementptr i8, ptr %core, i64 {job_sleepers}
  %gatep = getelementptr i8, ptr %core, i64 {gate}
  %spawnedp = getelementptr i8, ptr %core, i64 {spawned}
  %lock = getelementptr i8, ptr %core, i64 {lock}
  store ptr @reach, ptr %reachp
  store ptr @rouse, ptr %rousep
  store i32 0, ptr %sleepers
  store i32 0, ptr %job_sleepers
  store i64 0, ptr %gatep
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
  store atomic i32 %grown, ptr %spawnedp release, align 4
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
  %faultyp = getelementptr i8, ptr %core, i64 {faulty}
  %claimedp = getelementptr i8, ptr %core, i64 {claimed}
  %finishedp = getelementptr i8, ptr %core, i64 {finished}
  %first_claimp = getelementptr i8, ptr %core, i64 {first_claim}
  %first_finishp = getelementptr i8, ptr %core, i64 {first_finish}
  %gatep = getelementptr i8, ptr %core, i64 {gate}
  %jobp = getelementptr i8, ptr %core, i64 {job}
  %sleepers = getelementptr i8, ptr %core, i64 {job_sleepers}
  %claimed = load atomic i64, ptr %claimedp acquire, align 8
  %finished = load atomic i64, ptr %finishedp acquire, align 8
  store i32 %threads, ptr %threadsp
  store ptr %function, ptr %functionp
  store ptr %record, ptr %recordp
  store i32 0, ptr %faultyp
  store i64 %claimed, ptr %first_claimp
  store i64 %finished, ptr %first_finishp
  %old = load i32, ptr %jobp
  %job = add i32 %old, 1
  %helpers = sub i32 %threads, 1
  %helpers64 = zext i32 %helpers to i64
  %places = shl i64 %helpers64, {gate_places}
  %job64 = zext i32 %job to i64
  %number = shl i64 %job64, {gate_job}
  %open = or i64 %number, %places
  store atomic i64 %open, ptr %gatep seq_cst, align 8
  store atomic i32 %job, ptr %jobp seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %work, label %call
call:
  call void @wake(ptr %jobp, i32 %helpers, ptr %core)
  br label %work
work:
  call void %function(i32 0, ptr %record, ptr %core, i32 %threads)
  %closed = atomicrmw and ptr %gatep, i64 {gate_field} seq_cst
  br label %readers
readers:
  %gate = load atomic i64, ptr %gatep acquire, align 8
  %reading = icmp ne i64 %gate, 0
  br i1 %reading, label %yield, label %end
yield:
  %yielded = call i32 @sched_yield()
  br label %readers
end:
  store atomic i32 0, ptr %lock release, align 4
  ret void
}}
define void @nnc.team.settle(ptr %core) {{
entry:
  %processp = getelementptr i8, ptr %core, i64 {process}
  %spawnedp = getelementptr i8, ptr %core, i64 {spawned}
  %gatep = getelementptr i8, ptr %core, i64 {gate}
  %slots = getelementptr i8, ptr %core, i64 {slots}
  %known = load atomic i32, ptr %processp seq_cst, align 4
  %process = call i32 @getpid()
  %same = icmp eq i32 %known, %process
  br i1 %same, label %next, label %done
next:
  %thread = phi i32 [1, %entry], [%following, %passed]
  %spawned = load atomic i32, ptr %spawnedp acquire, align 4
  %more = icmp ult i32 %thread, %spawned
  br i1 %more, label %look, label %done
look:
  %offset = mul i32 %thread, {slot_bytes}
  %slot = getelementptr i8, ptr %slots, i32 %offset
  %insidep = getelementptr i8, ptr %slot, i64 {slot_inside}
  %inside = load atomic i64, ptr %insidep seq_cst, align 8
  %outside = icmp eq i64 %inside, 0
  br i1 %outside, label %passed, label %compare
compare:
  %gate = load atomic i64, ptr %gatep seq_cst, align 8
  %number = lshr i64 %gate, {gate_job}
  %running = add i64 %number, 1
  %current = icmp eq i64 %inside, %running
  br i1 %current, label %passed, label %stay
stay:
  %yielded = call i32 @sched_yield()
  br label %look
passed:
  %following = add i32 %thread, 1
  br label %next
done:
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
        if name.startswith(("CORE_", "TICKET_", "GATE_", "SLOT_"))
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
        gate_one=1 | 1 << abi.GATE_JOINED,
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
