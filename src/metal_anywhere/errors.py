"""What can be wrong with a Metal kernel, one exception for each kind of mistake that the CPU runner finds."""

NO_COMPILER = "no C++ compiler"
NO_CLANG = "no clang"  # for opencl_check.py

Position = tuple[int, int, int]


class MetalError(RuntimeError):
    """A kernel that does not compile, or that does what a GPU would not survive or would not report.

    The message is one readable line: the kernel, the line of its source, the threadgroup and thread, then `problem`.

    Args:
        problem: What is wrong, with the numbers ("reads x[640], but x has 640 elements of 4 bytes"). A compiler's own
            messages may follow on more lines.
        kernel: The kernel's name, as `metal_kernel` was given it.
        location: The file and line of its source ("matvec.metal:12"), where they are known.
        threadgroup: threadgroup_position_in_grid of the thread that was at fault.
        thread: thread_position_in_threadgroup of that thread.
    """

    def __init__(
        self,
        problem: str,
        *,
        kernel: str,
        location: str | None = None,
        threadgroup: Position | None = None,
        thread: Position | None = None,
    ) -> None:
        where = [f"kernel {kernel!r}", location or ""]
        where += [f"threadgroup {threadgroup}"] if threadgroup is not None else []
        where += [f"thread {thread}"] if thread is not None else []
        super().__init__(f"{', '.join(filter(None, where))}: {problem}")
        self.problem = problem
        self.kernel = kernel
        self.location = location
        self.threadgroup = threadgroup
        self.thread = thread


class CompileError(MetalError):
    """The source is not valid Metal, or uses what Metal lacks and C++ has."""


class OutOfBounds(MetalError):
    """A load or store outside of a buffer or of an array."""


class BarrierDivergence(MetalError):
    """A barrier or SIMD operation that some threads reach and others do not."""


class NeverWritten(MetalError):
    """Elements of an output that no thread has written, where there is no `init_value`."""


class ThreadgroupMemoryExceeded(MetalError):
    """More threadgroup memory than a GPU has: 32 KB for one threadgroup."""


class NeverEnds(MetalError):
    """A kernel that was stopped because it did not come to an end."""


class DataRace(MetalError):
    """Two threads at one address of threadgroup memory, one of them writing, with no barrier in between."""


class UninitializedRead(MetalError):
    """A load from an output or from threadgroup memory that no thread has stored to, or a matrix that nobody has filled."""


class KernelFault(MetalError):
    """Any other fault: a division of integers by zero, for example."""


class NoCompiler(MetalError):
    """This machine has neither a GPU that MLX can use nor a C++ compiler to run kernels on the CPU with.

    `problem` is NO_COMPILER, by which a skipped test is known, and then `remedy`: what to install or to set.
    """

    def __init__(self, remedy: str, *, kernel: str) -> None:
        super().__init__(f"{NO_COMPILER}: {remedy}", kernel=kernel)


def find_no_compiler(error: BaseException | None) -> NoCompiler | None:
    """`error`, or what it was raised in the handling of, where that is a NoCompiler: then no kernel was at fault."""
    while error is not None and not isinstance(error, NoCompiler):
        error = error.__cause__ or error.__context__
    return error
