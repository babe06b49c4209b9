/*
 * What the fuzz targets of whole ends do with their input
 *
 * The input is a list of pieces: one byte that says on which stream (bit 0), and
 * to some targets more; two bytes of length; the bytes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_PIECES_H
#define DWCP_TESTS_PIECES_H

#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "kit.h"

typedef struct Piece {
    uint8_t how;
    const uint8_t *bytes;
    size_t length;
} Piece;

/* pieces_next: take one from the input; false: there is none */
static inline bool pieces_next(const uint8_t **data, size_t *size, Piece *piece)
{
    if (*size < 3) {
        return false;
    }
    *piece = (Piece){ (*data)[0], *data + 3, dwcp_get_le16(*data + 1) };
    piece->length = piece->length < *size - 3 ? piece->length : *size - 3;
    *data += 3 + piece->length;
    *size -= 3 + piece->length;
    return true;
}

/* pieces_feed: send each piece on its stream */
static inline void pieces_feed(const int fd[2], const uint8_t *data, size_t size)
{
    Piece piece;

    while (pieces_next(&data, &size, &piece)) {
        raw_send(fd[piece.how & 1], piece.bytes, piece.length);
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
