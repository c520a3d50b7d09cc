/* Independent parts of one call, shared among threads that live in C.
 *
 * Python threads share what takes milliseconds; waking them, and their turns at the interpreter's
 * lock, cost more than the shares of smaller work. These threads never touch the interpreter. */
#ifndef GAMMA_TEAM_H
#define GAMMA_TEAM_H

#include <stddef.h>

/* One part. Scratch memory is per `worker`, below the number of threads. */
typedef void gamma_part(void *what, size_t part, size_t worker);

/* Runs `parts` parts, each once, on the calling thread (worker 0) and on as many as `threads - 1`
 * others, and returns when all are done. The caller does what nobody else has taken, so that it
 * never waits for a thread that has not begun; where another call has the others, it does
 * everything. Parts must not depend on the number of threads. */
void gamma_share(size_t threads, gamma_part *run, void *what, size_t parts);

#endif
