/* The floating-point mode of a thread, guarded at every entry: round to nearest, every exception
 * masked, no flush-to-zero, no denormals-are-zero. */
#ifndef GAMMA_MODE_H
#define GAMMA_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
static inline uint64_t mode_enter(void) {
    const unsigned was = _mm_getcsr();
    _mm_setcsr(0x1f80u);
    __asm__ volatile("" : : : "memory"); /* keeps the arithmetic between enter and leave */
    return was;
}
static inline void mode_leave(uint64_t was) {
    __asm__ volatile("" : : : "memory");
    _mm_setcsr((unsigned)was);
}
#elif defined(__aarch64__)
static inline uint64_t mode_enter(void) {
    uint64_t was;
    __asm__ volatile("mrs %0, fpcr" : "=r"(was));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
    return was;
}
static inline void mode_leave(uint64_t was) {
    __asm__ volatile("msr fpcr, %0" : : "r"(was) : "memory");
}
#else
#include <fenv.h>
static inline uint64_t mode_enter(void) {
    const int was = fegetround();
    fesetround(FE_TONEAREST);
    return (uint64_t)was;
}
static inline void mode_leave(uint64_t was) { fesetround((int)was); }
#endif

#endif
