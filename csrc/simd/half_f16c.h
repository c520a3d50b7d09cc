/* float16 conversions with F16C, eight at a time: rounding mode 1|8 is towards -inf, 2|8 towards
 * +inf, exceptions silent. A NaN is replaced by the infinity of its side before the conversion. */
#include <immintrin.h>

#define HALF_DIRECTED(NAME, MODE, SIDE, UP)                                                        \
    static void NAME(const float *x, uint16_t *out, size_t n) {                                    \
        const __m256 side = _mm256_set1_ps(SIDE);                                                  \
        size_t i = 0;                                                                              \
        for (; i + 8 <= n; i += 8) {                                                               \
            const __m256 v = _mm256_loadu_ps(x + i);                                               \
            const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);                                  \
            _mm_storeu_si128((__m128i *)(out + i),                                                 \
                             _mm256_cvtps_ph(_mm256_blendv_ps(v, side, nan), (MODE) | 8));         \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            out[i] = half_directed(x[i], UP);                                                      \
        }                                                                                          \
    }
HALF_DIRECTED(half_down, 1, -INFINITY, 0)
HALF_DIRECTED(half_up, 2, INFINITY, 1)
#undef HALF_DIRECTED

static void from_half(const uint16_t *x, float *out, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    }
    for (; i < n; i++) {
        out[i] = half_value(x[i]);
    }
}
