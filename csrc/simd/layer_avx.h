/* The vector layer of AVX2 with FMA: four doubles, eight floats. */
#include <immintrin.h>

#define LANES 4
#define VD __m256d
#define D_LOAD _mm256_loadu_pd
#define D_STORE _mm256_storeu_pd
#define D_ZERO _mm256_setzero_pd()
#define D_ADD _mm256_add_pd
#define D_MUL _mm256_mul_pd
#define D_FMA _mm256_fmadd_pd
#define D_ABS(x) _mm256_andnot_pd(_mm256_set1_pd(-0.0), x)
/* Blends look at the sign alone: -0 + 0 is 0. */
#define D_PICK(x, plus, minus) _mm256_blendv_pd(plus, minus, _mm256_add_pd(x, D_ZERO))
#define D_KEEP(v) __asm__("" : "+x"(v))

static inline double sum_of_four(__m256d v) {
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}
#define D_SUM sum_of_four

#define VS __m256
#define S_LOAD _mm256_loadu_ps
#define S_STORE _mm256_storeu_ps
#define S_MUL _mm256_mul_ps
#define S_WIDEN(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define S_PICK(x, plus, minus) _mm256_blendv_ps(plus, minus, _mm256_add_ps(x, _mm256_setzero_ps()))
