/*
 * What the fuzz targets of whole ends do with their input
 *
 * The input is a list of pieces: one byte that says on which stream (bit 0),
 * two bytes of length, the bytes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_PIECES_H
#define DWCP_TESTS_PIECES_H

#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "kit.h"

/* pieces_feed: send each piece on its stream */
static inline void pieces_feed(const int fd[2], const uint8_t *data, size_t size)
{
    size_t length;

    for (; size >= 3; data += length, size -= length) {
        length = dwcp_get_le16(data + 1);
        length = length < size - 3 ? length : size - 3;
        raw_send(fd[data[0] & 1], data + 3, length);
        data += 3;
        size -= 3;
    }
}

/* pieces_hang_up: end both streams; reads on until the peer closes, for it may
 * be telling why */
static inline void pieces_hang_up(const int fd[2])
{
    int i;

    for (i = 0; i < 2; i++) {
        (void)shutdown(fd[i], SHUT_WR);
    }
    for (i = 0; i < 2; i++) {
        raw_until_closed(fd[i]);
        close(fd[i]);
    }
}

#endif
