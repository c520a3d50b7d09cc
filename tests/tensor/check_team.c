/* Many short jobs from one thread, from several at once, and from a forked process: every part of each
 * runs once, for its own job, by a worker below the number of threads, in the default rounding mode. */
#include <fenv.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "team.h"

enum { PARTS = 9, USERS = 4 };

struct job {
    size_t threads, length;
    uint64_t salt, sums[PARTS];
};

/* The x87 unit has a mode of its own, which no kernel uses. */
static int nearest(void) {
    volatile double one = 1.0, little = 0x1p-60;
    return one + little == one && -one - little == -one;
}

static uint64_t expected(const struct job *job, size_t part) {
    uint64_t sum = 0;
    for (size_t i = 0; i < job->length; i++) {
        sum += (i * (part + 1)) ^ job->salt;
    }
    return sum;
}

static void run(void *what, size_t part, size_t worker) {
    struct job *job = what;
    if (worker >= job->threads || part >= PARTS || !nearest()) {
        printf("worker %zu of %zu, part %zu, nearest %d\n", worker, job->threads, part, nearest());
        exit(1);
    }
    job->sums[part] += expected(job, part);
}

static void *user(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    fesetround(FE_UPWARD); /* what the parts must not see */
    for (int round = 0; round < 20000; round++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t parts = 1 + (state >> 33) % PARTS;
        struct job job = {.threads = 1 + (state >> 40) % USERS,
                          .length = 20 + (state >> 45) % 200,
                          .salt = state};
        gamma_share(job.threads, run, &job, parts);
        for (size_t part = 0; part < PARTS; part++) {
            if (job.sums[part] != (part < parts ? expected(&job, part) : 0)) {
                printf("part %zu of %zu: %llx\n", part, parts, (unsigned long long)job.sums[part]);
                exit(1);
            }
        }
        if (round % 2000 == 7) { /* long enough for helpers to fall asleep */
            nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
        }
    }
    if (nearest()) {
        printf("the caller's mode was not restored\n");
        exit(1);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[USERS];
    user((void *)1);
    for (uintptr_t k = 0; k < USERS; k++) {
        pthread_create(threads + k, NULL, user, (void *)(k + 2));
    }
    for (size_t k = 0; k < USERS; k++) {
        pthread_join(threads[k], NULL);
    }
    const pid_t child = fork();
    if (child == 0) {
        user((void *)9);
        exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    printf("child %d\n", status);
    return status != 0;
}
