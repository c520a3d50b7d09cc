/* See team.h. One job at a time is announced in `ticket`, its number and the next part in one word:
 * a helper takes a part by counting up a word that still has the number of the job whose fields it
 * has read, so that none ever runs a part of one job with the function of another. */
#define _POSIX_C_SOURCE 200809L
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "mode.h"

enum { MOST = 63, LOOK = 64 };
/* Nanoseconds that a helper looks out for the next job before it sleeps: calls of one bound follow
 * each other within it. Waking a sleeper takes about as long. */
#define AWAKE 100000
/* As long as this the caller looks out for parts that others are at, then it gives way each
 * time. */
#define NEAR 50000
#define STACK ((size_t)1 << 21)

static struct {
    _Atomic(gamma_part *) run;
    _Atomic(void *) what;
    atomic_size_t parts, seats, done;
    _Atomic uint64_t ticket; /* number of the job << 32 | its next part */
    atomic_flag taken;
    atomic_int asleep[MOST + 1]; /* by worker */
    size_t helpers;              /* written by the call that has `taken` */
    int watched;                 /* whether a fork is noticed */
} team = {.taken = ATOMIC_FLAG_INIT};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake[MOST + 1];

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes and runs one part of the job that is announced; 0 where there is none for this worker. */
static int take(size_t worker) {
    uint64_t ticket = atomic_load(&team.ticket);
    for (;;) {
        gamma_part *run = atomic_load(&team.run);
        void *what = atomic_load(&team.what);
        const uint64_t part = ticket & UINT32_MAX;
        if (part >= atomic_load(&team.parts) || worker >= atomic_load(&team.seats)) {
            return 0;
        }
        if (atomic_compare_exchange_weak(&team.ticket, &ticket, ticket + 1)) {
            run(what, part, worker);
            atomic_fetch_add(&team.done, 1);
            return 1;
        }
    }
}

static int open_to(size_t worker) {
    return (atomic_load(&team.ticket) & UINT32_MAX) < atomic_load(&team.parts) &&
           worker < atomic_load(&team.seats);
}

static void *help(void *seat) {
    const size_t worker = (size_t)(uintptr_t)seat;
    mode_enter();
    for (;;) {
        int64_t until = now() + AWAKE;
        for (size_t turn = 1;; turn++) {
            if (take(worker)) {
                until = now() + AWAKE;
            } else if (turn % LOOK == 0 && now() > until) {
                break;
            }
            pause_briefly();
        }
        pthread_mutex_lock(&mutex);
        atomic_store(&team.asleep[worker], 1);
        while (!open_to(worker)) {
            pthread_cond_wait(&wake[worker], &mutex);
        }
        atomic_store(&team.asleep[worker], 0);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

/* A forked process has none of the threads, and no call that shares. */
static void forget(void) {
    team.helpers = 0;
    atomic_store(&team.parts, 0);
    atomic_flag_clear(&team.taken);
    pthread_mutex_init(&mutex, NULL);
}

/* Starts helpers up to `count`; signals stay with the threads that were there before. */
static void enlist(size_t count) {
    sigset_t all, before;
    pthread_attr_t attributes;
    if (team.helpers >= count) {
        return;
    }
    if (!team.watched) {
        team.watched = pthread_atfork(NULL, NULL, forget) == 0;
    }
    if (!team.watched || pthread_attr_init(&attributes) != 0) {
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    while (team.helpers < count) {
        pthread_t thread;
        const size_t worker = team.helpers + 1;
        atomic_store(&team.asleep[worker], 0);
        if (pthread_cond_init(&wake[worker], NULL) != 0 ||
            pthread_create(&thread, &attributes, help, (void *)(uintptr_t)worker) != 0) {
            break;
        }
        team.helpers = worker;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void announce(size_t threads, gamma_part *run, void *what, size_t parts) {
    const uint64_t number = (atomic_load(&team.ticket) >> 32) + 1;
    atomic_store(&team.ticket,
                 number << 32 | UINT32_MAX); /* no part is there to take until all is set */
    atomic_store(&team.done, 0);
    atomic_store(&team.run, run);
    atomic_store(&team.what, what);
    atomic_store(&team.seats, threads);
    atomic_store(&team.parts, parts);
    atomic_store(&team.ticket, number << 32);
    for (size_t worker = 1; worker < threads && worker < parts && worker <= team.helpers;
         worker++) {
        if (atomic_load(&team.asleep[worker])) {
            pthread_mutex_lock(&mutex);
            pthread_cond_signal(&wake[worker]);
            pthread_mutex_unlock(&mutex);
        }
    }
}

void gamma_share(size_t threads, gamma_part *run, void *what, size_t parts) {
    const uint64_t mode = mode_enter();
    const size_t wanted = (threads < parts ? threads : parts) - 1;
    if (threads < 2 || parts < 2 || parts > UINT32_MAX || atomic_flag_test_and_set(&team.taken)) {
        for (size_t part = 0; part < parts; part++) {
            run(what, part, 0);
        }
    } else {
        enlist(wanted < MOST ? wanted : MOST);
        announce(threads, run, what, parts);
        while (take(0)) {
        }
        const int64_t until = now() + NEAR;
        for (size_t turn = 1; atomic_load(&team.done) < parts; turn++) {
            if (turn % LOOK == 0 && now() > until) {
                sched_yield();
            }
            pause_briefly();
        }
        atomic_flag_clear(&team.taken);
    }
    mode_leave(mode);
}
