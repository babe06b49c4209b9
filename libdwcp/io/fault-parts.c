/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/fault-parts.h"

#include "core/bytes.h"

size_t dwcp_parts_clip(const struct iovec *parts, size_t count, size_t most,
                       struct iovec *out)
{
    size_t n;

    for (n = 0; n < count && most; n++) {
        out[n] = parts[n];
        if (out[n].iov_len > most) {
            out[n].iov_len = most;
        }
        most -= out[n].iov_len;
    }
    return n;
}

/* Goes over up to @length bytes that belong together.  Returns: how many. */
static size_t step(DwcpFollow *follow, const uint8_t *bytes, size_t length)
{
    if (follow->left) {
        length = length < follow->left ? length : follow->left;
        follow->left -= (uint32_t)length;
        return length;
    }
    follow->header[follow->head++] = *bytes;
    if (follow->head == DWCP_RECORD_HEADER) {
        follow->head = 0;
        follow->left = dwcp_get_le32(follow->header + 4);
    }
    return 1;
}

size_t dwcp_follow(DwcpFollow *follow, const struct iovec *parts, size_t count,
                   size_t most, unsigned type)
{
    size_t sum = 0, done, n, i;
    const uint8_t *bytes;

    for (i = 0; i < count; i++) {
        bytes = parts[i].iov_base;
        for (done = 0; done < parts[i].iov_len; done += n) {
            if (sum == most || (type && !follow->left && !follow->head &&
                                bytes[done] == type)) {
                return sum;
            }
            n = parts[i].iov_len - done;
            n = step(follow, bytes + done, n < most - sum ? n : most - sum);
            sum += n;
        }
    }
    return sum;
}
