"""LLVM text that every compiled program carries: sharing out tasks, faults, the float state.

An entry walks through its steps twice where there is a team. The first walk only measures how many
tasks the largest launch has (in the first turn of loops); at most one, and the caller's thread
walks alone while no other wakes.

A launch has tasks 0 to n - 1. Alone, a thread runs them all. In a team every thread walks through
the whole entry and, at each launch, claims ranges of tasks from one counter that only grows: a
launch owns the numbers from the sum of all earlier launches' tasks on, so the counter never needs
to be reset and threads may be at different launches. A second counter has the tasks that are
finished. Behind a barrier of the program a thread waits until all tasks before it are; what waits
is the work, never for the threads: one that comes late finds its launches claimed and skips them.

Launches for one thread are the caller's, and others pass them. Those that follow each other, with
barriers or without, count as one task.

A thread other than the caller's reads a copy of the record, and the record itself only while it
has tasks that are not counted as finished: else the caller may have returned already.

Once a check of the data has failed, launches are walked through with no tasks: what training would
have written after it, the weights above all, stays as it was.

None of this is optimized (``optnone``): it runs once a launch, and compiles twice as fast.
"""

from __future__ import annotations

from nnc.backends import base
from nnc.backends.llvm import abi
from nnc.backends.llvm.float_state import float_state
from nnc.backends.llvm.memory import ZEROS
from nnc.backends.llvm.target import Target
from nnc.backends.llvm.values import literal
from nnc.ir.types import DType

# The walk of one thread through an entry: words of its state. MODE is what the launch that is
# open gives this thread: nothing, all of its TOTAL tasks, a share of those numbered from FIRST to
# LIMIT, or a share that is not run. COUNT is how many tasks are finished when all so far are,
# AWAITED what it was at the last barrier, DONE how many of them this thread has finished without
# having said so. ALONE: the last launch was the caller's. MEASURES: nothing runs, WIDEST is found.
STATE_THREAD, STATE_THREADS, STATE_CORE, STATE_RECORD = range(4)
STATE_MODE, STATE_FIRST, STATE_LIMIT, STATE_CHUNK, STATE_BEGIN, STATE_END = range(4, 10)
STATE_TOTAL, STATE_MEASURES, STATE_WIDEST = range(10, 13)
STATE_COUNT, STATE_AWAITED, STATE_DONE, STATE_ALONE = range(13, 17)
STATE_WORDS = 24

# Chunks per thread: small enough to even out, large enough to walk through memory in order.
_SHARES = 8


def _at(name: str, word: int) -> str:
    return f"  %{name} = getelementptr i64, ptr %s, i64 {word}\n"


_SHARE = f"""
define internal void @nnc.open(ptr %s, i64 %total, i64 %work) noinline optnone {{
entry:
{_at("mode", STATE_MODE)}{_at("first", STATE_FIRST)}{_at("limit", STATE_LIMIT)}\
{_at("chunkp", STATE_CHUNK)}{_at("alonep", STATE_ALONE)}{_at("donep", STATE_DONE)}\
{_at("corep", STATE_CORE)}{_at("threadp", STATE_THREAD)}{_at("threadsp", STATE_THREADS)}\
{_at("totalp", STATE_TOTAL)}{_at("measuresp", STATE_MEASURES)}{_at("widestp", STATE_WIDEST)}\
{_at("recordp", STATE_RECORD)}{_at("countp", STATE_COUNT)}{_at("awaitedp", STATE_AWAITED)}\
  store i64 0, ptr %mode
  %totalf = sitofp i64 %total to double
  %workf = sitofp i64 %work to double
  %allf = fmul double %totalf, %workf
  %small = fcmp olt double %allf, {{grain}}
  %few = icmp sle i64 %total, 1
  %single = or i1 %few, %small
  %measures = load i64, ptr %measuresp
  %measure = icmp ne i64 %measures, 0
  br i1 %measure, label %note, label %act
note:
  %widest = load i64, ptr %widestp
  %useful = select i1 %single, i64 0, i64 %total
  %wider = call i64 @llvm.smax.i64(i64 %widest, i64 %useful)
  store i64 %wider, ptr %widestp
  ret void
act:
  %some = icmp sgt i64 %total, 0
  br i1 %some, label %busy, label %out
busy:
  %core = load ptr, ptr %corep
  %alone = icmp eq ptr %core, null
  br i1 %alone, label %all, label %team
team:
  %count = load i64, ptr %countp
  %awaited = load i64, ptr %awaitedp
  br i1 %single, label %one, label %many
one:
  %thread = load i64, ptr %threadp
  %caller = icmp eq i64 %thread, 0
  %follows = load i64, ptr %alonep
  %task = sub i64 1, %follows
  %count1 = add i64 %count, %task
  store i64 %count1, ptr %countp
  store i64 1, ptr %alonep
  br i1 %caller, label %own, label %out
own:
  %done = load i64, ptr %donep
  %done1 = add i64 %done, %task
  store i64 %done1, ptr %donep
  %others = sub i64 %count1, 1
  %before = call i64 @llvm.umin.i64(i64 %awaited, i64 %others)
  call void @nnc.reach(ptr %s, i64 %before)
  br label %all
all:
  %record = load ptr, ptr %recordp
  %faultsp = getelementptr i64, ptr %record, i64 {base.FAULT_COUNT}
  %faults = load atomic i64, ptr %faultsp monotonic, align 8
  %sound = icmp eq i64 %faults, 0
  %mode1 = select i1 %sound, i64 1, i64 0
  store i64 %mode1, ptr %mode
  store i64 %total, ptr %totalp
  br label %out
many:
  call void @nnc.publish(ptr %s)
  store i64 0, ptr %alonep
  %start = load i64, ptr %limit
  %stop = add i64 %start, %total
  %count2 = add i64 %count, %total
  store i64 %stop, ptr %limit
  store i64 %count2, ptr %countp
  %claimedp = getelementptr i8, ptr %core, i64 {abi.CORE_CLAIMED}
  %claimed = load atomic i64, ptr %claimedp monotonic, align 8
  %left = icmp ult i64 %claimed, %stop
  br i1 %left, label %wait, label %out
wait:
  call void @nnc.reach(ptr %s, i64 %awaited)
  %threads = load i64, ptr %threadsp
  %shares = mul i64 %threads, {_SHARES}
  %even = udiv i64 %total, %shares
  %chunk = call i64 @llvm.umax.i64(i64 %even, i64 1)
  %faultyp = getelementptr i8, ptr %core, i64 {abi.CORE_FAULTY}
  %faulty = load atomic i32, ptr %faultyp monotonic, align 4
  %whole = icmp eq i32 %faulty, 0
  %mode2 = select i1 %whole, i64 2, i64 3
  store i64 %mode2, ptr %mode
  store i64 %start, ptr %first
  store i64 %chunk, ptr %chunkp
  br label %out
out:
  ret void
}}
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)
define internal i1 @nnc.claim(ptr %s) noinline optnone {{
entry:
{_at("modep", STATE_MODE)}{_at("firstp", STATE_FIRST)}{_at("limitp", STATE_LIMIT)}\
{_at("chunkp", STATE_CHUNK)}{_at("beginp", STATE_BEGIN)}{_at("endp", STATE_END)}\
{_at("corep", STATE_CORE)}{_at("totalp", STATE_TOTAL)}{_at("donep", STATE_DONE)}\
  %mode = load i64, ptr %modep
  switch i64 %mode, label %share [ i64 0, label %nothing
                                   i64 1, label %all ]
nothing:
  ret i1 false
all:
  store i64 0, ptr %modep
  %total = load i64, ptr %totalp
  store i64 0, ptr %beginp
  store i64 %total, ptr %endp
  ret i1 true
share:
  %core = load ptr, ptr %corep
  %limit = load i64, ptr %limitp
  %first = load i64, ptr %firstp
  %chunk = load i64, ptr %chunkp
  %counter = getelementptr i8, ptr %core, i64 {abi.CORE_CLAIMED}
  %seen = load atomic i64, ptr %counter monotonic, align 8
  br label %try
try:
  %now = phi i64 [%seen, %share], [%other, %next], [%upto, %drop]
  %left = icmp ult i64 %now, %limit
  br i1 %left, label %next, label %no
next:
  %wanted = add i64 %now, %chunk
  %upto = call i64 @llvm.umin.i64(i64 %wanted, i64 %limit)
  %swap = cmpxchg ptr %counter, i64 %now, i64 %upto monotonic monotonic
  %other = extractvalue {{ i64, i1 }} %swap, 0
  %won = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %won, label %got, label %try
got:
  %tasks = sub i64 %upto, %now
  %done = load i64, ptr %donep
  %done1 = add i64 %done, %tasks
  store i64 %done1, ptr %donep
  %runs = icmp eq i64 %mode, 2
  br i1 %runs, label %take, label %drop
drop:
  br label %try
take:
  %begin = sub i64 %now, %first
  %end = sub i64 %upto, %first
  store i64 %begin, ptr %beginp
  store i64 %end, ptr %endp
  ret i1 true
no:
  call void @nnc.publish(ptr %s)
  ret i1 false
}}
define internal void @nnc.fence(ptr %s) noinline optnone {{
{_at("countp", STATE_COUNT)}{_at("awaitedp", STATE_AWAITED)}\
  %count = load i64, ptr %countp
  store i64 %count, ptr %awaitedp
  ret void
}}
define internal void @nnc.reach(ptr %s, i64 %awaited) noinline optnone {{
entry:
{_at("corep", STATE_CORE)}{_at("threadp", STATE_THREAD)}\
  %core = load ptr, ptr %corep
  %finishedp = getelementptr i8, ptr %core, i64 {abi.CORE_FINISHED}
  %finished = load atomic i64, ptr %finishedp acquire, align 8
  %missing = icmp ult i64 %finished, %awaited
  br i1 %missing, label %wait, label %done
wait:
  %thread = load i64, ptr %threadp
  %thread32 = trunc i64 %thread to i32
  %reachp = getelementptr i8, ptr %core, i64 {abi.CORE_REACH}
  %reach = load ptr, ptr %reachp
  call void %reach(ptr %core, i64 %awaited, i32 %thread32)
  br label %done
done:
  ret void
}}
define internal void @nnc.publish(ptr %s) noinline optnone {{
entry:
{_at("corep", STATE_CORE)}{_at("donep", STATE_DONE)}{_at("recordp", STATE_RECORD)}\
{_at("countp", STATE_COUNT)}\
  %done = load i64, ptr %donep
  %some = icmp ne i64 %done, 0
  br i1 %some, label %look, label %out
look:
  %core = load ptr, ptr %corep
  %record = load ptr, ptr %recordp
  %faultsp = getelementptr i64, ptr %record, i64 {base.FAULT_COUNT}
  %faults = load atomic i64, ptr %faultsp monotonic, align 8
  %sound = icmp eq i64 %faults, 0
  br i1 %sound, label %add, label %mark
mark:
  %faultyp = getelementptr i8, ptr %core, i64 {abi.CORE_FAULTY}
  store atomic i32 1, ptr %faultyp monotonic, align 4
  br label %add
add:
  store i64 0, ptr %donep
  %finishedp = getelementptr i8, ptr %core, i64 {abi.CORE_FINISHED}
  %before = atomicrmw add ptr %finishedp, i64 %done seq_cst
  %now = add i64 %before, %done
  %sleepersp = getelementptr i8, ptr %core, i64 {abi.CORE_SLEEPERS}
  %sleepers = load atomic i32, ptr %sleepersp seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  %count = load i64, ptr %countp
  %last = icmp uge i64 %now, %count
  %wakes = and i1 %asleep, %last
  br i1 %wakes, label %wake, label %out
wake:
  %rousep = getelementptr i8, ptr %core, i64 {abi.CORE_ROUSE}
  %rouse = load ptr, ptr %rousep
  call void %rouse(ptr %core)
  br label %out
out:
  ret void
}}
"""

_WALK = """
define internal i64 @nnc.turns(ptr %s, i64 %extent) noinline optnone {{
  %measuresp = getelementptr i64, ptr %s, i64 {measures}
  %measures = load i64, ptr %measuresp
  %measure = icmp ne i64 %measures, 0
  %once = call i64 @llvm.smin.i64(i64 %extent, i64 1)
  %turns = select i1 %measure, i64 %once, i64 %extent
  ret i64 %turns
}}
define internal void @nnc.clear(ptr %s) noinline optnone {{
entry:
  br label %turn
turn:
  %i = phi i64 [0, %entry], [%next, %turn]
  %at = getelementptr i64, ptr %s, i64 %i
  store i64 0, ptr %at
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {words}
  br i1 %more, label %turn, label %done
done:
  ret void
}}
define internal void @nnc.walk(i32 %thread, ptr %job, ptr %core, i32 %threads) noinline optnone {{
entry:
  %s = alloca i64, i64 {words}, align 64
  call void @nnc.clear(ptr %s)
  %threadp = getelementptr i64, ptr %s, i64 {thread}
  %threadsp = getelementptr i64, ptr %s, i64 {threads}
  %corep = getelementptr i64, ptr %s, i64 {core}
  %recordp = getelementptr i64, ptr %s, i64 {record}
  %limitp = getelementptr i64, ptr %s, i64 {limit}
  %countp = getelementptr i64, ptr %s, i64 {count}
  %awaitedp = getelementptr i64, ptr %s, i64 {awaited}
  %thread64 = zext i32 %thread to i64
  %threads64 = zext i32 %threads to i64
  %recordj = getelementptr ptr, ptr %job, i64 {job_record}
  %stepsj = getelementptr ptr, ptr %job, i64 {job_steps}
  %lengthj = getelementptr i64, ptr %job, i64 {job_length}
  %record = load ptr, ptr %recordj
  %steps = load ptr, ptr %stepsj
  %length = load i64, ptr %lengthj
  store i64 %thread64, ptr %threadp
  store i64 %threads64, ptr %threadsp
  store ptr %core, ptr %corep
  store ptr %record, ptr %recordp
  %alone = icmp eq ptr %core, null
  br i1 %alone, label %ready, label %team
team:
  %claimp = getelementptr i8, ptr %core, i64 {first_claim}
  %finishp = getelementptr i8, ptr %core, i64 {first_finish}
  %claim = load i64, ptr %claimp
  %finish = load i64, ptr %finishp
  store i64 %claim, ptr %limitp
  store i64 %finish, ptr %countp
  store i64 %finish, ptr %awaitedp
  %caller = icmp eq i32 %thread, 0
  br i1 %caller, label %ready, label %read
read:
  %copy = alloca i64, i64 %length, align 16
  br label %word
word:
  %i = phi i64 [0, %read], [%next, %word]
  %from = getelementptr i64, ptr %record, i64 %i
  %to = getelementptr i64, ptr %copy, i64 %i
  %value = load i64, ptr %from
  store i64 %value, ptr %to
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %length
  br i1 %more, label %word, label %known
known:
  %gatep = getelementptr i8, ptr %core, i64 {gate}
  %before = atomicrmw sub ptr %gatep, i64 1 seq_cst
  br label %ready
ready:
  %own = phi ptr [%record, %entry], [%record, %team], [%copy, %known]
  %old = call i64 @nnc.float.enter()
  call void %steps(ptr %own, ptr %s)
  call void @nnc.float.leave(i64 %old)
  br i1 %alone, label %out, label %finished
finished:
  %last = icmp eq i32 %thread, 0
  br i1 %last, label %end, label %out
end:
  call void @nnc.publish(ptr %s)
  %all = load i64, ptr %countp
  call void @nnc.reach(ptr %s, i64 %all)
  br label %out
out:
  ret void
}}
define internal i32 @nnc.enter(ptr %record, ptr %steps, i64 %length) noinline optnone {{
entry:
  %job = alloca i64, i64 {job_words}
  %s = alloca i64, i64 {words}, align 64
  %versionp = getelementptr i64, ptr %record, i64 {version}
  %version = load i64, ptr %versionp
  %fits = icmp eq i64 %version, {known}
  br i1 %fits, label %begin, label %refuse
refuse:
  ret i32 2
begin:
  %faultsp = getelementptr i64, ptr %record, i64 {faults}
  store i64 0, ptr %faultsp
  %recordj = getelementptr ptr, ptr %job, i64 {job_record}
  %stepsj = getelementptr ptr, ptr %job, i64 {job_steps}
  %lengthj = getelementptr i64, ptr %job, i64 {job_length}
  store ptr %record, ptr %recordj
  store ptr %steps, ptr %stepsj
  store i64 %length, ptr %lengthj
  %ticketp = getelementptr i64, ptr %record, i64 {team}
  %ticket = load ptr, ptr %ticketp
  %alone = icmp eq ptr %ticket, null
  br i1 %alone, label %solo, label %look
look:
  call void @nnc.clear(ptr %s)
  %measuresp = getelementptr i64, ptr %s, i64 {measures}
  store i64 1, ptr %measuresp
  call void %steps(ptr %record, ptr %s)
  %widestp = getelementptr i64, ptr %s, i64 {widest}
  %width = load i64, ptr %widestp
  %wide = icmp sgt i64 %width, 1
  br i1 %wide, label %together, label %solo
together:
  %runp = getelementptr i8, ptr %ticket, i64 {run}
  %run = load ptr, ptr %runp
  call void %run(ptr %ticket, ptr @nnc.walk, ptr %job, i64 %width)
  br label %done
solo:
  call void @nnc.walk(i32 0, ptr %job, ptr null, i32 1)
  br label %done
done:
  %faults = load atomic i64, ptr %faultsp monotonic, align 8
  %bad = icmp ne i64 %faults, 0
  %code = zext i1 %bad to i32
  ret i32 %code
}}
"""

_FAULT = """
define internal void @nnc.fault(ptr %record, i64 %site, i64 %value) cold noinline optnone {{
  %count = getelementptr i64, ptr %record, i64 {count}
  %earlier = atomicrmw add ptr %count, i64 1 monotonic
  %first = icmp eq i64 %earlier, 0
  br i1 %first, label %keep, label %done
keep:
  %sitep = getelementptr i64, ptr %record, i64 {site}
  %valuep = getelementptr i64, ptr %record, i64 {value}
  store i64 %site, ptr %sitep
  store i64 %value, ptr %valuep
  br label %done
done:
  ret void
}}
"""


def support(target: Target, grain: int) -> str:
    """Return the functions that kernels and entries of every program call.

    A launch of less work than ``grain`` is left to one thread.
    """
    fault = _FAULT.format(count=base.FAULT_COUNT, site=base.FAULT_SITE, value=base.FAULT_VALUE)
    walk = _WALK.format(
        words=STATE_WORDS,
        thread=STATE_THREAD,
        threads=STATE_THREADS,
        core=STATE_CORE,
        measures=STATE_MEASURES,
        record=STATE_RECORD,
        widest=STATE_WIDEST,
        limit=STATE_LIMIT,
        count=STATE_COUNT,
        awaited=STATE_AWAITED,
        job_words=abi.JOB_WORDS,
        job_record=abi.JOB_RECORD,
        job_steps=abi.JOB_STEPS,
        job_length=abi.JOB_LENGTH,
        first_claim=abi.CORE_FIRST_CLAIM,
        first_finish=abi.CORE_FIRST_FINISH,
        gate=abi.CORE_GATE,
        version=base.VERSION,
        known=base.RECORD_VERSION,
        faults=base.FAULT_COUNT,
        team=base.TEAM,
        run=abi.TICKET_RUN,
    )
    zeros = f"{ZEROS} = internal constant [64 x i8] zeroinitializer, align 64\n"
    share = _SHARE.replace("{grain}", literal(grain, DType.F64))
    return zeros + share + walk + fault + float_state(target)
