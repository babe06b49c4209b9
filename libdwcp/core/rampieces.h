/*
 * Which pieces of guest RAM are registered for RDMA, and which come next
 *
 * Registering pins a piece with all its pages, so it is done for pieces that
 * have a page to write, when it is near: while DWCP_PIECES_AHEAD pieces were
 * asked for and have not been written to, no other is.  A piece is ready when
 * it is registered at both ends.  The target keeps its own with the same
 * structure.
 *
 * Threads: none of its own; the owner's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_RAMPIECES_H
#define DWCP_CORE_RAMPIECES_H

#include "core/wire.h"

typedef struct DwcpPiece {
    bool asked;   /* source: for both */
    bool local;   /* registered here */
    bool remote;  /* source: at the target too */
    bool written; /* source: a write was posted */
    uint32_t rkey;    /* source: the target's */
    uint64_t address; /* source: at the target */
    void *handle;     /* what was registered here, the owner's */
} DwcpPiece;

typedef struct DwcpPieceBlock {
    uint64_t bytes;
    uint32_t count;
    DwcpPiece *pieces;
} DwcpPieceBlock;

typedef struct DwcpPieces {
    DwcpPieceBlock *blocks;
    unsigned blocks_count;
    unsigned ahead; /* asked for and not written */
    uint64_t asked; /* ever */
} DwcpPieces;

void dwcp_pieces_init(DwcpPieces *pieces);
/* dwcp_pieces_add: the next block; Returns: 0, -ENOMEM */
int dwcp_pieces_add(DwcpPieces *pieces, uint64_t bytes) DWCP_CHECKED;
/* dwcp_pieces_clear: handles are the owner's to release before */
void dwcp_pieces_clear(DwcpPieces *pieces);

/* dwcp_pieces_at: NULL: there is no such piece */
DwcpPiece *dwcp_pieces_at(const DwcpPieces *pieces, uint32_t block,
                          uint32_t piece);
/* dwcp_pieces_bytes: of one that is there */
uint32_t dwcp_pieces_bytes(const DwcpPieces *pieces, uint32_t block,
                           uint32_t piece);
/* dwcp_piece_of: where a chunk stands */
uint32_t dwcp_piece_of(const DwcpChunk *chunk, uint32_t page_size);

/* dwcp_pieces_memory: bytes that they take */
uint64_t dwcp_pieces_memory(const DwcpPieces *pieces);

/*
 * dwcp_pieces_want: the first piece that the frame writes and that was not asked
 * for, if it may be now; then it is
 *
 * Returns: whether; *@block and *@piece.
 */
bool dwcp_pieces_want(DwcpPieces *pieces, const DwcpPages *pages,
                      uint32_t page_size, uint32_t *block, uint32_t *piece);

/* dwcp_pieces_remote: REGISTERED has come; Returns: 0; -EPROTO nobody asked for
 * it, or its length is another */
int dwcp_pieces_remote(DwcpPieces *pieces, uint32_t block, uint32_t piece,
                       uint32_t bytes, uint32_t rkey, uint64_t address,
                       DwcpError *err) DWCP_CHECKED;

/* dwcp_pieces_write: a write to a piece that is ready is posted */
void dwcp_pieces_write(DwcpPieces *pieces, DwcpPiece *piece);

static inline bool dwcp_piece_ready(const DwcpPiece *piece)
{
    return piece->local && piece->remote;
}

#endif
