/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/hostcap.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/fail.h"

#define NS_PER_S 1000000000ull
/* Unused time counts for this long, as in core/pacer. */
#define CREDIT_NS (NS_PER_S / 100)
/* Who waits may come so much later than it was told. */
#define GRACE_NS (NS_PER_S / 200)
/* Who lets another go first looks again after this. */
#define YIELD_NS (NS_PER_S / 2000)
/* A place that did not ask for so long is free. */
#define PLACE_NS (10 * NS_PER_S)
/* Others were faster: no loop without end. */
#define TRIES 16
/* A count of bytes that no host reaches is none. */
#define SERVED_MAX (1ull << 62)

_Static_assert(sizeof(DwcpHostcap) == DWCP_HOSTCAP_BYTES, "one page");
_Static_assert(sizeof(DwcpHostcapPlace) == 64, "a cache line each");
_Static_assert(offsetof(DwcpHostcap, rate) == 16 &&
                   offsetof(DwcpHostcap, places) == 64,
               "docs/wire.md");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(atomic_ullong) == 8,
               "words that processes share");

int dwcp_hostcap_check(const void *memory, DwcpError *err)
{
    const DwcpHostcap *cap = memory;

    assert((uintptr_t)memory % _Alignof(DwcpHostcap) == 0);
    if (memcmp(cap->magic, DWCP_HOSTCAP_MAGIC, sizeof(cap->magic))) {
        return dwcp_fail(err, -EINVAL, "host cap: wrong magic");
    }
    if (cap->version != DWCP_HOSTCAP_VERSION) {
        return dwcp_fail(err, -EINVAL, "host cap: version %u, not %u",
                         cap->version, DWCP_HOSTCAP_VERSION);
    }
    if (cap->size != DWCP_HOSTCAP_BYTES) {
        return dwcp_fail(err, -EINVAL, "host cap: says %u bytes, not %u",
                         cap->size, DWCP_HOSTCAP_BYTES);
    }
    return 0;
}

void dwcp_hostcap_join(DwcpHostcapMember *member, DwcpHostcap *cap, uint64_t id)
{
    assert(id);
    *member = (DwcpHostcapMember){
        .cap = cap,
        .id = id,
        .place = DWCP_HOSTCAP_PLACES,
    };
}

void dwcp_hostcap_leave(DwcpHostcapMember *member)
{
    unsigned long long id = member->id;

    if (member->cap && member->place < DWCP_HOSTCAP_PLACES) {
        (void)atomic_compare_exchange_strong(
            &member->cap->places[member->place].owner, &id, 0);
    }
    member->cap = NULL;
}

/* The member's place, or NULL: all are taken. */
static DwcpHostcapPlace *place_of(DwcpHostcapMember *member, uint64_t now_ns)
{
    DwcpHostcapPlace *place;
    unsigned long long owner, asked_ns;
    uint64_t most;
    unsigned i;

    if (member->place < DWCP_HOSTCAP_PLACES &&
        atomic_load(&member->cap->places[member->place].owner) == member->id) {
        return &member->cap->places[member->place];
    }
    member->place = DWCP_HOSTCAP_PLACES;
    for (i = 0; i < DWCP_HOSTCAP_PLACES; i++) {
        place = &member->cap->places[i];
        owner = atomic_load(&place->owner);
        asked_ns = atomic_load(&place->asked_ns);
        if (owner && asked_ns <= now_ns && now_ns - asked_ns < PLACE_NS) {
            continue;
        }
        /* First, or another may find it as old as it was. */
        atomic_store(&place->asked_ns, now_ns);
        if (atomic_compare_exchange_strong(&place->owner, &owner, member->id)) {
            atomic_store(&place->until_ns, 0);
            member->place = i;
            /* As if it had had what others have: the past is past. */
            most = atomic_load(&member->cap->served);
            member->served = most > member->served ? most : member->served;
            return place;
        }
    }
    return NULL;
}

/* Does one wait that has had much less? */
static bool yields(const DwcpHostcapMember *member, uint64_t lead,
                   uint64_t now_ns)
{
    const DwcpHostcapPlace *place;
    uint64_t until_ns;
    unsigned i;

    for (i = 0; i < DWCP_HOSTCAP_PLACES; i++) {
        place = &member->cap->places[i];
        if (i == member->place || !atomic_load(&place->owner)) {
            continue;
        }
        until_ns = atomic_load(&place->until_ns);
        if (until_ns >= now_ns &&
            until_ns <= now_ns + DWCP_HOSTCAP_WAIT_NS + GRACE_NS &&
            atomic_load(&place->served) + lead < member->served) {
            return true;
        }
    }
    return false;
}

static uint64_t wait_for(DwcpHostcapPlace *place, uint64_t wait_ns,
                         uint64_t now_ns)
{
    if (wait_ns > DWCP_HOSTCAP_WAIT_NS) {
        wait_ns = DWCP_HOSTCAP_WAIT_NS;
    }
    if (place) {
        atomic_store(&place->until_ns, now_ns + wait_ns + GRACE_NS);
    }
    return wait_ns;
}

/* Who has not asked for its share may not make up for it later, but for what
 * others are ahead of it by their turns. */
static void catch_up(DwcpHostcapMember *member, uint64_t lead)
{
    uint64_t most = atomic_load(&member->cap->served);
    uint64_t behind = 2 * (lead + DWCP_FRAME_PLAIN_MAX);

    if (member->served > SERVED_MAX || most > SERVED_MAX) {
        member->served = 0;
        atomic_store(&member->cap->served, 0);
    } else if (most > behind && member->served < most - behind) {
        member->served = most - behind;
    }
}

static void served(DwcpHostcapMember *member, DwcpHostcapPlace *place,
                   uint64_t bytes)
{
    unsigned long long most = atomic_load(&member->cap->served);
    unsigned tries;

    member->served += bytes;
    if (place) {
        atomic_store(&place->served, member->served);
        atomic_store(&place->until_ns, 0);
    }
    for (tries = 0; tries < TRIES && most < member->served; tries++) {
        if (atomic_compare_exchange_weak(&member->cap->served, &most,
                                         member->served)) {
            break;
        }
    }
}

uint64_t dwcp_hostcap_take(DwcpHostcapMember *member, uint64_t bytes,
                           uint64_t now_ns)
{
    DwcpHostcap *cap = member->cap;
    uint64_t rate = atomic_load(&cap->rate), lead = rate / 100;
    unsigned __int128 cost = (unsigned __int128)bytes * NS_PER_S;
    unsigned long long free_at_ns;
    uint64_t start_ns, debt_ns;
    DwcpHostcapPlace *place;
    unsigned tries;

    if (!rate) {
        return 0;
    }
    place = place_of(member, now_ns);
    catch_up(member, lead);
    if (place) {
        atomic_store(&place->asked_ns, now_ns);
        atomic_store(&place->served, member->served);
    }
    cost += member->rest % rate;
    /* No honest debt is longer than that of the largest frame. */
    debt_ns = NS_PER_S + 2ull * DWCP_FRAME_PLAIN_MAX * NS_PER_S / rate;
    free_at_ns = atomic_load(&cap->free_at_ns);
    for (tries = 0; tries < TRIES; tries++) {
        if (free_at_ns > now_ns && free_at_ns - now_ns <= debt_ns) {
            return wait_for(place, free_at_ns - now_ns, now_ns);
        }
        if (place && yields(member, lead, now_ns)) {
            break;
        }
        start_ns = free_at_ns > now_ns ? now_ns : free_at_ns;
        if (now_ns > CREDIT_NS && start_ns < now_ns - CREDIT_NS) {
            start_ns = now_ns - CREDIT_NS;
        }
        if (atomic_compare_exchange_weak(&cap->free_at_ns, &free_at_ns,
                                         start_ns + (uint64_t)(cost / rate))) {
            member->rest = (uint64_t)(cost % rate);
            served(member, place, bytes);
            return 0;
        }
    }
    return wait_for(place, YIELD_NS, now_ns);
}
