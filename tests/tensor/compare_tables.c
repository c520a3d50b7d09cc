/* Compares every kernel of one instruction set with the scalar one, at odd
 * lengths and on special values: same bits where a kernel is elementwise,
 * within the summation error elsewhere. Compiled with -DOTHER=gamma_neon (or
 * another table); prints what differs and exits with the count. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "compare_images.h"
#include "table.h"

enum { MOST = 1031 };
static const size_t LENGTHS[] = {0,  1,  2,  3,  5,  7,  8,  9,   15,  16,
                                 17, 31, 32, 33, 63, 65, 97, 127, 1031};

/* Sums of seven rows by the first table, the other one, and the other one row by row: the last two
 * have the same bits. */
static void rows_agree(const char *what, double s[3][7], const double *size, size_t n) {
    for (int k = 0; k < 7; k++) {
        close_to(what, s[0][k], s[1][k], size[k], n);
    }
    same(what, s[1], s[2], sizeof s[1], n);
}

#define ROWS(S, NAME)                                                                              \
    memset(s, 0, sizeof s);                                                                        \
    a->NAME##_##S(S##_x[0], part, 7, S##_c[0], part, s[0]);                                        \
    b->NAME##_##S(S##_x[0], part, 7, S##_c[0], part, s[1]);                                        \
    for (size_t k = 0; k < 7; k++) {                                                               \
        b->NAME##_##S(S##_x[0] + k * part, part, 1, S##_c[0], part, s[2] + k);                     \
    }                                                                                              \
    rows_agree(#NAME " " #S, s, size, part);

#define COMPARE(F, S, ANY)                                                                         \
    static F S##_x[8][MOST], S##_p[MOST], S##_q[MOST], S##_r[MOST], S##_s[MOST];                   \
    static double S##_c[4][MOST];                                                                  \
    /* Kernels of rows with slopes of their own, which lie in [0, 1]. */                           \
    static void compare_own_##S(const struct gamma_table *a, const struct gamma_table *b,          \
                                size_t n, int special) {                                           \
        static F slope[2][MOST], rows[2][MOST], out[2][MOST], moments[2][2][MOST];                 \
        const double factors[5] = {0.9, 0.1, 0.8, 0.2, 0.5};                                       \
        double sum[2] = {0}, size = 0, ends[2][2];                                                 \
        for (size_t j = 0; j < n; j++) {                                                           \
            const double s = (double)(next() % 65) / 64, x = (double)S##_x[0][j];                  \
            slope[0][j] = slope[1][j] = (F)s;                                                      \
            rows[0][j] = rows[1][j] = S##_x[0][j];                                                 \
            moments[0][0][j] = moments[1][0][j] = S##_x[3][j];                                     \
            moments[0][1][j] = moments[1][1][j] = S##_x[4][j];                                     \
            size += fabs(x) * (fabs(S##_c[0][j]) + fabs(S##_c[1][j]) + fabs(S##_c[2][j]));         \
        }                                                                                          \
        for (int k = 0; k < 2; k++) {                                                              \
            const struct gamma_table *t = k ? b : a;                                               \
            t->relax_own_##S(rows[k], n, 1, slope[k], S##_c[0], S##_c[1], S##_x[2], S##_c[2], n,   \
                             sum + k);                                                             \
            t->own_lines_##S(S##_x[0], S##_x[1], slope[k], S##_c[0], S##_c[1], S##_x[2], S##_c[2], \
                             out[k], n);                                                           \
            t->ascend_##S(S##_x[0], S##_x[1], S##_x[2], S##_x[5], moments[k][0], moments[k][1],    \
                          slope[k], factors, n);                                                   \
            CANONICAL(rows[k], n)                                                                  \
            CANONICAL(out[k], n)                                                                   \
            CANONICAL(moments[k][0], n)                                                            \
            CANONICAL(moments[k][1], n)                                                            \
        }                                                                                          \
        same("relax_own " #S, rows[0], rows[1], n * sizeof(F), n);                                 \
        same("own_lines " #S, out[0], out[1], n * sizeof(F), n);                                   \
        same("ascend slope " #S, slope[0], slope[1], n * sizeof(F), n);                            \
        same("ascend mean " #S, moments[0][0], moments[1][0], n * sizeof(F), n);                   \
        same("ascend square " #S, moments[0][1], moments[1][1], n * sizeof(F), n);                 \
        for (int k = 0; k < 2; k++) { /* the same row past planes of two groups, and at x */       \
            const struct gamma_table *t = k ? b : a;                                               \
            memcpy(rows[k], S##_x[0], n * sizeof(F));                                              \
            t->plane_lines_##S(S##_x[0], S##_x[1], S##_x[2], S##_x[3], S##_x[4], (F)0.25,          \
                               slope[0], slope[1], S##_c[0], S##_c[1], S##_c[2], S##_c[3], out[k], \
                               2, n / 2);                                                          \
            t->planes_##S(rows[k], S##_x[2], S##_x[3], S##_x[4], (F)0.25, S##_c[0], S##_c[1], 2,   \
                          n / 2, ends[k]);                                                         \
            CANONICAL(rows[k], n)                                                                  \
            CANONICAL(out[k], n / 2 * 2)                                                           \
            CANONICAL(ends[k], 2)                                                                  \
        }                                                                                          \
        same("planes " #S, rows[0], rows[1], n * sizeof(F), n);                                    \
        same("plane_lines " #S, out[0], out[1], n / 2 * 2 * sizeof(F), n);                         \
        same("planes ends " #S, ends[0], ends[1], sizeof ends[0], n);                              \
        if (!special) close_to("relax_own sum " #S, sum[0], sum[1], size, n);                      \
    }                                                                                              \
    static void compare_##S(const struct gamma_table *a, const struct gamma_table *b, size_t n,    \
                            int special) {                                                         \
        double size[7] = {0}, wide = 0, sums = 0, s[3][7] = {0};                                   \
        const size_t part = n / 7, taken = 7 * part;                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            for (int k = 0; k < 8; k++) S##_x[k][i] = ANY(special);                                \
            for (int k = 0; k < 4; k++) S##_c[k][i] = any_double(0);                               \
            wide += fabs((double)S##_x[0][i] * (double)S##_x[1][i]);                               \
            sums += fabs((double)S##_x[0][i]);                                                     \
        }                                                                                          \
        for (size_t i = 0; i < taken; i++) {                                                       \
            const double constants = fabs(S##_c[0][i % part]) + fabs(S##_c[1][i % part]);          \
            size[i / part] += fabs((double)S##_x[0][i]) * constants;                               \
        }                                                                                          \
        for (int k = 0; k < 3; k++) {                                                              \
            memcpy(k == 0 ? S##_p : k == 1 ? S##_q : S##_r, S##_x[0], n * sizeof(F));              \
        }                                                                                          \
        a->relax_##S(S##_p, part, 7, S##_x[1], S##_x[2], S##_c[0], S##_c[1], part, s[0]);          \
        b->relax_##S(S##_q, part, 7, S##_x[1], S##_x[2], S##_c[0], S##_c[1], part, s[1]);          \
        for (size_t k = 0; k < 7; k++) {                                                           \
            b->relax_##S(S##_r + k * part, part, 1, S##_x[1], S##_x[2], S##_c[0], S##_c[1], part,  \
                         s[2] + k);                                                                \
        }                                                                                          \
        compare_own_##S(a, b, part, special);                                                      \
        CANONICAL(S##_p, n)                                                                        \
        CANONICAL(S##_q, n)                                                                        \
        CANONICAL(S##_r, n)                                                                        \
        same("relax " #S, S##_p, S##_q, n * sizeof(F), n);                                         \
        same("relax one by one " #S, S##_r, S##_q, n * sizeof(F), n);                              \
        if (!special) {                                                                            \
            rows_agree("relax sum " #S, s, size, part);                                            \
            ROWS(S, dot_rows)                                                                      \
            ROWS(S, abs_rows)                                                                      \
            close_to("dot " #S, a->dot_##S(S##_x[0], S##_x[1], n),                                 \
                     b->dot_##S(S##_x[0], S##_x[1], n), wide, n);                                  \
            close_to("sum " #S, a->sum_##S(S##_x[0], n), b->sum_##S(S##_x[0], n), sums, n);        \
            double z[2][7], w[2][7];                                                               \
            a->affine_##S(S##_x[0], S##_c[0], S##_c[1], z[0], w[0], 1, 7, part);                   \
            b->affine_##S(S##_x[0], S##_c[0], S##_c[1], z[1], w[1], 1, 7, part);                   \
            for (int k = 0; k < 7; k++) {                                                          \
                close_to("affine z " #S, z[0][k], z[1][k], 4.0 * (double)(part + 1), part);        \
                close_to("affine |W| " #S, w[0][k], w[1][k], 4.0 * (double)(part + 1), part);      \
            }                                                                                      \
        }                                                                                          \
        a->mul_##S(S##_x[0], S##_x[1], S##_x[2], S##_x[3], S##_p, S##_q, n);                       \
        b->mul_##S(S##_x[0], S##_x[1], S##_x[2], S##_x[3], S##_r, S##_s, n);                       \
        same("mul lower " #S, S##_p, S##_r, n * sizeof(F), n);                                     \
        same("mul upper " #S, S##_q, S##_s, n * sizeof(F), n);                                     \
        a->mul_add_##S(S##_x[0], S##_x[1], S##_x[2], S##_x[3], S##_x[4], S##_x[5], S##_p, S##_q,   \
                       n);                                                                         \
        b->mul_add_##S(S##_x[0], S##_x[1], S##_x[2], S##_x[3], S##_x[4], S##_x[5], S##_r, S##_s,   \
                       n);                                                                         \
        same("mul_add lower " #S, S##_p, S##_r, n * sizeof(F), n);                                 \
        same("mul_add upper " #S, S##_q, S##_s, n * sizeof(F), n);                                 \
        for (int up = 0; up < 2; up++) {                                                           \
            a->step_##S(S##_x[0], S##_p, n, up);                                                   \
            b->step_##S(S##_x[0], S##_q, n, up);                                                   \
            same("step " #S, S##_p, S##_q, n * sizeof(F), n);                                      \
        }                                                                                          \
        a->split_##S(S##_x[0], S##_p, S##_q, n);                                                   \
        b->split_##S(S##_x[0], S##_r, S##_s, n);                                                   \
        same("split positive " #S, S##_p, S##_r, n * sizeof(F), n);                                \
        same("split negative " #S, S##_q, S##_s, n * sizeof(F), n);                                \
    }                                                                                              \
    static void compare_fold_##S(const struct gamma_table *a, const struct gamma_table *b) {       \
        for (int64_t k = 1; k <= 3; k++) {                                                         \
            for (int64_t stride = 1; stride <= 3; stride++) {                                      \
                for (int64_t pad = 0; pad <= 2; pad++) {                                           \
                    const int64_t H = 7, W = 9, high = (H + 2 * pad - k) / stride + 1;             \
                    const int64_t wide = (W + 2 * pad - k) / stride + 1;                           \
                    const int64_t geometry[13] = {k, k,    stride, stride, pad, pad, 1,            \
                                                  1, high, wide,   H,      W,   3};                \
                    const size_t planes = 1, count = (size_t)(k * k * high * wide);                \
                    F *cols = malloc(3 * count * sizeof(F));                                       \
                    for (size_t i = 0; i < 3 * count; i++) cols[i] = ANY(0);                       \
                    memset(S##_p, 0, sizeof S##_p);                                                \
                    memset(S##_q, 0, sizeof S##_q);                                                \
                    a->fold_last_##S(cols, S##_p, planes, geometry);                               \
                    b->fold_last_##S(cols, S##_q, planes, geometry);                               \
                    same("fold_last " #S, S##_p, S##_q, sizeof S##_p, (size_t)k);                  \
                    free(cols);                                                                    \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

COMPARE(float, f32, any_float)
COMPARE(double, f64, any_double)

static void compare_half(const struct gamma_table *a, const struct gamma_table *b, size_t n) {
    static float x[MOST], y[2][MOST];
    static uint16_t half[2][MOST];
    for (size_t i = 0; i < n; i++) {
        x[i] = any_float(1) * (next() % 2 ? 1.0f : 0x1p-16f);
    }
    a->half_down(x, half[0], n);
    b->half_down(x, half[1], n);
    same("half_down", half[0], half[1], n * sizeof(uint16_t), n);
    a->half_up(x, half[0], n);
    b->half_up(x, half[1], n);
    same("half_up", half[0], half[1], n * sizeof(uint16_t), n);
    for (size_t i = 0; i < n; i++) {
        half[0][i] = (uint16_t)next();
    }
    a->from_half(half[0], y[0], n);
    b->from_half(half[0], y[1], n);
    same("from_half", y[0], y[1], n * sizeof(float), n);
}

static void compare_narrow(const struct gamma_table *a, const struct gamma_table *b, size_t n) {
    static double x[3][MOST], y[2][MOST];
    static float z[2][MOST];
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < 3; k++) {
            x[k][i] = any_double(1);
        }
    }
    for (int up = 0; up < 2; up++) {
        a->narrow(x[0], z[0], n, up);
        b->narrow(x[0], z[1], n, up);
        same("narrow", z[0], z[1], n * sizeof(float), n);
    }
    a->midpoint(x[0], x[1], y[0], n);
    b->midpoint(x[0], x[1], y[1], n);
    CANONICAL(y[0], n)
    CANONICAL(y[1], n)
    same("midpoint", y[0], y[1], n * sizeof(double), n);
    a->radius_about(x[0], x[1], x[2], y[0], n);
    b->radius_about(x[0], x[1], x[2], y[1], n);
    same("radius_about", y[0], y[1], n * sizeof(double), n);
}

static void compare_interval(const struct gamma_table *a, const struct gamma_table *b, size_t n) {
    static double x[4][MOST], y[2][5][MOST];
    const double factors[2] = {0x1p-40, 0x1p-45};
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < 4; k++) {
            x[k][i] = any_double(1);
        }
        y[0][0][i] = y[1][0][i] = any_double(1);
        y[0][1][i] = y[1][1][i] = fabs(any_double(1));
    }
    const double most[2] = {a->largest(x[0], n), b->largest(x[0], n)};
    if (!(most[0] == most[1]) && (most[0] == most[0] || most[1] == most[1])) {
        same("largest", most, most + 1, sizeof *most, n);
    }
    for (int biased = 0; biased < 2; biased++) {
        const double *bias = biased ? x[0] : NULL;
        size_t crossed[2];
        for (int k = 0; k < 2; k++) {
            crossed[k] = (k ? b : a)->finish(bias, x[1], 2.0, y[k][0], y[k][1], y[k][2], y[k][3],
                                             y[k][4], factors, n);
        }
        same("finish, count", crossed, crossed + 1, sizeof *crossed, n);
        for (int k = 0; k < 5; k++) {
            CANONICAL(y[0][k], n)
            CANONICAL(y[1][k], n)
            same("finish", y[0][k], y[1][k], n * sizeof(double), n);
        }
    }
    a->relu(x[2], x[3], y[0][0], y[0][1], y[0][2], n);
    b->relu(x[2], x[3], y[1][0], y[1][1], y[1][2], n);
    for (int k = 0; k < 3; k++) {
        same("relu", y[0][k], y[1][k], n * sizeof(double), n);
    }
    for (int kind = GAMMA_SIGMOID; kind < GAMMA_EXP; kind++) {
        if (kind != GAMMA_SIGMOID && kind != GAMMA_TANH && kind != GAMMA_SILU &&
            kind != GAMMA_SOFTPLUS) {
            continue; /* the C library's */
        }
        const struct gamma_curve curve = {.kind = kind,
                                          .stationary = -1.278,
                                          .image = {-0.3, 1e300},
                                          .value_error = 0x1p-43,
                                          .tiny = 0x1p-1000};
        a->image(&curve, x[2], x[3], y[0][0], y[0][1], n);
        b->image(&curve, x[2], x[3], y[1][0], y[1][1], n);
        same("image, floor", y[0][0], y[1][0], n * sizeof(double), n);
        same("image, ceiling", y[0][1], y[1][1], n * sizeof(double), n);
    }
}

static void compare_stored(const struct gamma_table *a, const struct gamma_table *b) {
    static const size_t layout[GAMMA_KINDS][2] = {{1, 4},     {1, 2},     {1, 2},    {32, 34},
                                                  {32, 18},   {32, 20},   {32, 22},  {32, 24},
                                                  {256, 144}, {256, 176}, {256, 210}};
    enum { ROWS = 19, COLUMNS = 512, BOXES = 6 };
    static uint8_t raw[ROWS * COLUMNS * 4];
    static float y[2][ROWS * COLUMNS], radius[BOXES * COLUMNS];
    static double centre[BOXES * COLUMNS], z[2][BOXES * ROWS], spread[2][BOXES * ROWS];
    static double power[2][BOXES * ROWS];
    for (int kind = 0; kind < GAMMA_KINDS; kind++) {
        const size_t blocks = COLUMNS / layout[kind][0], row = blocks * layout[kind][1];
        for (size_t i = 0; i < ROWS * row; i++) raw[i] = (uint8_t)next();
        const size_t all = ROWS * blocks;
        const uint32_t bad[2] = {a->decode[kind](raw, all, y[0]), b->decode[kind](raw, all, y[1])};
        CANONICAL(y[0], ROWS * COLUMNS)
        CANONICAL(y[1], ROWS * COLUMNS)
        same("decode", y[0], y[1], sizeof y[0], (size_t)kind);
        if ((bad[0] != 0) != (bad[1] != 0)) same("decode, finite", bad, bad + 1, sizeof *bad, 0);
        for (size_t i = 0; i < sizeof raw / 2; i++) { /* small halves: every sum is finite */
            const uint16_t half = (uint16_t)(next() & 0xbbff);
            memcpy(raw + 2 * i, &half, sizeof half);
        }
        for (size_t i = 0; i < BOXES * COLUMNS; i++) {
            centre[i] = any_double(0);
            radius[i] = fabsf(any_float(0));
        }
        if (a->decode[kind](raw, all, y[0]) != 0) continue;
        for (int k = 0; k < 2; k++) {
            const struct gamma_table *t = k ? b : a;
            const struct gamma_stored x = {
                centre, radius, radius, {z[k], spread[k], power[k]}, {BOXES, BOXES, BOXES - 1}};
            t->stored_affine(t->decode[kind], layout[kind], raw, row, &x, ROWS, COLUMNS);
        }
        for (size_t i = 0; i < BOXES * ROWS; i++) {
            const double size = spread[0][i] + 1e-300;
            double wide = 0;
            for (size_t j = 0; j < COLUMNS; j++) {
                wide += fabs((double)y[0][i % ROWS * COLUMNS + j] * centre[i / ROWS * COLUMNS + j]);
            }
            close_to("stored_affine centre", z[0][i], z[1][i], wide, COLUMNS);
            close_to("stored_affine radius", spread[0][i], spread[1][i], size * 0x1p29, 256);
            const double square = power[0][i] + 1e-300;
            close_to("stored_affine square", power[0][i], power[1][i], square * 0x1p29, 258);
        }
    }
}

int main(void) {
    const struct gamma_table *scalar = &gamma_scalar, *other = &OTHER;
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
            compare_f32(scalar, other, LENGTHS[i], round % 2);
            compare_f64(scalar, other, LENGTHS[i], round % 2);
            compare_half(scalar, other, LENGTHS[i]);
            compare_narrow(scalar, other, LENGTHS[i]);
            compare_interval(scalar, other, LENGTHS[i]);
        }
    }
    compare_fold_f32(scalar, other);
    compare_fold_f64(scalar, other);
    compare_convolve(scalar, other);
    compare_pass(scalar, other);
    for (size_t frames = 1; frames <= FRAMES; frames++) {
        for (int k = 0; k < 4; k++) {
            compare_adjoint_f32(scalar, other, k % 2 ? 3 : 8, frames, k / 2);
            compare_adjoint_f64(scalar, other, k % 2 ? 3 : 8, frames, k / 2);
        }
    }
    for (int round = 0; round < 40; round++) {
        compare_stored(scalar, other);
    }
    printf("%s against %s: %d differences\n", other->name, scalar->name, failures);
    return failures != 0;
}
