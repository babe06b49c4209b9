/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The small guest's load: keeps writing memory at a chosen rate and checks
 * all of it.
 *
 * Static pages hold numbers computed from their place and are compared with
 * them again and again.  Dirty pages carry their number and a version and are
 * filled from both; before a page is written again it must still hold exactly
 * what its last write left, whose version stands in a table elsewhere in
 * memory.  A migration that loses a page, swaps two or lets an older content
 * win is reported as CORRUPT on standard output, and the guest stops beating.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / 8u)
#define MIB_PAGES 256u
#define TICK_NS 10000000L
#define TICKS_PER_S 100u
#define STATIC_SLICE_PAGES 4u /* checked per tick */

typedef struct Churn {
    uint64_t *fixed; /* static pages, written once */
    size_t fixed_pages;
    uint64_t *dirty;
    uint32_t *versions; /* of each dirty page, as last written */
    size_t dirty_pages;
    size_t rate_pages_per_s;
    uint64_t random; /* generator's state */
    uint64_t written;
    uint64_t checked;
} Churn;

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t random_next(Churn *c)
{
    c->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(c->random);
}

/* A quarter of a page is random, the rest repeats: as compressible as the
 * memory of a server is on average. */
static uint64_t page_word(uint64_t seed, unsigned word)
{
    return mix(seed + (word % 4 == 0 ? word : word & 0x1c3u));
}

static void page_fill(uint64_t *page, uint64_t seed)
{
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        page[i] = page_word(seed, i);
    }
}

static void page_check(Churn *c, const uint64_t *page, uint64_t seed,
                       const char *kind, size_t number)
{
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        if (page[i] != page_word(seed, i)) {
            printf("CORRUPT %s page %zu word %u is %016" PRIx64 ", not "
                   "%016" PRIx64 "\n",
                   kind, number, i, page[i], page_word(seed, i));
            exit(1);
        }
    }
    c->checked++;
}

static uint64_t dirty_seed(size_t number, uint32_t version)
{
    return mix(((uint64_t)number << 32) | version);
}

static void dirty_rewrite(Churn *c, size_t number)
{
    uint64_t *page = c->dirty + number * PAGE_WORDS;

    page_check(c, page, dirty_seed(number, c->versions[number]), "dirty",
               number);
    page_fill(page, dirty_seed(number, ++c->versions[number]));
    c->written++;
}

static void *pages_map(size_t pages)
{
    void *p = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p == MAP_FAILED) {
        perror("churn: mmap");
        exit(1);
    }
    return p;
}

static void churn_init(Churn *c, size_t rate_mib, size_t dirty_mib,
                       size_t fixed_mib)
{
    memset(c, 0, sizeof(*c));
    c->rate_pages_per_s = rate_mib * MIB_PAGES;
    c->dirty_pages = dirty_mib * MIB_PAGES;
    c->fixed_pages = fixed_mib * MIB_PAGES;
    c->dirty = pages_map(c->dirty_pages + 1);
    c->fixed = pages_map(c->fixed_pages + 1);
    c->versions = calloc(c->dirty_pages + 1, sizeof(*c->versions));
    if (!c->versions) {
        perror("churn: calloc");
        exit(1);
    }
    for (size_t i = 0; i < c->dirty_pages; i++) {
        page_fill(c->dirty + i * PAGE_WORDS, dirty_seed(i, 0));
    }
    for (size_t i = 0; i < c->fixed_pages; i++) {
        page_fill(c->fixed + i * PAGE_WORDS, mix(~(uint64_t)i));
    }
}

static void churn_run(Churn *c)
{
    struct timespec tick = { 0, TICK_NS };
    size_t fixed_next = 0;
    size_t budget = 0;

    for (uint64_t n = 1;; n++) {
        budget += c->rate_pages_per_s;
        for (; c->dirty_pages && budget >= TICKS_PER_S; budget -= TICKS_PER_S) {
            dirty_rewrite(c, random_next(c) % c->dirty_pages);
        }
        for (unsigned i = 0; c->fixed_pages && i < STATIC_SLICE_PAGES; i++) {
            page_check(c, c->fixed + fixed_next * PAGE_WORDS,
                       mix(~(uint64_t)fixed_next), "static", fixed_next);
            fixed_next = (fixed_next + 1) % c->fixed_pages;
        }
        if (n % TICKS_PER_S == 0) {
            printf("CHURN %" PRIu64 " written %" PRIu64 " checked %" PRIu64
                   "\n", n / TICKS_PER_S, c->written, c->checked);
        }
        nanosleep(&tick, NULL);
    }
}

int main(int argc, char **argv)
{
    Churn c;

    if (argc != 4) {
        fprintf(stderr, "usage: churn RATE_MIB_PER_S DIRTY_MIB STATIC_MIB\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    churn_init(&c, strtoul(argv[1], NULL, 10), strtoul(argv[2], NULL, 10),
               strtoul(argv[3], NULL, 10));
    printf("GUEST READY\n");
    churn_run(&c);
}
