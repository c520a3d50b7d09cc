/* AVX-512 F, BW, DQ, VL. Sums keep vectors of 256 bits: loads and conversions bound them, and two
 * of 256 bits take no longer than one of 512. */
#include "elementwise.h"
#include "half_f16c.h"
#include "layer_avx.h"
#include "table.h"

#define VECTOR_BYTES 64
#define TALL 8
#define LANES_WORTH 5
#define LANE_GROUPS 1
#define BROAD 12
/* Keeps the compiler from reading v from memory again at each use. */
#define V_KEEP(v) __asm__("" : "+v"(v))
#define FV __m512
#define FV_LOAD _mm512_loadu_ps
#define FV_STORE _mm512_storeu_ps
#define FV_ONE _mm512_set1_ps
#define FV_FMA _mm512_fmadd_ps
#define FS VS
#define FS_LOAD S_LOAD
#define FS_STORE S_STORE
#define FS_ONE _mm256_set1_ps
#define FS_FMA _mm256_fmadd_ps
#define DV __m512d
#define DV_LOAD _mm512_loadu_pd
#define DV_STORE _mm512_storeu_pd
#define DV_ONE _mm512_set1_pd
#define DV_FMA _mm512_fmadd_pd
#define DS VD
#define DS_LOAD D_LOAD
#define DS_STORE D_STORE
#define DS_ONE _mm256_set1_pd
#define DS_FMA D_FMA
#define DV_ABS _mm512_abs_pd
#define DV_MOST _mm512_max_pd
#define PIXELS 8
#define PV VS
#define PV_LOAD S_LOAD
#define PV_STORE S_STORE
#define PV_FMA _mm256_fmadd_ps
#define PV_ZERO _mm256_setzero_ps()
#define PV_PAIR(x) _mm256_castpd_ps(_mm256_set1_pd(x))
#define PV_SWAP(x) _mm256_permute_ps(x, 0xB1)
#define PV_EVEN _mm256_moveldup_ps
#define PV_ABS(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x)
#define PV_MOST _mm256_max_ps
#define SINGLES 6
#define D_OF(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define F_ABS _mm512_abs_ps
#define POSITIONS 4

#include "product.h"
#include "rows_f32.h"
#include "rows_f64.h"
#include "decode.inc"
#include "stored.inc"

GAMMA_TABLE(avx512);
