/*
 * core/rampieces: which pieces of guest RAM are registered, and which come next
 *
 * Proves that only pieces with a page to write are asked for, in the order in
 * which they are written, and never more than DWCP_PIECES_AHEAD before a write;
 * and that a target which registers something else is refused.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>

#include "core/rampieces.h"

#define PAGE 4096u
#define CHUNKS_OF_PIECE (DWCP_PIECE_BYTES / (64 * PAGE))

static void set_up(DwcpPieces *pieces)
{
    dwcp_pieces_init(pieces);
    g_assert_cmpint(dwcp_pieces_add(pieces, 5 * DWCP_PIECE_BYTES), ==, 0);
    g_assert_cmpint(dwcp_pieces_add(pieces, DWCP_PIECE_BYTES + PAGE), ==, 0);
}

static void test_places(void)
{
    DwcpChunk chunk = { 0 };
    DwcpPieces pieces;

    set_up(&pieces);
    g_assert_nonnull(dwcp_pieces_at(&pieces, 0, 4));
    g_assert_null(dwcp_pieces_at(&pieces, 0, 5));
    g_assert_nonnull(dwcp_pieces_at(&pieces, 1, 1));
    g_assert_null(dwcp_pieces_at(&pieces, 1, 2));
    g_assert_null(dwcp_pieces_at(&pieces, 2, 0));
    g_assert_cmpuint(dwcp_pieces_bytes(&pieces, 0, 4), ==, DWCP_PIECE_BYTES);
    g_assert_cmpuint(dwcp_pieces_bytes(&pieces, 1, 0), ==, DWCP_PIECE_BYTES);
    g_assert_cmpuint(dwcp_pieces_bytes(&pieces, 1, 1), ==, PAGE);
    chunk.chunk = CHUNKS_OF_PIECE - 1;
    g_assert_cmpuint(dwcp_piece_of(&chunk, PAGE), ==, 0);
    chunk.chunk = CHUNKS_OF_PIECE;
    g_assert_cmpuint(dwcp_piece_of(&chunk, PAGE), ==, 1);
    chunk.chunk = 4;
    g_assert_cmpuint(dwcp_piece_of(&chunk, 65536), ==, 1);
    g_assert_cmpuint(dwcp_pieces_memory(&pieces), >=, 7 * sizeof(DwcpPiece));
    dwcp_pieces_clear(&pieces);
}

/* Zeros alone register nothing; others in their order, two ahead. */
static void test_want(void)
{
    DwcpPages pages = { .number = 1, .count = 5 };
    uint32_t block = 9, piece = 9;
    DwcpPieces pieces;
    DwcpPiece *at;
    unsigned i;

    set_up(&pieces);
    for (i = 0; i < 5; i++) {
        pages.chunks[i] = (DwcpChunk){ .chunk = i * CHUNKS_OF_PIECE,
                                       .present = 3,
                                       .zero = i == 1 ? 3 : 1 };
    }
    g_assert_true(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    g_assert_cmpuint(block, ==, 0);
    g_assert_cmpuint(piece, ==, 0);
    g_assert_true(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    g_assert_cmpuint(piece, ==, 2); /* 1 has zeros only */
    g_assert_false(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    at = dwcp_pieces_at(&pieces, 0, 0);
    at->local = true;
    g_assert_false(dwcp_piece_ready(at));
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 0, 0, DWCP_PIECE_BYTES, 5, 6,
                                       NULL),
                    ==, 0);
    g_assert_true(dwcp_piece_ready(at));
    g_assert_false(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    dwcp_pieces_write(&pieces, at);
    dwcp_pieces_write(&pieces, at); /* the first one counts */
    g_assert_true(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    g_assert_cmpuint(piece, ==, 3);
    g_assert_false(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    g_assert_cmpuint(pieces.asked, ==, 3);
    dwcp_pieces_clear(&pieces);
}

static void test_remote(void)
{
    DwcpPages pages = { .number = 1, .count = 1 };
    DwcpPieces pieces;
    uint32_t block, piece;

    set_up(&pieces);
    pages.chunks[0] = (DwcpChunk){ .block = 1, .chunk = CHUNKS_OF_PIECE,
                                   .present = 1 };
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 1, 1, PAGE, 5, 6, NULL), ==,
                    -EPROTO);
    g_assert_true(dwcp_pieces_want(&pieces, &pages, PAGE, &block, &piece));
    g_assert_cmpuint(block, ==, 1);
    g_assert_cmpuint(piece, ==, 1);
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 1, 1, PAGE + 1, 5, 6, NULL), ==,
                    -EPROTO);
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 1, 0, PAGE, 5, 6, NULL), ==,
                    -EPROTO);
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 7, 0, PAGE, 5, 6, NULL), ==,
                    -EPROTO);
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 1, 1, PAGE, 5, 6, NULL), ==, 0);
    g_assert_cmpint(dwcp_pieces_remote(&pieces, 1, 1, PAGE, 5, 6, NULL), ==,
                    -EPROTO);
    g_assert_cmpuint(dwcp_pieces_at(&pieces, 1, 1)->rkey, ==, 5);
    g_assert_cmpuint(dwcp_pieces_at(&pieces, 1, 1)->address, ==, 6);
    dwcp_pieces_clear(&pieces);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rampieces/places", test_places);
    g_test_add_func("/rampieces/want", test_want);
    g_test_add_func("/rampieces/remote", test_remote);
    return g_test_run();
}
