"""Runs a Linux program on an emulated x86 CPU that has instructions this machine may lack: AVX-512 with VNNI, AVX-VNNI.

The CPU is Bochs's, out of a wheel (requirements.txt). The program's memory is this process's memory at the same addresses,
so a system call is simply made; what belongs to a process (break, signals, thread pointer) is answered here. There are
no threads: who asks for one is told to try again later. Must never be used to measure: how long an emulator takes says
nothing about a CPU.

    x86.py PROGRAM [ARGUMENT ...]
"""

import ctypes
import os
import struct
import subprocess
import sys
import tempfile

PAGE = 4096
# Guest addresses are host addresses, below what one table of pages of 1 GB reaches.
BOTTOM, TOP = 64 << 30, 512 << 30
STACK = 64 << 20
READ_WRITE_EXECUTE, PRIVATE_ANONYMOUS, FIXED = 7, 0x22, 0x10
EAGAIN, ENOSYS, EINVAL = 11, 38, 22

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def bochs():
    """The wheel's module. Its model of a CPU is Cannon Lake, which has no VNNI: it is made to take Sapphire Rapids."""
    if not hasattr(libc, "__isoc23_sscanf"):
        # Built against a newer C library, of which it wants two names.
        names = "__isoc23_strtoull: jmp strtoull@PLT\\n.globl __isoc23_sscanf\\n__isoc23_sscanf: jmp sscanf@PLT"
        source = f'__asm__(".globl __isoc23_strtoull\\n{names}");\n'
        with tempfile.TemporaryDirectory() as folder:
            built = os.path.join(folder, "names.so")
            subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", built], input=source.encode(), check=True)
            ctypes.CDLL(built, mode=ctypes.RTLD_GLOBAL)
    import bochscpu.memory

    library = ctypes.CDLL(bochscpu._bochscpu.__file__)
    usual, wanted = (
        ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        for name in ("_Z23create_corei3_cnl_cpuidP8BX_CPU_C", "_Z28create_sapphire_rapids_cpuidP8BX_CPU_C")
    )
    first = usual & -PAGE
    if libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(2 * PAGE), READ_WRITE_EXECUTE):
        raise OSError(ctypes.get_errno(), "mprotect")
    # jmp [rip]; the address follows.
    ctypes.memmove(usual, b"\xff\x25\0\0\0\0" + struct.pack("<Q", wanted), 14)
    return bochscpu


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def system(number, *arguments):
    """A system call; a negative number is an error's."""
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(signed(argument)) for argument in arguments))
    return -ctypes.get_errno() if result == -1 else result


class Memory:
    """What the guest is given, from `BOTTOM` upwards and never twice."""

    def __init__(self):
        self.free = BOTTOM

    def map(self, length, flags=PRIVATE_ANONYMOUS, file=-1, offset=0, address=None, protection=READ_WRITE_EXECUTE):
        if address is None:
            address = self.free
            self.free += (length + 2 * PAGE - 1) & -PAGE
        if not BOTTOM <= address < address + length <= TOP:
            return -EINVAL
        return system(9, address, length, protection, flags | FIXED, file & (1 << 64) - 1, offset)

    def image(self, path):
        """Maps a position-independent program. Gives its base, entry, program headers and interpreter."""
        with open(path, "rb") as file:
            content = file.read()
        if content[:5] != b"\x7fELF\2":
            sys.exit(f"{path} is no 64-bit ELF file")
        entry, at = struct.unpack_from("<QQ", content, 24)
        size, count = struct.unpack_from("<HH", content, 54)
        headers = [struct.unpack_from("<IIQQQQQQ", content, at + size * index) for index in range(count)]
        loads = [header for header in headers if header[0] == 1]
        base = self.map(max(address + memory for _, _, _, address, _, _, memory, _ in loads))
        for _, _, offset, address, _, length, _, _ in loads:
            ctypes.memmove(base + address, content[offset : offset + length], length)
        interpreter = next((content[h[2] : h[2] + h[5] - 1].decode() for h in headers if h[0] == 3), None)
        return base, base + entry, (base + at, size, count), interpreter


def first_stack(memory, program, arguments):
    """Arguments, environment and what the kernel tells a new program; gives the stack's end and where to begin."""
    base, entry, (headers, size, count), interpreter = memory.image(program)
    loader, begin = memory.image(interpreter)[:2] if interpreter else (0, entry)
    end = memory.map(STACK) + STACK

    def put(content):
        nonlocal end
        end -= len(content)
        ctypes.memmove(end, content, len(content))
        return end

    texts = [put(text.encode() + b"\0") for text in [program, *arguments]]
    variables = [put(f"{name}={value}".encode() + b"\0") for name, value in os.environ.items()]
    random = put(os.urandom(16))
    # PHDR, PHENT, PHNUM, PAGESZ, BASE, ENTRY, SECURE, RANDOM, CLKTCK, and the end.
    told = {3: headers, 4: size, 5: count, 6: PAGE, 7: loader, 9: entry, 23: 0, 25: random, 17: 100, 0: 0}
    words = [len(texts), *texts, 0, *variables, 0, *(word for pair in told.items() for word in pair)]
    end = (end - 8 * len(words)) & -16
    ctypes.memmove(end, struct.pack(f"<{len(words)}Q", *words), 8 * len(words))
    return end, begin


class Machine:
    """One CPU in 64-bit mode and the process on it."""

    def __init__(self, bochscpu, memory):
        self.bochscpu, self.memory = bochscpu, memory
        self.session = bochscpu.Session()
        self.session.missing_page_handler = lambda address: bochscpu.memory.page_insert(address & -PAGE, address & -PAGE)
        self.fault = None
        self.hook = bochscpu.Hook()
        self.hook.hlt = lambda *_: self.session.stop()
        self.hook.exception = self.on_exception

    def on_exception(self, _session, _cpu, vector, code):
        state = self.session.cpu.state
        self.fault = f"exception {vector} ({code:#x}) at {state.rip:#x}, address {state.cr2:#x}"
        self.session.stop()

    def segment(self, selector, attributes, base=0, limit=0xFFFFFFFF):
        segment = self.bochscpu.Segment()
        segment.present, segment.selector, segment.attr = True, selector, attributes
        segment.base, segment.limit = base, limit
        return segment

    def start(self, stack, begin):
        tables = self.memory.map(3 * PAGE)
        top, giants, self.halt = tables, tables + PAGE, tables + 2 * PAGE
        ctypes.c_uint64.from_address(top).value = giants | 7
        for index in range(512):
            # Present, writable, one page of 1 GB that lies where it says.
            ctypes.c_uint64.from_address(giants + 8 * index).value = index << 30 | 0x87
        ctypes.memset(self.halt, 0xF4, PAGE)
        state = self.bochscpu.State()
        state.rip, state.rsp, state.rflags, state.cr3 = begin, stack, 2, top
        # Paging and write protection; PAE, SSE, XSAVE; long mode and system calls; all vector registers.
        state.cr0, state.cr4, state.efer, state.xcr0 = 0x80050033, 0x40620, 0xD01, 0xE7
        state.mxcsr, state.mxcsr_mask, state.fpcw = 0x1F80, 0xFFFF, 0x37F
        # A system call halts: its number and arguments are read then.
        state.lstar, state.star = self.halt, 0x10 << 32 | 0x18 << 48
        state.cs = self.segment(0x10, 0x209B)
        for name in ("ss", "ds", "es", "fs", "gs"):
            setattr(state, name, self.segment(0x18, 0xC093))
        state.tr, state.ldtr = self.segment(0x40, 0x8B, limit=0x67), self.segment(0, 0x82, limit=0)
        state.gdtr = state.idtr = self.bochscpu.GlobalSegment()
        self.session.cpu.state = state

    def run(self):
        """Until the program ends; gives its exit code."""
        while True:
            self.session.run([self.hook])
            state = self.session.cpu.state
            if self.fault or not self.halt < state.rip < self.halt + PAGE:
                sys.stdout.flush()
                sys.exit(self.fault or f"stopped at {state.rip:#x}")
            number = state.rax
            arguments = [getattr(state, name) for name in ("rdi", "rsi", "rdx", "r10", "r8", "r9")]
            if number in (60, 231):  # exit, exit_group
                return arguments[0] & 0xFF
            state.rax = self.answer(state, number, arguments) & (1 << 64) - 1
            state.rip, state.rflags = state.rcx, state.r11 | 2
            self.session.cpu.state = state

    def answer(self, state, number, arguments):
        first, second = arguments[:2]
        match number:
            case 9:  # mmap
                address, length, protection, flags, file, offset = arguments
                return self.memory.map(length, flags, file, offset, address if flags & FIXED else None, protection)
            case 12:  # brk: there is none, so memory comes from mmap
                return BOTTOM
            case 13 | 14 | 131 | 273:  # signals, robust futexes: those are this process's
                return 0
            case 25:  # mremap: would leave the guest's range
                return -ENOSYS
            case 56 | 435:  # clone
                return -EAGAIN
            case 158 if first == 0x1002:  # arch_prctl, the thread pointer
                state.fs = self.segment(0x18, 0xC093, base=second)
                return 0
            case 218:  # set_tid_address
                return os.getpid()
            case 158 | 334:  # rseq
                return -ENOSYS
            case 62 | 200 | 234:  # kill: aborts
                sys.exit("the program ended itself by a signal")
        return system(number, *arguments)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    bochscpu, memory = bochs(), Memory()
    stack, begin = first_stack(memory, os.path.abspath(sys.argv[1]), sys.argv[2:])
    machine = Machine(bochscpu, memory)
    machine.start(stack, begin)
    code = machine.run()
    sys.stdout.flush()
    os._exit(code)


main()
