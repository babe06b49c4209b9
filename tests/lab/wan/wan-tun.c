/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-tun.h"
#include "wan-gso.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct Failure {
    char *text;
    size_t bytes;
} Failure;

/* Says what failed and why; returns negative errno. */
static int __attribute__((format(printf, 2, 3)))
failed(const Failure *failure, const char *format, ...)
{
    int reason = errno;
    va_list arguments;
    size_t used;

    va_start(arguments, format);
    (void)vsnprintf(failure->text, failure->bytes, format, arguments);
    va_end(arguments);
    used = strlen(failure->text);
    (void)snprintf(failure->text + used, failure->bytes - used, ": %s",
                   strerror(reason));
    return -reason;
}

static int open_netns(const char *netns, const Failure *failure)
{
    char path[64];
    int fd;

    if (strchr(netns, '/') == NULL) {
        if (snprintf(path, sizeof(path), "/proc/%s/ns/net", netns) >=
            (int)sizeof(path)) {
            errno = ENAMETOOLONG;
            return failed(failure, "namespace '%s'", netns);
        }
        netns = path;
    }
    fd = open(netns, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : failed(failure, "cannot open namespace %s", netns);
}

/* Makes the device in the namespace that the thread is in. */
static int create_device(const char *name, const Failure *failure)
{
    struct ifreq request = {0};
    int header_bytes = WAN_VNET_BYTES;
    int fd;

    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return failed(failure, "cannot open /dev/net/tun");
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        int result = failed(failure, "cannot create TUN device %s", name);

        close(fd);
        return result;
    }
    if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) {
        int result = failed(failure, "cannot set offloads of %s", name);

        close(fd);
        return result;
    }
    return fd;
}

static int bring_up(const char *name, int mtu, const Failure *failure)
{
    struct ifreq request = {0};
    int result = 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return failed(failure, "cannot open a socket");
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    request.ifr_mtu = mtu;
    if (ioctl(fd, SIOCSIFMTU, &request) < 0) {
        result = failed(failure, "cannot set MTU %d of %s", mtu, name);
    } else if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) {
        result = failed(failure, "cannot read flags of %s", name);
    } else {
        request.ifr_flags |= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
            result = failed(failure, "cannot bring %s up", name);
        }
    }
    close(fd);
    return result;
}

static int open_here(const char *name, int mtu, const Failure *failure)
{
    int result;
    int fd = create_device(name, failure);

    if (fd < 0) {
        return fd;
    }
    result = bring_up(name, mtu, failure);
    if (result < 0) {
        close(fd);
        return result;
    }
    return fd;
}

int wan_tun_open(const char *netns, const char *name, int mtu, char *error,
                 size_t error_bytes)
{
    Failure failure = {error, error_bytes};
    int own, other, result;

    if (strlen(name) == 0 || strlen(name) >= IFNAMSIZ) {
        errno = EINVAL;
        return failed(&failure, "device name '%s'", name);
    }
    own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0) {
        return failed(&failure, "cannot open the own namespace");
    }
    other = open_netns(netns, &failure);
    if (other < 0) {
        close(own);
        return other;
    }
    if (setns(other, CLONE_NEWNET) < 0) {
        result = failed(&failure, "cannot enter namespace %s", netns);
    } else {
        result = open_here(name, mtu, &failure);
        if (setns(own, CLONE_NEWNET) < 0) {
            if (result >= 0) {
                close(result);
            }
            result = failed(&failure, "cannot leave namespace %s", netns);
        }
    }
    close(other);
    close(own);
    return result;
}
