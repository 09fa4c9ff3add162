"""LLVM text that sets how a thread rounds, and sets it back.

A caller may have denormals flushed or rounding changed (a library built with fast-math does so on
load), on its own thread only: every thread that computes makes the state its own first.
"""

from __future__ import annotations

from nnc.backends.llvm.target import Target

_X86_STATE = """
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse.stmxcsr(ptr)
define internal i64 @nnc.float.enter() noinline optnone {
  %now = alloca i32
  %ours = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %now)
  store i32 8064, ptr %ours
  call void @llvm.x86.sse.ldmxcsr(ptr %ours)
  %old = load i32, ptr %now
  %wide = zext i32 %old to i64
  ret i64 %wide
}
define internal void @nnc.float.leave(i64 %old) noinline optnone {
  %now = alloca i32
  %narrow = trunc i64 %old to i32
  store i32 %narrow, ptr %now
  call void @llvm.x86.sse.ldmxcsr(ptr %now)
  ret void
}
"""

_ARM_STATE = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
define internal i64 @nnc.float.enter() noinline optnone {
  %old = call i64 @llvm.aarch64.get.fpcr()
  call void @llvm.aarch64.set.fpcr(i64 0)
  ret i64 %old
}
define internal void @nnc.float.leave(i64 %old) noinline optnone {
  call void @llvm.aarch64.set.fpcr(i64 %old)
  ret void
}
"""

_NO_STATE = """
define internal i64 @nnc.float.enter() {
  ret i64 0
}
define internal void @nnc.float.leave(i64 %old) {
  ret void
}
"""


def float_state(target: Target) -> str:
    """Return ``nnc.float.enter`` and ``nnc.float.leave``.

    Between them floats round to nearest, denormals are kept and exceptions are masked, whatever
    the caller had set; else the bits of a result would depend on which thread computed it.
    """
    if target.arch in ("x86_64", "i686", "i386"):
        return _X86_STATE
    return _ARM_STATE if target.arch == "aarch64" else _NO_STATE
