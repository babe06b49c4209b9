/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/capmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fail.h"

int dwcp_capmap_join(DwcpHostcapMember *member, int fd, DwcpError *err)
{
    uint64_t id = 0;
    struct stat st;
    void *memory;
    int seals, rc;

    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
        return dwcp_fail(err, -EINVAL,
                         "host cap: descriptor %d is no memfd that is sealed "
                         "against shrinking",
                         fd);
    }
    if (fstat(fd, &st) < 0 || st.st_size < (off_t)DWCP_HOSTCAP_BYTES) {
        return dwcp_fail(err, -EINVAL, "host cap: fewer than %u bytes",
                         DWCP_HOSTCAP_BYTES);
    }
    memory = mmap(NULL, DWCP_HOSTCAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
    if (memory == MAP_FAILED) {
        rc = -errno;
        return dwcp_fail(err, rc, "host cap: cannot map it: %s", strerror(-rc));
    }
    rc = dwcp_hostcap_check(memory, err);
    if (rc < 0) {
        munmap(memory, DWCP_HOSTCAP_BYTES);
        return rc;
    }
    while (!id) {
        randombytes_buf(&id, sizeof(id));
    }
    dwcp_hostcap_join(member, memory, id);
    close(fd);
    return 0;
}

void dwcp_capmap_leave(DwcpHostcapMember *member)
{
    void *memory = member->cap;

    if (memory) {
        dwcp_hostcap_leave(member);
        munmap(memory, DWCP_HOSTCAP_BYTES);
    }
}
