/* AVX-512 F, BW, DQ, VL: eight doubles, and eight floats widened to them. */
#include <immintrin.h>

#include "elementwise.h"
#include "table.h"

#define LANES 8
#define VD __m512d
#define D_LOAD _mm512_loadu_pd
#define D_STORE _mm512_storeu_pd
#define D_ZERO _mm512_setzero_pd()
#define D_ONE _mm512_set1_pd
#define D_ADD _mm512_add_pd
#define D_MUL _mm512_mul_pd
#define D_FMA _mm512_fmadd_pd
#define D_ABS _mm512_abs_pd
#define D_SUM _mm512_reduce_add_pd
#define D_PICK(x, yes, no)                                                                         \
    _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_GE_OQ), no, yes)

#define VS __m256
#define S_LOAD _mm256_loadu_ps
#define S_STORE _mm256_storeu_ps
#define S_MUL _mm256_mul_ps
#define S_WIDEN _mm512_cvtps_pd
#define S_PICK(x, yes, no)                                                                         \
    _mm256_mask_blend_ps(_mm256_cmp_ps_mask(x, _mm256_setzero_ps(), _CMP_GE_OQ), no, yes)

#define FV __m512
#define FV_LOAD _mm512_loadu_ps
#define FV_STORE _mm512_storeu_ps
#define FV_ONE _mm512_set1_ps
#define FV_FMA _mm512_fmadd_ps
#define VECTOR_BYTES 64
#define TALL 8

#include "half_f16c.h"
#include "product.h"
#include "rows.h"

GAMMA_TABLE(avx512);
