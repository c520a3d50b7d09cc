/* Calls every kernel of api.h once, in float and in double; run under
 * callgrind, which counts the instructions of every entry point with what it
 * calls. Prints the instruction set. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api.h"

enum { ROWS = 64, WIDTH = 256, COUNT = ROWS * WIDTH, LAYERS = 3, NEURONS = 64 };

static void *make(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == NULL) {
        exit(99);
    }
    return memory;
}

static const int64_t BOX[ROWS] = {0};
static const double FACTORS[3] = {0x1p-40, 0x1p-24, 0.5};
static const double ADAM[5] = {0.9, 0.1, 0.9, 0.1, 0.5};
static const double CHARGES[7] = {0x1p-18, 0.0, 1.001, 0x1p-140, 0x1p-40, 0x1p-24, 0x1p-149};
static const double MADE_UP[5] = {0x1p-40, 0.0, 1.001, 0x1p-140, 0.9};

#define KERNELS(F, S)                                                                              \
    static F *numbers_##S(size_t count, int shift) {                                               \
        F *x = make(count * sizeof *x);                                                            \
        for (size_t i = 0; i < count; i++) {                                                       \
            x[i] = (F)((int)(i * 37 % 97) - 48 + shift) / (F)64;                                   \
        }                                                                                          \
        return x;                                                                                  \
    }                                                                                              \
                                                                                                   \
    static void rows_##S(const double *low, const double *high, double *d, double *out) {          \
        F *A = numbers_##S(COUNT, 0), *slope = numbers_##S(WIDTH, 64);                             \
        gamma_dot_rows_##S(A, d, BOX, low, 1, ROWS, WIDTH);                                        \
        gamma_abs_dot_rows_##S(A, d, BOX, high, 1, ROWS, WIDTH);                                   \
        gamma_relax_rows_##S(A, d, BOX, slope, slope, low, high, 1, ROWS, WIDTH);                  \
        gamma_interval_affine_##S(A, low, high, out, out + ROWS, 1, ROWS, WIDTH);                  \
        const int64_t shape[5] = {4, 4, 4, 4, 16}, where[3] = {0, 1, 0};                           \
        gamma_abs_dot_windows_##S(A, d, BOX, where, high, shape, 1, 1, ROWS);                      \
        gamma_relax_windows_##S(A, d, BOX, where, slope, slope, low, high, shape, 1, 1, ROWS);     \
        struct gamma_step steps[2] = {{.n = WIDTH,                                                 \
                                       .lower_slope = slope,                                       \
                                       .upper_slope = slope,                                       \
                                       .lower_const = low,                                         \
                                       .upper_const = high,                                        \
                                       .pay = high},                                               \
                                      {.n = WIDTH, .pay = high}};                                  \
        F *weight = numbers_##S(WIDTH * WIDTH, 0), *scratch = make(2 * 8 * WIDTH * sizeof(F));     \
        steps[1].weight = weight;                                                                  \
        steps[1].width = steps[1].columns = WIDTH;                                                 \
        gamma_chain_##S(steps, 1, A, d, NULL, BOX, scratch, 8, WIDTH, 1, ROWS);                    \
        gamma_product_##S(A, weight, scratch, 8, WIDTH, WIDTH);                                    \
        gamma_turned_##S(weight, numbers_##S(WIDTH * WIDTH, 0), 1, WIDTH, WIDTH);                  \
        gamma_turned_##S(weight, numbers_##S(WIDTH * WIDTH, 0), 1, WIDTH, WIDTH);                  \
        F *own = numbers_##S(COUNT, 64), *first = numbers_##S(COUNT, 0);                           \
        F *second = numbers_##S(COUNT, 64), *lines = make(COUNT * sizeof(F));                      \
        gamma_own_lines_##S(A, first, BOX, own, low, high, slope, high, lines, 1, ROWS, WIDTH);    \
        gamma_ascend_##S(A, lines, BOX, slope, slope, first, second, own, ADAM, 1, ROWS, WIDTH);   \
        const struct gamma_planes planes = {4,     WIDTH / 4, 0.25, 0x1p-50, slope, slope, slope,  \
                                            slope, slope,     low,  high,    low,   high};         \
        gamma_plane_lines_##S(&planes, A, first, BOX, lines, 1, ROWS);                             \
        gamma_pass_planes_##S(&planes, A, d, BOX, 1, ROWS);                                        \
        gamma_relax_own_rows_##S(A, d, BOX, own, low, high, slope, high, 1, ROWS, WIDTH);          \
        const struct gamma_stage stages[4] = {                                                     \
            {.n = WIDTH, .back = WIDTH, .pay = high, .middle = slope},                             \
            {.n = WIDTH,                                                                           \
             .back = WIDTH,                                                                        \
             .slot = 1,                                                                            \
             .weight = weight,                                                                     \
             .turned = weight,                                                                     \
             .centre = low,                                                                        \
             .rounded = high},                                                                     \
            {.n = WIDTH,                                                                           \
             .back = WIDTH,                                                                        \
             .from = 1,                                                                            \
             .also = 1,                                                                            \
             .count = 1,                                                                           \
             .free = slope,                                                                        \
             .fixed = slope,                                                                       \
             .upper_slope = slope,                                                                 \
             .middle = slope,                                                                      \
             .low = slope,                                                                         \
             .high = slope,                                                                        \
             .base = low,                                                                          \
             .gain = high,                                                                         \
             .upper_const = high,                                                                  \
             .loss = low,                                                                          \
             .sides = high,                                                                        \
             .places = BOX},                                                                       \
            {.n = WIDTH,                                                                           \
             .back = WIDTH,                                                                        \
             .from = 2,                                                                            \
             .also = 2,                                                                            \
             .slot = 1,                                                                            \
             .weight = weight,                                                                     \
             .turned = weight,                                                                     \
             .pay = high}};                                                                        \
        const int64_t relu[ROWS] = {0}, stage[1] = {1};                                            \
        int8_t sign[ROWS];                                                                         \
        double factors[3 * 5], *beta = make(ROWS * sizeof *beta);                                  \
        for (size_t k = 0; k < ROWS; k++) {                                                        \
            sign[k] = 1;                                                                           \
            beta[k] = 0.125;                                                                       \
            out[k] = -1e30;                                                                        \
        }                                                                                          \
        for (size_t k = 0; k < 15; k++) {                                                          \
            factors[k] = ADAM[k % 5];                                                              \
        }                                                                                          \
        const struct gamma_cases cases = {.rows = ROWS,                                            \
                                          .questions = ROWS,                                       \
                                          .owners = ROWS,                                          \
                                          .boxes = 1,                                              \
                                          .relus = 1,                                              \
                                          .depth = 1,                                              \
                                          .steps = 3,                                              \
                                          .question = BOX,                                         \
                                          .relu = relu,                                            \
                                          .stage = stage,                                          \
                                          .place = BOX,                                            \
                                          .sign = sign,                                            \
                                          .asked = A,                                              \
                                          .constant = low,                                         \
                                          .factors = factors,                                      \
                                          .slope = own,                                            \
                                          .cost = first,                                           \
                                          .beta = beta,                                            \
                                          .best = out};                                            \
        gamma_ascent_##S(stages, 3, &cases, make(gamma_ascent_room_##S(stages, 3, 1, 16)), 16, 1); \
    }                                                                                              \
                                                                                                   \
    static double elementwise_##S(void) {                                                          \
        const F *x = numbers_##S(COUNT, 0), *y = numbers_##S(COUNT, 64);                           \
        F *z = numbers_##S(COUNT, 0), *w = numbers_##S(COUNT, 0);                                  \
        gamma_interval_mul_##S(x, y, x, y, z, w, COUNT);                                           \
        gamma_safe_mul_add_##S(x, y, x, y, x, y, z, w, COUNT);                                     \
        gamma_pos_neg_split_##S(x, z, w, COUNT);                                                   \
        gamma_step_##S(x, z, COUNT, 1);                                                            \
        return gamma_dot_##S(x, y, COUNT) + gamma_sum_##S(x, COUNT);                               \
    }                                                                                              \
                                                                                                   \
    static void images_##S(const double *at) {                                                     \
        const int64_t geometry[13] = {3, 3, 1, 1, 1, 1, 1, 1, 16, 16, 16, 16, 8};                  \
        const struct gamma_window window = {3,  3,  1, 1, 1, 1, 1,  1, 16, 16,                     \
                                            16, 16, 8, 8, 8, 8, 80, 8, 32};                        \
        const F *cols = numbers_##S(16 * 16 * 9 * 8, 0), *rows = numbers_##S(16 * 16 * 8, 0);      \
        const F *weight = numbers_##S(8 * 80, 0);                                                  \
        F *image = numbers_##S(16 * 16 * 8, 0), *scratch = make(32 * 80 * sizeof(F));              \
        gamma_fold_last_##S(cols, image, 1, geometry);                                             \
        gamma_spread_##S(rows, weight, image, scratch, 1, &window);                                \
        int64_t near[2 * 16 * 7] = {0};                                                            \
        for (int64_t line = 0; line < 16; line++) {                                                \
            for (int64_t axis = 0; axis < 2; axis++) {                                             \
                int64_t *at = near + (axis * 16 + line) * 7;                                       \
                for (int64_t place = 0; place < 3; place++) {                                      \
                    const int64_t from = line + 1 - place;                                         \
                    if (from >= 0 && from < 16) {                                                  \
                        at[1 + 2 * at[0]] = place;                                                 \
                        at[2 + 2 * at[0]++] = from;                                                \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        struct gamma_window taps = window;                                                         \
        taps.columns = 64 / sizeof(F);                                                             \
        taps.by = taps.bx = 1;                                                                     \
        taps.lines = taps.wide = 3;                                                                \
        taps.ny = taps.nx = 16;                                                                    \
        taps.segment = 8;                                                                          \
        const size_t broad = GAMMA_BROAD * (16 * 16 * 8 + 16 * 64 / sizeof(F) + 24);               \
        const F *panels = numbers_##S(9 * 8 * 16, 0), *slope = numbers_##S(16 * 16 * 8, 64);       \
        int32_t *lists = make((16 * 16 * 9 + 93) * sizeof(int32_t));                               \
        F *memory = make(broad * sizeof(F));                                                       \
        gamma_gather_##S(rows, panels, image, near, lists, memory, 1, &taps, 1, 0);                \
                                                                                                   \
        const struct gamma_met met = {slope, slope, at, at, at, at, NULL, NULL, NULL};             \
        const struct gamma_move moves[3] = {                                                       \
            {.kind = GAMMA_PAY, .framed = 1, .shape = {16, 16, 16, 16, 8}},                        \
            {.kind = GAMMA_RELAX, .framed = 1, .shape = {16, 16, 16, 16, 8}},                      \
            {.kind = GAMMA_GATHER,                                                                 \
             .to = 1,                                                                              \
             .framed = 1,                                                                          \
             .shape = {16, 16, 16, 16, 8},                                                         \
             .weight = panels,                                                                     \
             .near = near,                                                                         \
             .window = taps}};                                                                     \
        const int64_t rooms[2] = {16 * 16 * 8, 16 * 16 * 8}, first[3] = {0};                       \
        const struct gamma_walk walk = {                                                           \
            moves, &met, rooms, 3, 2, 2, 4, broad, 16 * 16 * 9 + 93, 0};                           \
        F *blocks[2] = {numbers_##S(8 * 16 * 16 * 8, 0), make(8 * 16 * 16 * 8 * sizeof(F))};       \
        double d[8] = {0}, before[4];                                                              \
        int64_t spots[9];                                                                          \
        gamma_walk_##S(&walk, blocks, d, NULL, BOX, BOX, first, spots, memory, lists, before, 1,   \
                       1, 8, 1);                                                                   \
        const struct gamma_frame frame = {                                                         \
            3, 3, 1, 1, 1, 1, 1, 1, 16, 16, 16, 16, 8, 8, 1, 18, 18 + 64 / sizeof(F)};             \
        const F *planes = numbers_##S(8 * 16 * 16, 0), *kernel = numbers_##S(8 * 72, 0);           \
        F *copy = make(8 * 18 * (18 + 64 / sizeof(F)) * sizeof(F));                                \
        F *result = make(8 * 16 * 16 * sizeof(F));                                                 \
        int64_t offset[72];                                                                        \
        gamma_correlate_##S(planes, kernel, result, copy, offset, 1, &frame);                      \
    }                                                                                              \
                                                                                                   \
    static void meets_##S(const double *at) {                                                      \
        struct gamma_met met = {0};                                                                \
        double *memory = make(8 * 16 * 16 * 12 * sizeof *memory), d[16];                           \
        gamma_meet_relu_##S(&met, at, at, at, at, at, at, at, memory, CHARGES, 1, 8, 256, 1);      \
        const struct gamma_start start = {.size = 8 * 256,                                         \
                                          .pixels = 256,                                           \
                                          .width = 16,                                             \
                                          .out = 8,                                                \
                                          .own = 8,                                                \
                                          .kh = 3,                                                 \
                                          .kw = 3,                                                 \
                                          .sh = 1,                                                 \
                                          .sw = 1,                                                 \
                                          .dh = 1,                                                 \
                                          .dw = 1,                                                 \
                                          .top = 1,                                                \
                                          .left = 1,                                               \
                                          .h = 3,                                                  \
                                          .w = 3,                                                  \
                                          .C = 8,                                                  \
                                          .weight = numbers_##S(8 * 72, 0)};                       \
        int64_t box[16], place[16], where[3 * 8];                                                  \
        gamma_start_##S(&start, BOX, BOX, at, at, at, at, CHARGES, make(16 * 72 * sizeof(F)), d,   \
                        NULL, box, place, where, 0, 1, 8);                                         \
        const size_t rooms[7] = {0};                                                               \
        const struct gamma_image images[2] = {{.kind = GAMMA_IMAGE_INPUT,                          \
                                               .C = 8,                                             \
                                               .P = 256,                                           \
                                               .met = 1,                                           \
                                               .join = {0x1p-18, 1.0},                             \
                                               .tables = make(1 << 16),                            \
                                               .values = memory},                                  \
                                              {.kind = GAMMA_IMAGE_DENSE,                          \
                                               .C = 16,                                            \
                                               .P = 1,                                             \
                                               .values = make(1 << 10),                            \
                                               .mask = make(16)}};                                 \
        int64_t rows = 0, crossed = 0;                                                             \
        struct gamma_pause pause = {0};                                                            \
        double seconds = 0.0, open[2] = {1.0, 0.5};                                                \
        gamma_images_##S(images, &met, make(1 << 16), rooms, &rows, &seconds, open, &crossed,      \
                         &pause, 1, 0, 1, 0, 1);                                                   \
        gamma_images_ask_##S(images, &met, make(1 << 16), rooms, &crossed, &pause, 1, 1, 1, 1);    \
    }                                                                                              \
                                                                                                   \
    static void walks_##S(const double *lower, const double *upper, const double *centre,          \
                          double *out) {                                                           \
        const F *weight = numbers_##S(NEURONS * NEURONS, 0);                                       \
        F *slopes = make(LAYERS * 2 * NEURONS * sizeof *slopes);                                   \
        double *radius = make(NEURONS * 8), *bounds = make(LAYERS * 8 * NEURONS * 8);              \
        double *row_sum = make(NEURONS * 8), *losses = make(LAYERS * 8);                           \
        double *constants = make(LAYERS * 2 * NEURONS * 8), seconds[LAYERS] = {0};                 \
        int64_t bounded[LAYERS] = {0};                                                             \
        struct gamma_layer layers[LAYERS];                                                         \
        for (int i = 0; i < NEURONS; i++) {                                                        \
            row_sum[i] = NEURONS;                                                                  \
        }                                                                                          \
        for (int l = 0; l < LAYERS; l++) {                                                         \
            layers[l] = (struct gamma_layer){.m = NEURONS,                                         \
                                             .n = NEURONS,                                         \
                                             .columns = NEURONS,                                   \
                                             .wide = sizeof(F) == 8,                               \
                                             .stored = weight,                                     \
                                             .rows = weight,                                       \
                                             .row_sum = row_sum,                                   \
                                             .interval = 0x1p-40,                                  \
                                             .product = 0x1p-18,                                   \
                                             .inflate = 1.001,                                     \
                                             .dot = 0x1p-40,                                       \
                                             .underflow = 0x1p-140};                               \
        }                                                                                          \
        gamma_dense_interval_##S(weight, NULL, row_sum, lower, upper, centre, radius, out,         \
                                 FACTORS, 1, NEURONS, NEURONS);                                    \
        gamma_dense_boxes_##S(lower, weight, NULL, row_sum, lower, upper, centre,                  \
                              make(gamma_boxes_room(NEURONS, NEURONS) * 8), out, MADE_UP, 32,      \
                              NEURONS, NEURONS);                                                   \
        gamma_relu_tables_##S(lower, upper, centre, upper, NULL, slopes, constants, losses,        \
                              FACTORS, 1, NEURONS);                                                \
        gamma_hinge_##S(lower, upper, centre, upper, NULL, NULL, slopes, constants, losses,        \
                        FACTORS, 1, NEURONS, NEURONS);                                             \
        gamma_line_tables_##S(&(struct gamma_two_lines){lower, lower, upper, upper}, lower, upper, \
                              centre, upper, NULL, slopes, constants, losses, FACTORS, 1,          \
                              NEURONS);                                                            \
        const double walk[3] = {1.001, 0x1p-24, 0.5};                                              \
        gamma_dense_walk_##S(layers, LAYERS, lower, upper, centre, NULL, bounds, slopes,           \
                             constants, losses, NULL, bounded, seconds,                            \
                             make(gamma_dense_room_##S(layers, LAYERS, 0, 1, 1)), walk, NULL, 1,   \
                             0, 1, GAMMA_REFINE | GAMMA_OUTPUT | GAMMA_TABLES, 1);                 \
    }

KERNELS(float, f32)
KERNELS(double, f64)

/* 32 sums of 4 of 32 inputs that ReLUs read, then 16 sums of 4 of these, of 16 boxes. */
static void abreast(double *out) {
    enum { FIRST = 32, LAST = 16, SUMS = FIRST + LAST, TERMS = 4 };
    int64_t *starts = make((SUMS + 1) * sizeof *starts);
    int32_t *places = make(SUMS * TERMS * sizeof *places), *to = make(SUMS * sizeof *to);
    uint8_t *kind = make(SUMS), *rows = make(SUMS);
    for (int k = 0; k < SUMS; k++) {
        /* The first ones come together. */
        const int alike = k < FIRST ? k % GAMMA_ABREAST_ROWS : 0;
        rows[k] = (uint8_t)(k < FIRST ? GAMMA_ABREAST_ROWS - alike : 1);
        starts[k + 1] = TERMS * (k + 1);
        to[k] = k < FIRST ? FIRST + k : k - FIRST;
        kind[k] = k < FIRST ? GAMMA_ABREAST_RELU : GAMMA_ABREAST_LAST;
        for (int q = 0; q < TERMS; q++) {
            places[TERMS * k + q] = (5 * (k - alike) + 7 * q) % FIRST + (k < FIRST ? 0 : FIRST);
        }
    }
    const struct gamma_abreast all = {.count = SUMS,
                                      .n = FIRST,
                                      .m = LAST,
                                      .slots = 2 * FIRST,
                                      .starts = starts,
                                      .places = places,
                                      .to = to,
                                      .kind = kind,
                                      .rows = rows,
                                      .weight = numbers_f64(SUMS * TERMS, 0),
                                      .charge = numbers_f64(2 * SUMS, 64),
                                      .grow = 1.0,
                                      .share = 0x1p-40};
    gamma_abreast_ends(&all, numbers_f64(FIRST * GAMMA_ABREAST, 0),
                       numbers_f64(FIRST * GAMMA_ABREAST, 64),
                       make(gamma_abreast_room(&all, 1) * sizeof(double)), out,
                       out + LAST * GAMMA_ABREAST, 0, GAMMA_ABREAST, 1);
}

/* Normalisations of 4 vectors, and sets behind them. */
static void normals(const double *low, const double *high, const double *centre, double *out) {
    enum { VECTORS = 4, SYMBOLS = 16, ENTRIES = 32, ALL = VECTORS * ENTRIES };
    static const double gammas[9] = {0x1p-48, 0x1p-48, 0x1p-48, 0x1p-47, 0x1p-47,
                                     0x1p-46, 0x1p-43, 0x1p-18, 0x1p-45};
    static const double sums[2] = {1.001, 0x1p-500};
    const double *const columns[1] = {low};
    const size_t blocks[1] = {SYMBOLS}, lengths[1] = {2};
    const struct gamma_blocks set = {1,      SYMBOLS, VECTORS, ENTRIES, columns,
                                     blocks, lengths, high,    0x1p-50};
    const struct gamma_normal x = {VECTORS, ENTRIES, 1, 0, 1e-3, low, high, centre, centre, gammas};
    double *const work = numbers_f64(12 * ENTRIES, 0);
    const float *const weights = numbers_f32(2 * ALL, 0);
    gamma_swing(&set, centre, sums, sums + 1, out, work);
    gamma_normal_image(&x, out, out + ALL, work, 1);
    gamma_groups(&x, weights, NULL, NULL, make(5 * (ALL + VECTORS) * sizeof(double)), work, 1);
    gamma_quotients(&x, weights, NULL, low, high, centre,
                    make((6 * ALL + 4 * VECTORS) * sizeof(double)), work, 1);
    const struct gamma_normal_set job = {&x, &set, high, sums,
                                         make((SYMBOLS + ENTRIES + 3) * ALL * sizeof(double))};
    gamma_normal_sets(&job, make(gamma_normal_set_room(&set) * sizeof(double)), 1);
    const struct gamma_matrix layer = {ENTRIES, ENTRIES, low,  high, centre, low,
                                       high,    low,     high, 1e-9, sums,   sums + 1};
    double *const columns_out = make((SYMBOLS + 5) * ALL * sizeof(double));
    const struct gamma_blocks none = {0};
    gamma_layer_set(&layer, &set, &none, columns_out,
                    make(gamma_layer_room(&layer, &set, 1) * sizeof(double)), 1);
    const struct gamma_blocks flat = {1, SYMBOLS, 1, ALL, columns, blocks, lengths, high, 0x1p-50};
    const struct gamma_strips lines = {low,  high, low,  high, centre, low,
                                       high, low,  high, low,  sums,   sums + 1};
    gamma_strips_set(&lines, &flat, columns_out, make(3 * ALL * sizeof(double)));
    gamma_balls(&set, 0x1p-40, make(ENTRIES * ALL * sizeof(double)),
                make(gamma_balls_room(&set) * sizeof(double)), 1);
}

int main(void) {
    const double *low = numbers_f64(COUNT, 0), *high = numbers_f64(COUNT, 64);
    const double *centre = numbers_f64(COUNT, 32);
    double *d = numbers_f64(ROWS, 0), *out = numbers_f64(COUNT, 0);
    float *x = numbers_f32(COUNT, 0);
    uint16_t *half = make(COUNT * sizeof *half);
    if (gamma_select(gamma_available(0)) != 0) {
        return 98;
    }
    printf("%s\n", gamma_available(0));

    rows_f32(low, high, d, out);
    rows_f64(low, high, d, out);
    images_f32(high);
    images_f64(high);
    meets_f32(high);
    meets_f64(high);
    struct gamma_met met = {0};
    gamma_meet_charge(&met, high, high, high, out, CHARGES, 1, 8, 256);
    gamma_meet_reach(&met, low, high, centre, out, CHARGES, 1, 8, 256, 1);
    walks_f32(low, high, centre, out);
    walks_f64(low, high, centre, out);
    gamma_midpoint(low, high, out, COUNT);
    gamma_radius_about(low, high, centre, out, COUNT);
    double *parts = numbers_f64(4 * COUNT, 0), *z = numbers_f64(COUNT, 0);
    gamma_relu(low, high, parts, COUNT);
    gamma_largest(low, out, ROWS, WIDTH);
    gamma_reach(low, ROWS / 2, 2, WIDTH, 1.001, 0x1p-500, out, numbers_f64(WIDTH, 0));
    enum { VECTORS = 4, SYMBOLS = ROWS, ENTRIES = WIDTH / VECTORS };
    const double *const columns[1] = {low};
    const size_t blocks[1] = {SYMBOLS}, lengths[1] = {2};
    const struct gamma_blocks sets = {1,      SYMBOLS, VECTORS, ENTRIES, columns,
                                      blocks, lengths, high,    0x1p-50};
    gamma_outer(&sets, numbers_f64(VECTORS * ENTRIES * ENTRIES, 0), numbers_f64(VECTORS, 0),
                numbers_f64(WIDTH, 0), numbers_f64(ENTRIES + SYMBOLS * (ENTRIES + 1), 0));
    normals(low, high, centre, out);
    gamma_finish(NULL, high, out, z, numbers_f64(COUNT, 64), parts, parts + COUNT,
                 parts + 2 * COUNT, FACTORS, 1, COUNT);
    const struct gamma_frame frame = {3, 3, 1, 1, 1, 1, 1, 1, 16, 16, 16, 16, 8, 8, 1, 18, 18};
    gamma_convolve(numbers_f64(8 * 256, 0), numbers_f64(8 * 256, 64), numbers_f64(72 * 8, 0), NULL,
                   numbers_f64(8 * 256, 0), make((18 * 18 * 8 * 2 + 72) * sizeof(double)),
                   make(5 * 8 * 256 * sizeof(double)), FACTORS, 1, 0, 1, &frame);
    struct gamma_node nodes[3] = {
        {.C = 8, .H = 16, .W = 16, .top = 1, .left = 1, .rows = 18, .span = 18, .across = 256},
        {.C = 8, .H = 16, .W = 16, .rows = 16, .span = 16, .reads = {0, -1}, .kh = 3, .kw = 3},
        {.C = 8, .H = 16, .W = 16, .rows = 16, .span = 16, .reads = {1, 1}, .sign = {1, -1}}};
    nodes[0].along = nodes[1].sh = nodes[1].sw = nodes[1].dh = nodes[1].dw = nodes[1].groups = 1;
    nodes[1].pad_top = nodes[1].pad_left = nodes[1].hinge = 1;
    nodes[0].readers[0] = 1;
    nodes[0].readers[1] = nodes[1].readers[0] = 2;
    nodes[1].readers[1] = 3;
    nodes[1].weight = numbers_f64(72 * 8, 0);
    nodes[1].row_sum = nodes[2].row_sum = numbers_f64(8 * 256, 64);
    const size_t most[3] = {1, 1, 0};
    gamma_pass(nodes, 3, numbers_f64(8 * 256, 0), numbers_f64(8 * 256, 64),
               make(gamma_pass_room(nodes, 3, most) * sizeof(double)),
               make(8 * 256 * sizeof(double)), make(8 * 256 * sizeof(double)), 0, 1, most, 1);
    nodes[1].pairs = numbers_f32(72 * 16, 0);
    nodes[1].shift = numbers_f32(16, 64);
    nodes[0].charge = nodes[1].charge = numbers_f32(8 * 16 * 2, 64);
    nodes[0].rate = nodes[1].rate = nodes[2].rate = 0x1p-30;
    nodes[1].shows = nodes[2].shows = 0x1p-15;
    gamma_pass(nodes, 3, numbers_f64(8 * 256, 0), numbers_f64(8 * 256, 64),
               make(gamma_pass_room(nodes, 3, most) * sizeof(double)),
               make(8 * 256 * sizeof(double)), make(8 * 256 * sizeof(double)), 0, 1, most, 1);
    abreast(out);
    double *const addends[4] = {parts, parts + COUNT, parts + 2 * COUNT, parts + 3 * COUNT};
    const int64_t signs[2] = {1, -1};
    gamma_sum_interval(addends, signs, 2, low, make(5 * COUNT * sizeof(double)), FACTORS, 1, COUNT);
    gamma_erf(low, out, COUNT);
    gamma_erfc(low, out, COUNT);
    const struct gamma_curve curve = {GAMMA_SIGMOID, 2,       1,    {0.0},   {1.0, -1.0}, NAN,
                                      {0.0, 1.0},    0x1p-43, 0,    0x1p-37, 0x1p-44,     0x1p-1000,
                                      0.02,          3e-4,    1.25, 0.25};
    gamma_image(&curve, low, high, out, out, COUNT);
    gamma_lines(&curve, low, high, low, high, NULL, NULL, parts, COUNT, 1);
    gamma_parallel_lines(&curve, low, high, low, high, low, high, parts, make(32 * COUNT), 1, COUNT,
                         1);
    gamma_f16_down(x, half, COUNT);
    gamma_f16_up(x, half, COUNT);
    gamma_f16_to_f32(half, x, COUNT);
    gamma_narrow(low, x, COUNT, 1);
    enum { Q8_0 = 8, ROW = WIDTH / 32 * 34 };
    uint8_t *raw = calloc(ROWS, ROW);
    if (raw == NULL || gamma_block(Q8_0, 1) == 0) {
        return 97;
    }
    gamma_decode_rows(Q8_0, raw, ROW, x, ROWS, WIDTH);
    const size_t counts[3] = {1, 1, 0};
    gamma_stored_affine(Q8_0, raw, ROW, centre, x, x, out, z, z, counts, ROWS, WIDTH);
    return elementwise_f32() + elementwise_f64() > 1e30;
}
