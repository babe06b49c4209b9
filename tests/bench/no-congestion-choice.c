/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * no-congestion-choice PROGRAM ARGUMENTS...
 *
 * Runs a program that cannot choose its TCP congestion control: what a QEMU
 * without privileges is on a host whose list of permitted algorithms names
 * only the default.  That list is global to the machine, so the call itself
 * is made to fail, with the errno that the kernel would give: a seccomp filter
 * answers setsockopt(TCP_CONGESTION) with EPERM, and so it does for the ways
 * around it (io_uring, other system call tables).
 *
 * Capabilities beyond those that QEMU needs to drop the rest by itself
 * (-run-with user=) are taken away for good.
 *
 * no-congestion-choice --self-test prints the congestion control that a new
 * socket has, after trying to change it; 1 when that was possible.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the filter knows the system calls of x86-64 only"
#endif

#define X32_BIT 0x40000000u
#define FIELD(name) ((unsigned)offsetof(struct seccomp_data, name))
/* The low half of a 64-bit argument: the kernel takes these as int. */
#define ARGUMENT(n) (FIELD(args) + 8u * (n))
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void die(const char *what)
{
    fprintf(stderr, "no-congestion-choice: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void filter_install(void)
{
    struct sock_filter filter[] = {
        LOAD(FIELD(arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        REFUSE,
        LOAD(FIELD(nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
        REFUSE,
        UNLESS(SYS_io_uring_setup, 1),
        REFUSE,
        UNLESS(SYS_setsockopt, 5),
        LOAD(ARGUMENT(1)),
        UNLESS(IPPROTO_TCP, 3),
        LOAD(ARGUMENT(2)),
        UNLESS(TCP_CONGESTION, 1),
        REFUSE,
        ALLOW,
    };
    struct sock_fprog program = {
        .len = sizeof(filter) / sizeof(filter[0]),
        .filter = filter,
    };

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        die("seccomp filter");
    }
}

/* Files of the guest are opened, and the user is changed, before QEMU does
 * anything else; after that it has none of these either. */
static int is_kept(int capability)
{
    return capability == CAP_SETUID || capability == CAP_SETGID ||
           capability == CAP_DAC_OVERRIDE;
}

static void capabilities_drop(void)
{
    for (int c = 0; c <= CAP_LAST_CAP; c++) {
        if (!is_kept(c) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) &&
            errno != EINVAL) {
            die("capabilities");
        }
    }
}

static int self_test(void)
{
    char name[32] = "";
    const char *wanted = "reno";
    socklen_t length = sizeof(name) - 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int changed;

    if (fd < 0) {
        die("socket");
    }
    changed = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, wanted,
                         (socklen_t)strlen(wanted)) == 0;
    if (!changed && errno != EPERM) {
        die("TCP_CONGESTION");
    }
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length)) {
        die("TCP_CONGESTION");
    }
    printf("%s\n", name);
    return changed;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: no-congestion-choice PROGRAM ARGUMENTS...\n"
                        "       no-congestion-choice --self-test\n");
        return 2;
    }
    capabilities_drop();
    filter_install();
    if (strcmp(argv[1], "--self-test") == 0) {
        return self_test();
    }
    execvp(argv[1], argv + 1);
    die(argv[1]);
}
