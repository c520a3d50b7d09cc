/* Numbers of the error analysis that every step of the C library shares. */
#ifndef GAMMA_BOUNDS_H
#define GAMMA_BOUNDS_H

#define TINY 0x1p-1000
#define SLACK (1.0 + 0x1p-50)

static inline double larger(double a, double b) { return a > b ? a : b; }

#endif
