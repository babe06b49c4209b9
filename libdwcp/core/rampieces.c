/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/rampieces.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/fail.h"

void dwcp_pieces_init(DwcpPieces *pieces)
{
    memset(pieces, 0, sizeof(*pieces));
}

int dwcp_pieces_add(DwcpPieces *pieces, uint64_t bytes)
{
    uint64_t count = (bytes + DWCP_PIECE_BYTES - 1) / DWCP_PIECE_BYTES;
    DwcpPieceBlock *blocks;

    if (!count || count > UINT32_MAX) {
        return -ENOMEM;
    }
    blocks = realloc(pieces->blocks,
                     (pieces->blocks_count + 1) * sizeof(*blocks));
    if (!blocks) {
        return -ENOMEM;
    }
    pieces->blocks = blocks;
    blocks[pieces->blocks_count] = (DwcpPieceBlock){
        bytes, (uint32_t)count, calloc(count, sizeof(DwcpPiece))
    };
    if (!blocks[pieces->blocks_count].pieces) {
        return -ENOMEM;
    }
    pieces->blocks_count++;
    return 0;
}

void dwcp_pieces_clear(DwcpPieces *pieces)
{
    unsigned i;

    for (i = 0; i < pieces->blocks_count; i++) {
        free(pieces->blocks[i].pieces);
    }
    free(pieces->blocks);
    dwcp_pieces_init(pieces);
}

DwcpPiece *dwcp_pieces_at(const DwcpPieces *pieces, uint32_t block,
                          uint32_t piece)
{
    return block < pieces->blocks_count &&
                   piece < pieces->blocks[block].count
               ? &pieces->blocks[block].pieces[piece]
               : NULL;
}

uint32_t dwcp_pieces_bytes(const DwcpPieces *pieces, uint32_t block,
                           uint32_t piece)
{
    uint64_t rest = pieces->blocks[block].bytes -
                    (uint64_t)piece * DWCP_PIECE_BYTES;

    return rest < DWCP_PIECE_BYTES ? (uint32_t)rest : DWCP_PIECE_BYTES;
}

uint32_t dwcp_piece_of(const DwcpChunk *chunk, uint32_t page_size)
{
    return chunk->chunk / (DWCP_PIECE_BYTES / (DWCP_CHUNK_PAGES * page_size));
}

uint64_t dwcp_pieces_memory(const DwcpPieces *pieces)
{
    uint64_t bytes = pieces->blocks_count * sizeof(*pieces->blocks);
    unsigned i;

    for (i = 0; i < pieces->blocks_count; i++) {
        bytes += pieces->blocks[i].count * sizeof(DwcpPiece);
    }
    return bytes;
}

bool dwcp_pieces_want(DwcpPieces *pieces, const DwcpPages *pages,
                      uint32_t page_size, uint32_t *block, uint32_t *piece)
{
    const DwcpChunk *chunk;
    DwcpPiece *at;
    unsigned i;

    for (i = 0; pieces->ahead < DWCP_PIECES_AHEAD && i < pages->count; i++) {
        chunk = &pages->chunks[i];
        at = dwcp_pieces_at(pieces, chunk->block,
                            dwcp_piece_of(chunk, page_size));
        assert(at);
        if (chunk->present != chunk->zero && !at->asked) {
            at->asked = true;
            pieces->ahead++;
            pieces->asked++;
            *block = chunk->block;
            *piece = dwcp_piece_of(chunk, page_size);
            return true;
        }
    }
    return false;
}

int dwcp_pieces_remote(DwcpPieces *pieces, uint32_t block, uint32_t piece,
                       uint32_t bytes, uint32_t rkey, uint64_t address,
                       DwcpError *err)
{
    DwcpPiece *at = dwcp_pieces_at(pieces, block, piece);

    if (!at || !at->asked || at->remote ||
        bytes != dwcp_pieces_bytes(pieces, block, piece)) {
        return dwcp_fail(err, -EPROTO,
                         "RDMA: REGISTERED piece %u of block %u, %u bytes, "
                         "which nobody waits for",
                         piece, block, bytes);
    }
    at->remote = true;
    at->rkey = rkey;
    at->address = address;
    return 0;
}

void dwcp_pieces_write(DwcpPieces *pieces, DwcpPiece *piece)
{
    assert(dwcp_piece_ready(piece));
    if (!piece->written) {
        piece->written = true;
        pieces->ahead--;
    }
}
