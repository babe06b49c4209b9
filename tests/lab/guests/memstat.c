/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memstat MEMORY [IMAGE...]: what a memory dump is made of, in 4 KiB pages:
 * zero, standing verbatim and 4 KiB-aligned in one of the images, the same as
 * an earlier page of the dump, and what is left.  Prints one JSON object.
 *
 * Pages are told apart by a 128-bit hash that is not cryptographic; over the
 * few million pages of one machine that is exact enough for a statistic.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / 8u)

enum { IN_IMAGE = 1, IN_MEMORY = 2 };

typedef struct Slot {
    uint64_t low, high; /* both 0: empty */
    unsigned flags;
} Slot;

typedef struct Table {
    Slot *slots;
    size_t mask;
} Table;

typedef struct File {
    const uint8_t *data;
    size_t pages;
} File;

static File file_map(const char *path)
{
    File f = { 0 };
    struct stat st;
    void *p;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &st)) {
        fprintf(stderr, "memstat: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    f.pages = (size_t)st.st_size / PAGE_BYTES;
    if (f.pages) {
        p = mmap(NULL, f.pages * PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            fprintf(stderr, "memstat: %s: %s\n", path, strerror(errno));
            exit(1);
        }
        f.data = p;
    }
    close(fd);
    return f;
}

/* Hashes one page into *low and *high.  Returns 0 for a page of zeros. */
static int page_hash(const uint8_t *page, uint64_t *low, uint64_t *high)
{
    uint64_t a = UINT64_C(0x243f6a8885a308d3), b = UINT64_C(0x13198a2e03707344);
    uint64_t any = 0, word;

    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        memcpy(&word, page + 8u * i, 8);
        any |= word;
        a = (a ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        a ^= a >> 29;
        b = (b + word) * UINT64_C(0xc2b2ae3d27d4eb4f);
        b ^= b >> 31;
    }
    *low = a;
    *high = b | 1; /* never the empty slot */
    return any != 0;
}

static Slot *table_find(Table *t, uint64_t low, uint64_t high)
{
    for (size_t i = low & t->mask;; i = (i + 1) & t->mask) {
        Slot *s = &t->slots[i];

        if (!s->high) {
            s->low = low;
            s->high = high;
            return s;
        }
        if (s->low == low && s->high == high) {
            return s;
        }
    }
}

static Table table_new(size_t pages)
{
    Table t;
    size_t size = 1024;

    while (size < 2 * pages) {
        size *= 2;
    }
    t.mask = size - 1;
    t.slots = calloc(size, sizeof(*t.slots));
    if (!t.slots) {
        fprintf(stderr, "memstat: no memory for %zu pages\n", pages);
        exit(1);
    }
    return t;
}

static void image_add(Table *t, const File *f)
{
    uint64_t low, high;

    for (size_t i = 0; i < f->pages; i++) {
        if (page_hash(f->data + i * PAGE_BYTES, &low, &high)) {
            table_find(t, low, high)->flags |= IN_IMAGE;
        }
    }
}

static void memory_count(Table *t, const File *f)
{
    size_t zero = 0, image = 0, duplicate = 0, unique = 0;
    uint64_t low, high;

    for (size_t i = 0; i < f->pages; i++) {
        Slot *s;

        if (!page_hash(f->data + i * PAGE_BYTES, &low, &high)) {
            zero++;
            continue;
        }
        s = table_find(t, low, high);
        image += (s->flags & IN_IMAGE) != 0;
        duplicate += (s->flags & IN_MEMORY) != 0;
        unique += s->flags == 0;
        s->flags |= IN_MEMORY;
    }
    printf("{\"pages\": %zu, \"zero_pages\": %zu, \"image_pages\": %zu, "
           "\"duplicate_pages\": %zu, \"unique_pages\": %zu, ",
           f->pages, zero, image, duplicate, unique);
    printf("\"zero_share\": %.4f, \"image_share_of_nonzero\": %.4f, "
           "\"duplicate_share_of_nonzero\": %.4f}\n",
           f->pages ? (double)zero / f->pages : 0.0,
           f->pages > zero ? (double)image / (f->pages - zero) : 0.0,
           f->pages > zero ? (double)duplicate / (f->pages - zero) : 0.0);
}

int main(int argc, char **argv)
{
    File files[64];
    size_t pages = 0;
    Table t;

    if (argc < 2 || argc > 64) {
        fprintf(stderr, "usage: memstat MEMORY [IMAGE...]\n");
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        files[i] = file_map(argv[i]);
        pages += files[i].pages;
    }
    t = table_new(pages);
    for (int i = 2; i < argc; i++) {
        image_add(&t, &files[i]);
    }
    memory_count(&t, &files[1]);
    return 0;
}
