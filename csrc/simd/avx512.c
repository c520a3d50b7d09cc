/* AVX-512 F, BW, DQ, VL. Sums keep vectors of 256 bits: loads and conversions bound them, and two
 * of 256 bits take no longer than one of 512. */
#include "elementwise.h"
#include "half_f16c.h"
#include "layer_avx.h"
#include "table.h"

#define VECTOR_BYTES 64
#define TALL 8
#define BROAD 12
#define FV __m512
#define FV_LOAD _mm512_loadu_ps
#define FV_STORE _mm512_storeu_ps
#define FV_ONE _mm512_set1_ps
#define FV_FMA _mm512_fmadd_ps
#define DV __m512d
#define DV_LOAD _mm512_loadu_pd
#define DV_STORE _mm512_storeu_pd
#define DV_ONE _mm512_set1_pd
#define DV_FMA _mm512_fmadd_pd
#define DV_ABS _mm512_abs_pd
#define PIXELS 8
#define PV FV
#define PV_LOAD FV_LOAD
#define PV_STORE FV_STORE
#define PV_FMA FV_FMA
#define PV_ZERO FV_ONE(0.0F)
#define PV_PAIR(x) _mm512_castpd_ps(_mm512_set1_pd(x))
#define SINGLES 8
#define D_OF(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define F_ABS _mm512_abs_ps
#define POSITIONS 4

#include "product.h"
#include "rows_f32.h"
#include "rows_f64.h"
#include "decode.inc"
#include "stored.inc"

GAMMA_TABLE(avx512);
