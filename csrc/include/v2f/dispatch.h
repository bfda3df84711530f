// Run-time choice of instruction sets. Nothing is compiled with -march: every fast function carries its own target.
#pragma once

#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
#define V2F_X86 1
#else
#define V2F_X86 0
#endif

// One plain loop compiled three times and resolved at load time (needs ifunc: GCC or clang >= 14 with glibc).
#if V2F_X86 && defined(__GLIBC__) && (!defined(__clang__) || __clang_major__ >= 14)
#define V2F_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define V2F_CLONES
#endif

// What a cloned function calls must be compiled with its instruction set: inlined, whatever the compiler thinks of it.
#if defined(__GNUC__)
#define V2F_INLINE inline __attribute__((always_inline))
#else
#define V2F_INLINE inline
#endif
