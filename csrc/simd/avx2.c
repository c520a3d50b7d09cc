/* AVX2 with FMA and F16C: four doubles, and four floats widened to them. */
#include <immintrin.h>

#include "elementwise.h"
#include "table.h"

#define LANES 4
#define VD __m256d
#define D_LOAD _mm256_loadu_pd
#define D_STORE _mm256_storeu_pd
#define D_ZERO _mm256_setzero_pd()
#define D_ONE _mm256_set1_pd
#define D_ADD _mm256_add_pd
#define D_MUL _mm256_mul_pd
#define D_FMA _mm256_fmadd_pd
#define D_ABS(x) _mm256_andnot_pd(_mm256_set1_pd(-0.0), x)
#define D_PICK(x, yes, no)                                                                         \
    _mm256_blendv_pd(no, yes, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_GE_OQ))

#define VS __m128
#define S_LOAD _mm_loadu_ps
#define S_STORE _mm_storeu_ps
#define S_MUL _mm_mul_ps
#define S_WIDEN _mm256_cvtps_pd
#define S_PICK(x, yes, no) _mm_blendv_ps(no, yes, _mm_cmp_ps(x, _mm_setzero_ps(), _CMP_GE_OQ))

static inline double D_SUM(__m256d v) {
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

#define FV __m256
#define FV_LOAD _mm256_loadu_ps
#define FV_STORE _mm256_storeu_ps
#define FV_ONE _mm256_set1_ps
#define FV_FMA _mm256_fmadd_ps
#define VECTOR_BYTES 32
#define TALL 4

#include "half_f16c.h"
#include "product.h"
#include "rows.h"

GAMMA_TABLE(avx2);
