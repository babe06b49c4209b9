/*
 * Super-packets: what a TUN device with segmentation offload hands over.
 *
 * A frame is a virtio_net_hdr followed by an IP packet. With offload the packet
 * may be up to 64 KiB of TCP payload under one header; a wire would carry it
 * as several segments, each with a copy of the header. The link counts wire
 * bytes and loses single segments, so it needs to know the segments and to
 * cut a range of them out.
 *
 * Threads: no state, any thread.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_GSO_H
#define WAN_GSO_H

#include <stddef.h>
#include <stdint.h>

/* sizeof(struct virtio_net_hdr): what a TUN device puts before each packet. */
#define WAN_VNET_BYTES 10u
/* The largest frame: an IP packet of 64 KiB behind the virtio_net_hdr. */
#define WAN_FRAME_MAX (WAN_VNET_BYTES + 65536u)
/* More segments than this in one frame are refused; TCP's smallest MSS is 48,
 * and Linux does not build super-packets of segments that small. */
#define WAN_SEGMENTS_MAX 1400u

typedef struct WanSegments {
    uint32_t header_bytes;  /* IP and TCP header of each segment */
    uint32_t payload_bytes; /* of all segments together */
    uint32_t segment_bytes; /* payload of each segment but the last */
    uint32_t count;         /* 1 for an ordinary packet */
    uint32_t wire_bytes;    /* of all segments with their headers */
} WanSegments;

/*
 * Reads the shape of a frame.
 *
 * Returns: 0, or -EBADMSG if the headers do not fit the length or the frame
 * is a kind of super-packet that was not asked for; *out is then unchanged.
 */
int wan_gso_parse(const uint8_t *frame, size_t length, WanSegments *out)
    __attribute__((warn_unused_result));

/* The wire bytes of segments [first, first + count). */
uint32_t wan_gso_wire_bytes(const WanSegments *shape, uint32_t first,
                            uint32_t count);

/*
 * Writes segments [first, first + count) of a frame as a frame of its own.
 *
 * @frame, @shape: a frame and what wan_gso_parse() said about it
 * @out: WAN_FRAME_MAX bytes, not overlapping @frame
 *
 * Returns: the length of the new frame.
 */
size_t wan_gso_extract(const uint8_t *frame, const WanSegments *shape,
                       uint32_t first, uint32_t count, uint8_t *out);

#endif
