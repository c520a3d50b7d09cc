/* Kernels for images: convolutions, a pass through a network of them, and their adjoints. */
#ifndef COMPARE_IMAGES_H
#define COMPARE_IMAGES_H

#include "compare.h"
#include "table.h"

static void compare_convolve(const struct gamma_table *a, const struct gamma_table *b) {
    enum { SIDE = 5, C = 3, OUT = 11, DEPTH = 9 * C, COPY = 7 * 7 * C * 2 };
    const struct gamma_frame frame = {.kh = 3,
                                      .kw = 3,
                                      .sh = 1,
                                      .sw = 1,
                                      .dh = 1,
                                      .dw = 1,
                                      .top = 1,
                                      .left = 1,
                                      .h = SIDE,
                                      .w = SIDE,
                                      .H = SIDE,
                                      .W = SIDE,
                                      .C = C,
                                      .out = OUT,
                                      .groups = 1,
                                      .rows = 7,
                                      .span = 7};
    static double centre[C * SIDE * SIDE], radius[C * SIDE * SIDE], weight[2 * DEPTH * GAMMA_PANEL];
    static int64_t offset[DEPTH];
    static double copy[COPY], z[2][OUT * SIDE * SIDE], spread[2][OUT * SIDE * SIDE];
    for (size_t i = 0; i < C * SIDE * SIDE; i++) {
        centre[i] = any_double(0);
        radius[i] = fabs(any_double(0));
    }
    for (size_t i = 0; i < 2 * DEPTH * GAMMA_PANEL; i++) {
        weight[i] = any_double(0);
    }
    a->convolve(centre, radius, weight, copy, offset, z[0], spread[0], &frame);
    b->convolve(centre, radius, weight, copy, offset, z[1], spread[1], &frame);
    for (size_t i = 0; i < OUT * SIDE * SIDE; i++) {
        close_to("convolve z", z[0][i], z[1][i], 4.0 * DEPTH, DEPTH);
        close_to("convolve |W|", spread[0][i], spread[1][i], 4.0 * DEPTH, DEPTH);
    }
}

/* Convolution, ReLU and a sum of that with itself: six boxes, four at a time, then two. */
static void compare_pass(const struct gamma_table *a, const struct gamma_table *b) {
    enum { SIDE = 5, C = 3, OUT = 11, DEPTH = 9 * C, PANELS = 2, BOXES = 6 };
    enum { INPUT = C * SIDE * SIDE, RESULT = OUT * SIDE * SIDE, ROOM = 1 << 14 };
    static double weight[PANELS * DEPTH * GAMMA_PANEL], sums[PANELS * SIDE * SIDE * GAMMA_PANEL];
    static double lower[BOXES * INPUT], upper[BOXES * INPUT], memory[ROOM];
    static double low[2][BOXES * RESULT], high[2][BOXES * RESULT];
    const size_t most[3] = {BOXES, 4, 0};
    struct gamma_node nodes[3] = {
        {.C = C, .H = SIDE, .W = SIDE, .top = 1, .left = 1, .rows = 7, .span = 7, .along = 1},
        {.C = OUT, .H = SIDE, .W = SIDE, .rows = SIDE, .span = SIDE, .reads = {0, -1}, .kh = 3},
        {.C = OUT, .H = SIDE, .W = SIDE, .rows = SIDE, .span = SIDE, .reads = {1, 1}}};
    nodes[0].across = SIDE * SIDE;
    nodes[0].readers[0] = 1;
    nodes[0].readers[1] = nodes[1].readers[0] = 2;
    nodes[1].readers[1] = 3;
    nodes[1].kw = 3;
    nodes[1].sh = nodes[1].sw = nodes[1].dh = nodes[1].dw = nodes[1].groups = 1;
    nodes[1].pad_top = nodes[1].pad_left = nodes[1].hinge = 1;
    nodes[1].weight = weight;
    nodes[1].row_sum = nodes[2].row_sum = sums;
    nodes[2].sign[0] = nodes[2].sign[1] = 1;
    nodes[1].factors[0] = nodes[2].factors[0] = 0x1p-45;
    static float pairs[2 * PANELS * DEPTH * GAMMA_PANEL], shift[2 * PANELS * GAMMA_PANEL];
    static float charge[2 * SIDE * OUT];
    for (size_t i = 0; i < 2 * SIDE * OUT; i++) {
        charge[i] = 0x1p-19f;
    }
    for (size_t i = 0; i < 2 * PANELS * GAMMA_PANEL; i++) {
        shift[i] = (float)fabs(any_double(0));
    }
    for (size_t i = 0; i < BOXES * INPUT; i++) {
        lower[i] = any_double(0);
        upper[i] = lower[i] + fabs(any_double(0));
    }
    for (size_t i = 0; i < PANELS * DEPTH * GAMMA_PANEL; i++) {
        weight[i] = any_double(0);
    }
    for (size_t i = 0; i < PANELS * SIDE * SIDE * GAMMA_PANEL; i++) {
        sums[i] = 4.0 * DEPTH;
    }
    for (int single = 0; single < 2; single++) {
        for (int k = 0; k < 2; k++) {
            (k ? b : a)->pass(nodes, 3, lower, upper, memory, low[k], high[k], BOXES, most);
        }
        const double size = 64.0 * DEPTH * (single ? 0x1p29 : 1.0);
        for (size_t i = 0; i < BOXES * RESULT; i++) {
            close_to(single ? "single lower" : "pass lower", low[0][i], low[1][i], size, DEPTH);
            close_to(single ? "single upper" : "pass upper", high[0][i], high[1][i], size, DEPTH);
        }
        for (size_t i = 0; i < PANELS * DEPTH * GAMMA_PANEL; i++) {
            pairs[2 * i] = (float)weight[i];
            pairs[2 * i + 1] = fabsf(pairs[2 * i]);
        }
        nodes[1].pairs = pairs;
        nodes[1].shift = shift;
        nodes[0].charge = nodes[1].charge = charge;
        nodes[0].rate = nodes[1].rate = nodes[2].rate = 0x1p-30; /* no box shows it */
    }
}

/* Adjoints of a convolution of 3 by 3 places and stride 2 on whole numbers, which every order of a sum
 * gives alike: by cells of 4 pixels of some channels, and by products. */
enum {
    LINES = 9,
    FRAMES = 27,
    DEEP = 35,
    CELLS = 5,
    MUCH = 16 * (CELLS * CELLS * (DEEP + 64) + 48)
};

#define ADJOINT(F, S)                                                                              \
    static void compare_adjoint_##S(const struct gamma_table *a, const struct gamma_table *b,      \
                                    int C, size_t frames, int add) {                               \
        static F rows[FRAMES * CELLS * CELLS * DEEP], weight[4 * DEEP * 64], scratch[MUCH];        \
        static F images[2][FRAMES * LINES * LINES * 8];                                            \
        static int32_t lists[CELLS * CELLS * (DEEP + 2) + 1 + 2 * 4 * 21];                         \
        const int panel = 64 / sizeof(F), segment = C == 3 ? 8 : 16;                               \
        const int columns = (2 * segment + panel - 1) / panel * panel;                             \
        struct gamma_window g = {                                                                  \
            2,    2,    1,       1,  1, 1, 0, 0, CELLS, CELLS, LINES, LINES,   C, C,               \
            DEEP, DEEP, columns, 32, 0, 2, 2, 1, 1,     CELLS, CELLS, segment, 3, 3};              \
        int64_t near[2 * CELLS * 5] = {0};                                                         \
        for (int64_t k = 0; k < 2 * CELLS; k++) {                                                  \
            int64_t *const at = near + 5 * k;                                                      \
            for (int64_t place = 0; place < 2 && place <= k % CELLS; place++) {                    \
                at[1 + 2 * at[0]] = place;                                                         \
                at[2 + 2 * at[0]++] = k % CELLS - place;                                           \
            }                                                                                      \
        }                                                                                          \
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {                                  \
            rows[i] = i % DEEP % 3 ? (F)(int)(next() % 17) - 8 : 0;                                \
        }                                                                                          \
        for (int k = 0; k < 4 * DEEP * columns; k++) {                                             \
            const int column = k / (4 * DEEP * panel) * panel + k % panel;                         \
            const int place = k / (DEEP * panel) % 4, entry = column % segment;                    \
            const int y = place / 2 * 2 + column / segment, x = place % 2 * 2 + entry / C;         \
            const int inside = y < 3 && x < 3 && entry < 2 * C && column < 2 * segment;            \
            weight[k] = inside ? (F)(int)(next() % 17) - 8 : 0;                                    \
        }                                                                                          \
        for (size_t i = 0; i < 2; i++) {                                                           \
            memset(images[i], 0, sizeof images[i]);                                                \
            (i ? b : a)->gather_##S(rows, weight, images[i], near, lists, scratch, frames, &g, 0,  \
                                    add, NULL);                                                    \
        }                                                                                          \
        same("gather " #S, images[0], images[1], sizeof images[0], frames);                        \
        g.kh = g.kw = 3;                                                                           \
        g.sh = g.sw = 2;                                                                           \
        g.top = g.left = 1;                                                                        \
        g.columns = 80;                                                                            \
        g.room = 8;                                                                                \
        for (size_t i = 0; i < 2; i++) {                                                           \
            memset(images[i], 0, sizeof images[i]);                                                \
            (i ? b : a)->spread_##S(rows, weight, images[i], scratch, frames, &g);                 \
        }                                                                                          \
        same("spread " #S, images[0], images[1], sizeof images[0], frames);                        \
    }

ADJOINT(float, f32)
ADJOINT(double, f64)

#endif
