/* Chooses the table once, guards the floating-point mode at every entry, tiles the row kernels. */
#include "api.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "bounds.h"
#include "mode.h"
#include "table.h"
#include "team.h"

static const struct gamma_table *const *candidates(void) {
    static const struct gamma_table *able[4];
    if (!able[0]) {
        int count = 0;
#if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("f16c")) {
            if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
                able[count++] = &gamma_avx512;
            }
            able[count++] = &gamma_avx2;
        }
#elif defined(__aarch64__)
        able[count++] = &gamma_neon;
#endif
        able[count] = &gamma_scalar;
    }
    return able;
}

static const struct gamma_table *table = &gamma_scalar;

const char *gamma_available(int index) {
    for (const struct gamma_table *const *able = candidates(); *able; able++, index--) {
        if (index == 0) {
            return (*able)->name;
        }
    }
    return NULL;
}

int gamma_select(const char *name) {
    for (const struct gamma_table *const *able = candidates(); *able; able++) {
        if (strcmp((*able)->name, name) == 0) {
            table = *able;
            return 0;
        }
    }
    return -1;
}

/* Rows are taken BLOCK at a time and columns TILE (table.h) at a time, so that a tile of the
 * per-box vectors stays in cache while BLOCK rows use it. Partial sums of a row meet before they
 * touch d. */
enum { BLOCK = 64 };

static int outside(const int64_t *box, size_t N, size_t B) {
    int bad = 0;
    for (size_t i = 0; i < N; i++) {
        bad |= (uint64_t)box[i] >= (uint64_t)B;
    }
    return bad;
}

/* How many of the first `most` rows have the box (or the place) of the first. */
static size_t same_box(const int64_t *box, size_t most) {
    size_t count = 1;
    while (count < most && box[count] == box[0]) {
        count++;
    }
    return count;
}

/* CALL takes rows [i, i + count) of the block, which have one box. */
#define TILED(SIGN, CALL)                                                                          \
    if (outside(box, N, B)) {                                                                      \
        return -1;                                                                                 \
    }                                                                                              \
    const uint64_t mode = mode_enter();                                                            \
    for (size_t start = 0; start < N; start += BLOCK) {                                            \
        const size_t rows = N - start < BLOCK ? N - start : BLOCK;                                 \
        double sum[BLOCK] = {0};                                                                   \
        for (size_t j = 0; j < n; j += TILE) {                                                     \
            const size_t width = n - j < TILE ? n - j : TILE;                                      \
            for (size_t i = 0, count; i < rows; i += count) {                                      \
                const size_t here = (start + i) * n + j;                                           \
                const size_t there = (size_t)box[start + i] * n + j;                               \
                count = same_box(box + start + i, rows - i);                                       \
                CALL;                                                                              \
            }                                                                                      \
        }                                                                                          \
        for (size_t i = 0; i < rows; i++) {                                                        \
            d[start + i] SIGN sum[i];                                                              \
        }                                                                                          \
    }                                                                                              \
    mode_leave(mode);                                                                              \
    return 0;

/* CALL takes one row, whose table starts at `there`. */
#define EACH_ROW(CALL)                                                                             \
    if (outside(box, N, B)) {                                                                      \
        return -1;                                                                                 \
    }                                                                                              \
    const uint64_t mode = mode_enter();                                                            \
    for (size_t i = 0; i < N; i++) {                                                               \
        const size_t here = i * n, there = (size_t)box[i] * n;                                     \
        CALL;                                                                                      \
    }                                                                                              \
    mode_leave(mode);                                                                              \
    return 0;

#define GUARDED(CALL)                                                                              \
    const uint64_t mode = mode_enter();                                                            \
    CALL;                                                                                          \
    mode_leave(mode)

#define ENTRIES(F, S)                                                                              \
    int gamma_relax_rows_##S(F *A, double *d, const int64_t *box, const F *lower_slope,            \
                             const F *upper_slope, const double *lower_const,                      \
                             const double *upper_const, size_t B, size_t N, size_t n) {            \
        TILED(+=, table->relax_##S(A + here, n, count, lower_slope + there, upper_slope + there,   \
                                   lower_const + there, upper_const + there, width, sum + i))      \
    }                                                                                              \
    int gamma_relax_own_rows_##S(F *A, double *d, const int64_t *box, const F *slope,              \
                                 const double *base, const double *gain, const F *upper_slope,     \
                                 const double *upper_const, size_t B, size_t N, size_t n) {        \
        TILED(+=,                                                                                  \
              table->relax_own_##S(A + here, n, count, slope + here, base + there, gain + there,   \
                                   upper_slope + there, upper_const + there, width, sum + i))      \
    }                                                                                              \
    int gamma_own_lines_##S(const F *A, const F *x, const int64_t *box, const F *slope,            \
                            const double *base, const double *gain, const F *upper_slope,          \
                            const double *upper_const, F *out, size_t B, size_t N, size_t n) {     \
        EACH_ROW(table->own_lines_##S(A + here, x + here, slope + here, base + there,              \
                                      gain + there, upper_slope + there, upper_const + there,      \
                                      out + here, n))                                              \
    }                                                                                              \
    int gamma_ascend_##S(const F *A, const F *x, const int64_t *box, const F *centre,              \
                         const F *free, F *first, F *second, F *slope, const double *factors,      \
                         size_t B, size_t N, size_t n) {                                           \
        EACH_ROW(table->ascend_##S(A + here, x + here, centre + there, free + there, first + here, \
                                   second + here, slope + here, factors, n))                       \
    }                                                                                              \
    static void pass_planes_##S(const struct gamma_planes *p, F *a, size_t box, double *d) {       \
        const size_t g = box * p->groups, j = g * p->n;                                            \
        double ends[2];                                                                            \
        table->planes_##S(a, (const F *)p->root + g, (const F *)p->steep + j,                      \
                          (const F *)p->tilt + j, (F)p->shared, p->low + g, p->high + g,           \
                          p->groups, p->n, ends);                                                  \
        *d -= fabs(*d) * 0x1p-50 + TINY;                                                           \
        *d += ends[0] - p->sums * ends[1];                                                         \
    }                                                                                              \
    static void plane_lines_##S(const struct gamma_planes *p, const F *a, const F *x, size_t box,  \
                                F *out) {                                                          \
        const size_t g = box * p->groups, j = g * p->n;                                            \
        table->plane_lines_##S(a, x, (const F *)p->root + g, (const F *)p->steep + j,              \
                               (const F *)p->tilt + j, (F)p->shared, (const F *)p->below + j,      \
                               (const F *)p->above + j, p->low + g, p->high + g,                   \
                               p->lower_const + j, p->upper_const + j, out, p->groups, p->n);      \
    }                                                                                              \
    int gamma_pass_planes_##S(const struct gamma_planes *p, F *A, double *d, const int64_t *box,   \
                              size_t B, size_t N) {                                                \
        const size_t n = p->groups * p->n;                                                         \
        if (gamma_relax_rows_##S(A, d, box, p->below, p->above, p->lower_const, p->upper_const, B, \
                                 N, n)) {                                                          \
            return -1;                                                                             \
        }                                                                                          \
        GUARDED(for (size_t i = 0; i < N;                                                          \
                     i++) { pass_planes_##S(p, A + i * n, (size_t)box[i], d + i); });              \
        return 0;                                                                                  \
    }                                                                                              \
    int gamma_plane_lines_##S(const struct gamma_planes *p, const F *A, const F *x,                \
                              const int64_t *box, F *out, size_t B, size_t N) {                    \
        const size_t n = p->groups * p->n;                                                         \
        EACH_ROW(plane_lines_##S(p, A + here, x + here, there / n, out + here))                    \
    }                                                                                              \
    int gamma_dot_rows_##S(const F *A, double *d, const int64_t *box, const double *vector,        \
                           size_t B, size_t N, size_t n) {                                         \
        TILED(+=, table->dot_rows_##S(A + here, n, count, vector + there, width, sum + i))         \
    }                                                                                              \
    int gamma_abs_dot_rows_##S(const F *A, double *d, const int64_t *box, const double *weight,    \
                               size_t B, size_t N, size_t n) {                                     \
        TILED(-=, table->abs_rows_##S(A + here, n, count, weight + there, width, sum + i))         \
    }                                                                                              \
    void gamma_interval_affine_##S(const F *W, const double *centre, const double *radius,         \
                                   double *z, double *spread, size_t B, size_t m, size_t n) {      \
        GUARDED(table->affine_##S(W, centre, radius, z, spread, B, m, n));                         \
    }                                                                                              \
    void gamma_fold_last_##S(const F *cols, F *out, size_t frames, const int64_t *geometry) {      \
        GUARDED(table->fold_last_##S(cols, out, frames, geometry));                                \
    }                                                                                              \
    void gamma_turned_##S(const F *x, F *out, size_t N, size_t a, size_t b) {                      \
        for (size_t i = 0; i < N; i++) {                                                           \
            table->turned_##S(x + i * a * b, out + i * a * b, a, b);                               \
        }                                                                                          \
    }                                                                                              \
    void gamma_interval_mul_##S(const F *al, const F *au, const F *bl, const F *bu, F *lower,      \
                                F *upper, size_t n) {                                              \
        GUARDED(table->mul_##S(al, au, bl, bu, lower, upper, n));                                  \
    }                                                                                              \
    void gamma_safe_mul_add_##S(const F *al, const F *au, const F *bl, const F *bu, const F *cl,   \
                                const F *cu, F *lower, F *upper, size_t n) {                       \
        GUARDED(table->mul_add_##S(al, au, bl, bu, cl, cu, lower, upper, n));                      \
    }                                                                                              \
    void gamma_pos_neg_split_##S(const F *x, F *positive, F *negative, size_t n) {                 \
        GUARDED(table->split_##S(x, positive, negative, n));                                       \
    }                                                                                              \
    void gamma_step_##S(const F *x, F *out, size_t n, int up) {                                    \
        GUARDED(table->step_##S(x, out, n, up));                                                   \
    }                                                                                              \
    double gamma_dot_##S(const F *x, const F *y, size_t n) {                                       \
        GUARDED(const double total = table->dot_##S(x, y, n));                                     \
        return total;                                                                              \
    }                                                                                              \
    double gamma_sum_##S(const F *x, size_t n) {                                                   \
        GUARDED(const double total = table->sum_##S(x, n));                                        \
        return total;                                                                              \
    }

ENTRIES(float, f32)
ENTRIES(double, f64)

void gamma_narrow(const double *x, float *out, size_t n, int up) {
    GUARDED(table->narrow(x, out, n, up));
}

void gamma_midpoint(const double *lower, const double *upper, double *out, size_t n) {
    GUARDED(table->midpoint(lower, upper, out, n));
}

void gamma_radius_about(const double *lower, const double *upper, const double *centre, double *out,
                        size_t n) {
    GUARDED(table->radius_about(lower, upper, centre, out, n));
}

size_t gamma_finish(const double *bias, const double *row_sum, const double *largest, double *z,
                    double *spread, double *noise, double *lower, double *upper,
                    const double *factors, size_t B, size_t m) {
    size_t crossed = 0;
    const uint64_t mode = mode_enter();
    for (size_t b = 0; b < B; b++) {
        const size_t at = b * m;
        crossed += table->finish(bias, row_sum, largest[b], z + at, spread + at, noise + at,
                                 lower + at, upper + at, factors, m);
    }
    mode_leave(mode);
    return crossed;
}

void gamma_largest(const double *x, double *out, size_t B, size_t n) {
    const uint64_t mode = mode_enter();
    for (size_t b = 0; b < B; b++) {
        out[b] = table->largest(x + b * n, n);
    }
    mode_leave(mode);
}

void gamma_reach(const double *columns, size_t blocks, size_t each, size_t n, double factor,
                 double extra, double *out, double *work) {
    GUARDED(table->reach(columns, blocks, each, n, factor, extra, out, work));
}

void gamma_outer(const struct gamma_blocks *x, double *matrix, double *error, double *scale,
                 double *work) {
    const size_t d = x->d;
    GUARDED(for (size_t v = 0; v < x->vectors;
                 v++) { table->outer(x, v, matrix + v * d * d, error + v, scale + v * d, work); });
}

/* Entries of groups that a thread takes at once, some 30 µs of work. */
enum { NORMAL_PART = 1024 };

struct normal_shares {
    const struct gamma_normal *x;
    const float *weights;
    const double *forms, *floor, *ceiling, *after, *square;
    double *lower, *upper, *out, *work;
    size_t some; /* groups of a part */
};

static void normal_part(void *what, size_t part, size_t worker) {
    const struct normal_shares *const all = what;
    const struct gamma_normal *const x = all->x;
    const size_t first = part * all->some, left = x->groups - first;
    const size_t end = left < all->some ? x->groups : first + all->some;
    const uint64_t mode = mode_enter();
    if (all->out == NULL) {
        table->normal_image(x, first, end, all->lower, all->upper, all->work + worker * 10 * x->n);
    } else if (all->after == NULL) {
        table->groups(x, first, end, all->weights, all->forms, all->square, all->out,
                      all->work + worker * 11 * x->n);
    } else {
        table->quotients(x, first, end, all->weights, all->forms, all->floor, all->ceiling,
                         all->after, all->out, all->work + worker * 12 * x->n);
    }
    mode_leave(mode);
}

static void all_groups(struct normal_shares *all, size_t threads) {
    const size_t n = all->x->n;
    all->some = n < NORMAL_PART ? NORMAL_PART / (n ? n : 1) : 1;
    gamma_share(threads, normal_part, all, (all->x->groups + all->some - 1) / all->some);
}

void gamma_normal_image(const struct gamma_normal *x, double *lower, double *upper, double *work,
                        size_t threads) {
    struct normal_shares all = {.x = x, .lower = lower, .upper = upper, .work = work};
    all_groups(&all, threads);
}

void gamma_quotients(const struct gamma_normal *x, const float *weights, const double *forms,
                     const double *floor, const double *ceiling, const double *after, double *out,
                     double *work, size_t threads) {
    struct normal_shares all = {.x = x,
                                .weights = weights,
                                .forms = forms,
                                .floor = floor,
                                .ceiling = ceiling,
                                .after = after,
                                .out = out,
                                .work = work};
    all_groups(&all, threads);
}

void gamma_groups(const struct gamma_normal *x, const float *weights, const double *forms,
                  const double *square, double *out, double *work, size_t threads) {
    struct normal_shares all = {
        .x = x, .weights = weights, .forms = forms, .square = square, .out = out, .work = work};
    all_groups(&all, threads);
}

size_t gamma_normal_set_room(const struct gamma_blocks *set) {
    const size_t n = set->d, symbols = set->symbols;
    return n * (n + 20 + symbols) + 8 + set->parts + (symbols + 2 * n + 4) * (n + 3);
}

struct set_shares {
    const struct gamma_normal_set *job;
    double *work;
    size_t room;
};

static void set_part(void *what, size_t part, size_t worker) {
    const struct set_shares *const all = what;
    GUARDED(table->normal_set(all->job, part, all->work + worker * all->room));
}

void gamma_normal_sets(const struct gamma_normal_set *job, double *work, size_t threads) {
    struct set_shares all = {job, work, gamma_normal_set_room(job->set)};
    gamma_share(threads, set_part, &all, job->x->groups);
}

size_t gamma_balls_room(const struct gamma_blocks *set) {
    return 1 + set->d * (2 + set->d) + set->symbols * (set->d + 1);
}

struct ball_shares {
    const struct gamma_blocks *set;
    double g, *out, *work;
};

static void ball_part(void *what, size_t part, size_t worker) {
    const struct ball_shares *const all = what;
    double *const work = all->work + worker * gamma_balls_room(all->set);
    GUARDED(table->ball(all->set, part, all->g, all->out, work));
}

void gamma_balls(const struct gamma_blocks *set, double g, double *out, double *work,
                 size_t threads) {
    struct ball_shares all = {set, g, out, work};
    gamma_share(threads, ball_part, &all, set->vectors);
}

enum { NEAR = 512 };

void gamma_relu(const double *lower, const double *upper, double *out, size_t n) {
    const uint64_t mode = mode_enter();
    for (size_t i = 0; i < n; i += NEAR) { /* the radius reads what is in cache */
        const size_t count = n - i < NEAR ? n - i : NEAR;
        double *low = out + i, *high = low + n, *centre = high + n;
        table->relu(lower + i, upper + i, low, high, centre, count);
        table->radius_about(low, high, centre, centre + n, count);
    }
    mode_leave(mode);
}

void gamma_f16_down(const float *x, uint16_t *out, size_t n) {
    GUARDED(table->half_down(x, out, n));
}

void gamma_f16_up(const float *x, uint16_t *out, size_t n) { GUARDED(table->half_up(x, out, n)); }

void gamma_f16_to_f32(const uint16_t *x, float *out, size_t n) {
    GUARDED(table->from_half(x, out, n));
}

static const size_t LAYOUT[GAMMA_KINDS][2] = {{1, 4},     {1, 2},     {1, 2},    {32, 34},
                                              {32, 18},   {32, 20},   {32, 22},  {32, 24},
                                              {256, 144}, {256, 176}, {256, 210}};

size_t gamma_block(int kind, int bytes) { return LAYOUT[kind][bytes]; }

int gamma_decode_rows(int kind, const uint8_t *raw, size_t row_bytes, float *out, size_t m,
                      size_t n) {
    uint32_t bad = 0;
    const uint64_t mode = mode_enter();
    for (size_t i = 0; i < m; i++) {
        bad |= table->decode[kind](raw + i * row_bytes, n / LAYOUT[kind][0], out + i * n);
    }
    mode_leave(mode);
    return bad != 0;
}

int gamma_stored_affine(int kind, const uint8_t *raw, size_t row_bytes, const double *centre,
                        const float *radius, const float *square, double *z, double *spread,
                        double *power, const size_t *counts, size_t m, size_t n) {
    uint32_t bad = 0;
    size_t most = counts[0];
    for (int part = 1; part < 3; part++) {
        most = counts[part] > most ? counts[part] : most;
    }
    const uint64_t mode = mode_enter();
    for (size_t b = 0; b < most; b += STORED_POSITIONS) {
        struct gamma_stored x = {centre + b * n,
                                 radius + b * n,
                                 square + b * n,
                                 {z + b * m, spread + b * m, power + b * m},
                                 {0, 0, 0}};
        for (int part = 0; part < 3; part++) {
            const size_t left = counts[part] > b ? counts[part] - b : 0;
            x.count[part] = left < STORED_POSITIONS ? left : STORED_POSITIONS;
        }
        bad |= table->stored_affine(table->decode[kind], LAYOUT[kind], raw, row_bytes, &x, m, n);
    }
    mode_leave(mode);
    return bad != 0;
}

void gamma_erf(const double *x, double *out, size_t n) {
    const uint64_t mode = mode_enter();
    for (size_t i = 0; i < n; i++) {
        out[i] = erf(x[i]);
    }
    mode_leave(mode);
}

void gamma_erfc(const double *x, double *out, size_t n) {
    const uint64_t mode = mode_enter();
    for (size_t i = 0; i < n; i++) {
        out[i] = erfc(x[i]);
    }
    mode_leave(mode);
}

#include "linear_set.inc"
#include "curves.inc"
#include "parallel.inc"
#include "layers.inc"
#include "meet.inc"
#include "start.inc"
#include "chain.inc"
#include "windows.inc"

#define F float
#define FN(name) name##_f32
#include "hinge.inc"
#undef F
#undef FN

#define F double
#define FN(name) name##_f64
#include "hinge.inc"
#undef F
#undef FN

#define PRODUCT(F, S)                                                                              \
    void gamma_product_##S(const F *A, const F *W, F *C, size_t N, size_t K, size_t columns) {     \
        GUARDED(table->product_##S(A, K, W, C, N, K, columns, 0));                                 \
    }
PRODUCT(float, f32)
PRODUCT(double, f64)

#define CONVOLUTIONS(F, S)                                                                         \
    void gamma_spread_##S(const F *rows, const F *weight, F *images, F *scratch, size_t frames,    \
                          const struct gamma_window *window) {                                     \
        GUARDED(table->spread_##S(rows, weight, images, scratch, frames, window));                 \
    }                                                                                              \
    void gamma_gather_##S(const F *rows, const F *weight, F *images, const int64_t *near,          \
                          int32_t *lists, F *scratch, size_t frames,                               \
                          const struct gamma_window *window, int every, int add) {                 \
        GUARDED(table->gather_##S(rows, weight, images, near, lists, scratch, frames, window,      \
                                  every, add, NULL));                                              \
    }                                                                                              \
    void gamma_correlate_##S(const F *images, const F *weight, F *result, F *copy,                 \
                             int64_t *offset, size_t frames, const struct gamma_frame *frame) {    \
        GUARDED(table->correlate_##S(images, weight, result, copy, offset, frames, frame));        \
    }
CONVOLUTIONS(float, f32)
CONVOLUTIONS(double, f64)

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* How the rows of a node of images are cut for threads: `whole` parts of `most` neurons, and the
 * rest in small ones, so that no thread waits long for another. */
enum { PART_LANES = 8 };
struct image_parts {
    size_t whole, most, least, count;
};

/* Of `count` neurons: an even number of parts of `most`, then two halves of the rest, of whole
 * vectors of rows where these are many. */
static struct image_parts image_cut(size_t count, size_t most) {
    const size_t whole = count / (2 * most) * 2, rest = count - whole * most;
    size_t half = whole > 0 && rest <= PART_LANES ? rest : (rest + 1) / 2;
    if (half > PART_LANES) {
        half = (half + PART_LANES - 1) / PART_LANES * PART_LANES;
        half = half < most ? half : most;
    }
    return (struct image_parts){whole, most, half, whole + (half ? (rest + half - 1) / half : 0)};
}

/* Where a part begins: what is behind the last one is beyond the neurons. */
static size_t image_part(const struct image_parts *p, size_t part) {
    return part < p->whole ? part * p->most : p->whole * p->most + (part - p->whole) * p->least;
}

#define F float
#define FN(name) name##_f32
#include "walk.inc"
#include "images.inc"
#undef F
#undef FN

#define F double
#define FN(name) name##_f64
#include "walk.inc"
#include "images.inc"
#undef F
#undef FN

/* Operations of an ascent's rows from which on these are shared: some ten microseconds each; and
 * rows of a share, at least, where there are more. */
#define ASCENT_SHARED 5e5
enum { ASCENT_ROWS = 32 };
/* Rows that a thread takes at once: whole register blocks of the product (or of `gather`), with
 * what belongs to them in the second-level cache. */
enum { ASCENT_LEAST = 8, ASCENT_MOST = 64, ASCENT_BYTES = 1 << 20 };

#define F float
#define FN(name) name##_f32
#include "stages.inc"
#include "ascent.inc"
#undef F
#undef FN

#define F double
#define FN(name) name##_f64
#include "stages.inc"
#include "ascent.inc"
#undef F
#undef FN

/* Rows that go down together in gamma_dense_walk, and the bytes of weights, row by row, from which
 * on they are worth another thread: some 20 microseconds. */
enum { DENSE_ROWS = 48, WORTH_A_THREAD = 4 << 20 };
/* What copying an entry of a weight costs, in multiplications of it with a row. */
#define COPY_PRICE 64.0
/* Rows of a dense walk whose slopes rise in one call; and what counts as a weight of mostly zeros
 * there: entries from which on it is looked at, and the share of them that is not 0 (as in
 * gamma/propagate/rows/chain.py). */
enum { RISING_ROWS = 1024, RISING_SPARSE = 1 << 14, RISING_SHARE = 12 };

#define F float
#define FN(name) name##_f32
#define UNDERFLOW 0x1p-150
#include "sparse.inc"
#include "rising.inc"
#include "refine.inc"
#include "dense.inc"
#undef F
#undef FN
#undef UNDERFLOW

#define F double
#define FN(name) name##_f64
#define UNDERFLOW 0x1p-1074 /* half of it, what a product can lose, is no number */
#include "sparse.inc"
#include "rising.inc"
#include "refine.inc"
#include "dense.inc"
#undef F
#undef FN
#undef UNDERFLOW

#include "passed.inc"
