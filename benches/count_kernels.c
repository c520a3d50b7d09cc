/* Calls each kernel once at a small and a large size; run under callgrind, which counts the
 * instructions of every entry point with what it calls. Prints the instruction set. */
#include <stdio.h>
#include <stdlib.h>

#include "api.h"

enum { ROWS = 64, WIDTH = 256, COUNT = 16384 };

static void *make(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == NULL) {
        exit(99);
    }
    return memory;
}

int main(void) {
    float *A = make(ROWS * WIDTH * sizeof *A), *slope = make(WIDTH * sizeof *slope);
    float *x = make(COUNT * sizeof *x), *y = make(COUNT * sizeof *y), *z = make(COUNT * sizeof *z);
    double *wide = make(COUNT * sizeof *wide), *most = make(COUNT * sizeof *most);
    double *d = make(ROWS * sizeof *d), *out = make(COUNT * sizeof *out);
    double *spare = make(COUNT * sizeof *spare);
    uint16_t *half = make(COUNT * sizeof *half);
    int64_t *box = make(ROWS * sizeof *box);
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(i % 97 - 48) / 7;
        y[i] = x[i] + 1;
        z[i] = 0;
        wide[i] = x[i];
        most[i] = y[i];
        out[i] = 0;
        half[i] = 0;
    }
    for (int i = 0; i < ROWS * WIDTH; i++) {
        A[i] = (float)(i % 101 - 50) / 9;
    }
    for (int i = 0; i < WIDTH; i++) {
        slope[i] = 0.5f;
    }
    for (int i = 0; i < ROWS; i++) {
        box[i] = 0;
        d[i] = 0;
    }
    printf("%s\n", gamma_available(0));

    gamma_dot_rows_f32(A, d, box, wide, 1, ROWS, WIDTH);
    gamma_abs_dot_rows_f32(A, d, box, wide, 1, ROWS, WIDTH);
    gamma_relax_rows_f32(A, d, box, slope, slope, wide, wide, 1, ROWS, WIDTH);
    gamma_interval_affine_f32(A, wide, most, out, out + ROWS, 1, ROWS, WIDTH);
    gamma_interval_mul_f32(x, y, x, y, z, z, COUNT);
    gamma_pos_neg_split_f32(x, z, z, COUNT);
    gamma_step_f32(x, z, COUNT, 1);
    gamma_narrow(wide, z, COUNT, 1);
    gamma_midpoint(wide, most, out, COUNT);
    gamma_radius_about(wide, most, out, spare, COUNT);
    gamma_f16_up(x, half, COUNT);
    gamma_f16_to_f32(half, z, COUNT);
    return gamma_dot_f32(x, y, COUNT) > 1e30;
}
