// Fibers: several stacks in one OS thread, and the switch between them. A switch saves what a called function has to preserve,
// which is all that a compiler expects to survive a call.
#pragma once
#include <stddef.h>
#include <sys/mman.h>

#ifdef __APPLE__
#define ASM_NAME(name) "_" name
#else
#define ASM_NAME(name) name
#endif

// Saves the registers on the stack that is left, stores its pointer in *from, and goes on where `to` was left.
extern "C" void msl_switch(void** from, void* to) __asm__(ASM_NAME("msl_switch"));

#if defined(__x86_64__)
__asm__(
    ".text\n.p2align 4\n.globl " ASM_NAME("msl_switch") "\n" ASM_NAME("msl_switch") ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n");
constexpr int FRAME_WORDS = 8, RETURN_WORD = 6;  // six registers, the return address, and one word that keeps 16-byte alignment
#elif defined(__aarch64__)
__asm__(
    ".text\n.p2align 4\n.globl " ASM_NAME("msl_switch") "\n" ASM_NAME("msl_switch") ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n");
constexpr int FRAME_WORDS = 20, RETURN_WORD = 11;  // x30 holds the return address
#else
#error "the CPU runner knows x86-64 and aarch64"
#endif

constexpr size_t STACK_SIZE = 512 * 1024;
// A function is refused when it begins with less than this left; what it then has is enough for any frame that the compiler was
// told to accept (compiler.py), and for the runtime.
constexpr size_t STACK_RESERVE = 160 * 1024;

// One piece of memory with room for `count` stacks; pages that nobody touches cost nothing.
inline char* allocate_stacks(size_t count) {
  void* memory = mmap(nullptr, count * STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
}

// What to pass to msl_switch so that `entry` begins on the empty stack at `stack`. `entry` must not return.
inline void* prepare_stack(char* stack, void (*entry)()) {
  void** frame = reinterpret_cast<void**>(stack + STACK_SIZE) - FRAME_WORDS;
  for (int i = 0; i < FRAME_WORDS; i++) frame[i] = nullptr;
  frame[RETURN_WORD] = reinterpret_cast<void*>(entry);
  return frame;
}
