/*
 * libdwcp: moves a running virtual machine's memory over several TCP streams,
 * or by RDMA
 *
 * One session moves one VM.  The source hands over runs of dirty pages and
 * never waits for them; worker threads copy, encode and queue them, stream
 * threads send what their socket takes, and the target applies each frame to
 * guest RAM in hand-over order, whatever order the frames arrive in.  Next to
 * the pages a session carries numbered reliable byte channels: channel 0 is
 * the hypervisor's own migration stream.
 *
 * Life of a session (S = source, T = target):
 *
 *   S new, connect           T new, listen
 *   S,T connected            channel 0 is usable on both sides
 *   S add_block ...          T add_block ..., begin: page frames may arrive
 *   S put, flush, round      T applies and acknowledges
 *   S end                    T memory_complete() becomes 1
 *                            T ready (device state is loaded as well)
 *   S finish: READY seen, GO sent; from here on the source must not run
 *                            T go() becomes 1: sealed, the guest may start
 *   S free                   T free
 *
 * Whatever fails before GO leaves the source free to run its guest again, and
 * the target can never be told to go.  The library never aborts, logs, raises
 * signals or exits on anything that a peer, a guest or the network does.
 *
 * Threads: a function may be called from any thread unless it says otherwise;
 * calls on one session may overlap, except that nothing may overlap `_free`.
 * Callbacks come from the library's threads with no lock held; they must not
 * block and must not call `_free`.
 *
 * Source: docs/wire.md has the bytes, docs/ARCHITECTURE.md the reasons.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_DWCP_H
#define DWCP_DWCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DWCP_API __attribute__((visibility("default")))
#define DWCP_CHECKED __attribute__((warn_unused_result))

#define DWCP_STREAMS_MAX 64
#define DWCP_STREAMS_DEFAULT 8
#define DWCP_WORKERS_MAX 64
#define DWCP_LEVEL_MAX 19
#define DWCP_LEVEL_AUTO (-1)
#define DWCP_RESUME_NEVER UINT32_MAX

/*
 * DwcpError: what went wrong, in the caller's memory
 *
 * @code: negative errno; -EPROTO the peer broke the protocol, -ENOTSUP no
 *        common version, feature or security, -ECANCELED cancelled on this
 *        side, -ECONNABORTED the peer gave up, -ETIMEDOUT no sign of life
 * @text: one line, what and where, without a newline; never NULL-terminated
 *        outside its 256 bytes
 */
typedef struct DwcpError {
    int code;
    char text[256];
} DwcpError;

/*
 * DwcpSecurity: how a session protects what it sends
 *
 * There is no default: each side says what it wants and both must agree.
 * PSK and KEYS authenticate both sides and encrypt everything but the
 * handshake's first two messages (docs/security.md).
 */
typedef enum DwcpSecurity {
    DWCP_SECURITY_UNSET = 0, /* refused by _new */
    DWCP_SECURITY_NONE = 1,  /* plain text, for trusted networks only */
    DWCP_SECURITY_PSK = 2,   /* both sides know a secret */
    DWCP_SECURITY_KEYS = 3,  /* each side knows the other's public key */
} DwcpSecurity;

#define DWCP_KEY_BYTES 32u
#define DWCP_PSK_BYTES_MIN 16u
#define DWCP_PSK_BYTES_MAX 1024u

/*
 * DwcpKeys: what a side proves itself with; copied by _new, the caller wipes
 * its own
 *
 * @psk, @psk_bytes: PSK: the secret both know.  It must be random: who
 *                   pretends to be a target or a source can try guesses
 * @own_key: KEYS: this side's X25519 private key, DWCP_KEY_BYTES
 * @peer_key: KEYS: the other side's X25519 public key, DWCP_KEY_BYTES
 */
typedef struct DwcpKeys {
    const uint8_t *psk;
    size_t psk_bytes;
    const uint8_t *own_key;
    const uint8_t *peer_key;
} DwcpKeys;

/*
 * DwcpEvents: what the library tells its user; any member may be NULL
 *
 * @connected: the session stands: channel 0 may be opened.  Once at most, and
 *             not begun once _cancel or _free was called.
 * @changed: memory_complete(), go() or the session's error may have a new
 *           answer.
 * @failed: the session is dead; @err is valid during the call.  Once at most,
 *          not begun once _cancel or _free was called; _cancel waits for
 *          nothing, so a call that was begun before may be ending still.
 *          Before @connected it means that the connection could not be made.
 * @warned: a connection was refused (target); the session is not affected.
 */
typedef struct DwcpEvents {
    void (*connected)(void *opaque);
    void (*changed)(void *opaque);
    void (*failed)(void *opaque, const DwcpError *err);
    void (*warned)(void *opaque, const DwcpError *err);
    void *opaque;
} DwcpEvents;

/* DwcpCipher: of a session's streams */
typedef enum DwcpCipher {
    DWCP_CIPHER_NONE = 0,
    DWCP_CIPHER_AES_256_GCM = 1,
    DWCP_CIPHER_CHACHA20_POLY1305 = 2,
} DwcpCipher;

/* DwcpMode: what kind of path a session has */
typedef enum DwcpMode {
    DWCP_MODE_MEASURED = 0,   /* an option: one of the others, as it turns out */
    DWCP_MODE_DATACENTER = 1, /* round trips below 10 ms, not known to be slow */
    DWCP_MODE_INTERNET = 2,   /* above 50 ms */
    DWCP_MODE_HYBRID = 3,     /* else, and until it is known */
} DwcpMode;

/* DwcpPriority: of a session against others on its path */
typedef enum DwcpPriority {
    DWCP_PRIORITY_NORMAL = 0, /* as TCP shares it */
    DWCP_PRIORITY_LOW = 1,    /* takes what others leave, until
                               * dwcp_source_end: then the guest waits */
} DwcpPriority;

/*
 * DwcpRdma: may pages travel by RDMA, from guest RAM into guest RAM?
 *
 * RDMA is plain text: only with DWCP_SECURITY_NONE.  The session itself stays
 * on TCP, and so do the pages where RDMA does not come to be or ends early; the
 * statistics then say why.
 *
 * While it is in use, guest RAM is pinned piece by piece, each with all its
 * pages: it must not be discarded or remapped (balloon, MADV_DONTNEED).
 */
typedef enum DwcpRdma {
    DWCP_RDMA_OFF = 0,
    DWCP_RDMA_ON = 1,   /* whatever the path is; _new and connecting fail
                         * without a device of our own */
    DWCP_RDMA_AUTO = 2, /* source: once the session is in datacenter mode;
                         * target: if the source wants it */
} DwcpRdma;

/* DwcpRdmaState: how far it has come */
typedef enum DwcpRdmaState {
    DWCP_RDMA_UNUSED = 0,  /* not wanted, or not possible: see rdma_why */
    DWCP_RDMA_WAITING = 1, /* for a peer, for datacenter mode, for its set-up */
    DWCP_RDMA_ACTIVE = 2,  /* it carries all pages */
    DWCP_RDMA_ENDED = 3,   /* it did: to the end, or see rdma_why */
} DwcpRdmaState;

#define DWCP_RDMA_WHY_BYTES 160u

/*
 * dwcp_rdma_check: is RDMA built in, and has this host a device?
 *
 * Returns: 0; -ENOTSUP it was built without; -ENODEV.
 */
DWCP_API int dwcp_rdma_check(DwcpError *err) DWCP_CHECKED;

/*
 * DwcpStats: counters of one session
 *
 * @size is set by the caller to sizeof(DwcpStats); a newer library fills only
 * that much, an older one leaves the rest zero.  Bytes and pages count from
 * the start of the session.
 */
typedef struct DwcpStats {
    size_t size;
    unsigned streams;      /* connections that stand now */
    unsigned workers;      /* encoder threads (source) */
    unsigned level;        /* zstd level of late, 0 = raw (source) */
    uint64_t rounds;       /* calls of dwcp_source_round */
    uint64_t zero_pages;   /* pages described as zero */
    uint64_t zstd_pages;   /* pages sent in compressed frames */
    uint64_t raw_pages;    /* pages sent as they are */
    uint64_t page_bytes;   /* guest bytes described so far */
    uint64_t wire_bytes;   /* bytes given to the sockets, headers included */
    uint64_t acked_bytes;  /* guest bytes that the target has applied */
    uint64_t pending_bytes; /* guest bytes handed over, not acknowledged */
    uint64_t memory_bytes; /* held by the library now: queues and buffers */
    uint64_t rtt_us;       /* smoothed RTT of stream 0, from TCP_INFO */
    DwcpCipher cipher;     /* what encrypts the streams */
    unsigned streams_lost; /* connections that ended too early */
    unsigned resumes;      /* times that the session had lost all of them */
    uint64_t reconnecting_ms; /* for so long no connection has stood; 0 = one
                               * does */
    uint64_t resent_bytes; /* bytes that lost streams had sent in vain */
    DwcpMode mode;         /* now (source; 0 at a target) */
    unsigned streams_wanted; /* connections that there should be (source) */
    uint64_t dry_ms;       /* in all, for so long nothing that was handed over
                            * waited for a stream: rates of such times say what
                            * the user gave, not what the path takes (source) */
    uint64_t pace_bytes_per_s; /* what low priority allows now; 0 = no matter
                                * (source) */
    uint64_t host_cap_bytes_per_s; /* of all that share it; 0 = none (source) */
    DwcpRdmaState rdma;
    unsigned rdma_first_pieces; /* of guest RAM that were registered, or being
                                 * registered, when the first page was written
                                 * by RDMA (source) */
    uint64_t rdma_bytes; /* of guest RAM written by RDMA (source) */
    uint64_t rdma_registered_bytes;      /* of guest RAM that are pinned now */
    char rdma_why[DWCP_RDMA_WHY_BYTES]; /* why it is unused or ended early; one
                                         * line, or empty */
} DwcpStats;

/* ------------------------------------------------------------ source -- */

typedef struct DwcpSource DwcpSource;

/*
 * DwcpSourceOptions: what a source needs to know; zero means the default
 *
 * @host, @port: where the target listens; a name or address, a number or
 *               service name; copied
 * @family: AF_UNSPEC, AF_INET or AF_INET6
 * @security: has no default
 * @keys: for it
 * @sockets, @sockets_count: TCP sockets that are not connected yet, with the
 *                           congestion control and buffers that the caller was
 *                           permitted to set; used before any of our own, if
 *                           their family fits, and again after a connection was
 *                           lost; at most @streams, if that is not 0.  On
 *                           success the library owns them
 * @host_cap: a memfd with the cap on what all migrations of this host send
 *            together, which the sources of other processes have as well
 *            (docs/wire.md); NULL: none.  Sealed against shrinking at least.  On
 *            success the library owns it
 * @resume_ms_max: how long a session that has lost all its connections tries
 *                 to make new ones before END; 0 = default, 60000;
 *                 DWCP_RESUME_NEVER
 * @page_size: bytes, a power of two from 1024 to 65536
 * @streams: 1 to DWCP_STREAMS_MAX; 0: begin with DWCP_STREAMS_DEFAULT, then as
 *           many as the path needs, if lost connections are replaced
 * @mode: DWCP_MODE_MEASURED, or what it is to be taken for
 * @priority: see there
 * @workers: 1 to DWCP_WORKERS_MAX; default: the online processors, at most 8
 * @level: zstd level, 0 (raw) to DWCP_LEVEL_MAX; or DWCP_LEVEL_AUTO: frame by
 *         frame 2, or 3 while a slow link is full, or 0 on a short path where
 *         the link is faster than the workers
 * @queue_bytes_max: limit of encoded, unsent bytes; default 32 MiB
 * @queue_ms_max: the same in milliseconds of the measured rate; default 100
 * @silence_ms_max: the session fails when the peer shows no sign of life for
 *                  so long; and, from dwcp_source_end on, when the target
 *                  does not become ready and nothing moves, or
 *                  dwcp_source_finish is not called for so long after it did;
 *                  default 30000; less than twice the target's, or GO may come
 *                  to a target that has given up
 * @switchover_ms_max: the same once dwcp_source_end was called; default 5000
 * @rdma: default off
 */
typedef struct DwcpSourceOptions {
    const char *host;
    const char *port;
    int family;
    DwcpSecurity security;
    DwcpKeys keys;
    const int *sockets;
    unsigned sockets_count;
    const int *host_cap;
    uint32_t resume_ms_max;
    uint32_t page_size;
    unsigned streams;
    DwcpMode mode;
    DwcpPriority priority;
    unsigned workers;
    int level;
    uint32_t queue_bytes_max;
    uint32_t queue_ms_max;
    uint32_t silence_ms_max;
    uint32_t switchover_ms_max;
    DwcpRdma rdma;
    DwcpEvents events;
} DwcpSourceOptions;

/*
 * dwcp_source_new: make a source that is not connected yet
 *
 * Returns: 0 and *@out, to be freed with dwcp_source_free; -EINVAL an option
 * is out of range, -ENOTSUP the security is unset or unknown, or RDMA is on and
 * is not built in or would have to be encrypted, -ENODEV it is on and there is
 * no device, -ENOMEM, -EMFILE.
 */
DWCP_API int dwcp_source_new(const DwcpSourceOptions *options,
                             DwcpSource **out, DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_source_connect: begin to connect; the answer is an event
 *
 * Returns: 0, or -EAGAIN when a thread could not be started.
 */
DWCP_API int dwcp_source_connect(DwcpSource *source,
                                 DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_source_take_channel: the local end of byte channel @channel
 *
 * Valid once connected.  The descriptor is a connected AF_UNIX stream socket,
 * blocking, close-on-exec; the caller owns it.  Closing or shutting it down
 * before GO cancels the session: that is how a hypervisor's own cancel
 * reaches the library.
 *
 * Returns: a descriptor; -EINVAL no such channel, -EBUSY taken already,
 * -ENOTCONN.
 */
DWCP_API int dwcp_source_take_channel(DwcpSource *source, unsigned channel,
                                      DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_source_add_block: name a range of guest RAM
 *
 * Blocks get their index in the order of the calls: 0, 1, ...; the target
 * must add the same blocks in the same order.  To be called before the first
 * dwcp_source_put.
 *
 * @host: where the block is mapped; must stay mapped until _free returned
 * @length: bytes, a multiple of the page size
 *
 * Returns: the index; -EINVAL (also after the first put), -ENOBUFS more than
 * 65536 blocks, -ENOMEM.
 */
DWCP_API int dwcp_source_add_block(DwcpSource *source, const void *host,
                                   uint64_t length,
                                   DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_source_put: hand over @pages pages of @block, from page @first on
 *
 * Never waits.  The pages are read later, from worker threads: whatever is
 * written to them after this call must be handed over again.  A page may be
 * handed over again only after dwcp_source_round.
 *
 * Returns: 0; -EINVAL out of the block, or the session's error (then nothing
 * was taken).
 * Threads: one thread at a time calls put, flush, round and end.
 * Complexity: O(pages / 64).
 */
DWCP_API int dwcp_source_put(DwcpSource *source, unsigned block,
                             uint64_t first, uint64_t pages) DWCP_CHECKED;

/*
 * dwcp_source_flush: let go what put still holds back to merge with more
 *
 * Never waits.  To be called before waiting for anything to drain.
 */
DWCP_API void dwcp_source_flush(DwcpSource *source);

/*
 * dwcp_source_round: the dirty log was read anew
 *
 * Never waits.
 */
DWCP_API void dwcp_source_round(DwcpSource *source);

/*
 * dwcp_source_full: should the caller stop putting for now?
 *
 * A hint: put still takes what it is given.
 */
DWCP_API bool dwcp_source_full(DwcpSource *source);

/*
 * dwcp_source_wait: wait until there is room and something was acknowledged
 *
 * Returns at once when the session is idle (nothing pending), but not while it
 * has no connection: then there is nothing to do but to wait.  Must be called
 * without any lock that a cancel needs.
 *
 * Returns: 0 room or idle, 1 @timeout_ms passed, or the session's error.
 */
DWCP_API int dwcp_source_wait(DwcpSource *source,
                              unsigned timeout_ms) DWCP_CHECKED;

/* dwcp_source_pending_bytes: guest bytes handed over, not acknowledged */
DWCP_API uint64_t dwcp_source_pending_bytes(DwcpSource *source);

/* dwcp_source_acked_bytes: guest bytes that the target has applied, ever */
DWCP_API uint64_t dwcp_source_acked_bytes(DwcpSource *source);

/*
 * dwcp_source_set_rate: limit what all streams send together
 *
 * @bytes_per_s: bytes of pages on the wire per second, before encryption; 0 = no
 *               limit.  A host's cap holds besides
 */
DWCP_API void dwcp_source_set_rate(DwcpSource *source, uint64_t bytes_per_s);

/*
 * dwcp_source_end: all pages have been handed over
 *
 * Flushes, never waits.  From here on the switchover limit holds.
 */
DWCP_API int dwcp_source_end(DwcpSource *source) DWCP_CHECKED;

/*
 * dwcp_source_finish: wait for READY, send GO, wait until the target is sealed
 *
 * Must be called without any lock that a cancel needs, after the last byte
 * was written to channel 0.
 *
 * Returns: 0 the target is sealed and may run; 1 GO was sent but not
 * confirmed: the target may run, so the source must not; or the session's
 * error: GO was not sent and never will be, the source may run.
 */
DWCP_API int dwcp_source_finish(DwcpSource *source,
                                DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_source_gone: has GO been sent?
 *
 * Once true, the source's guest must not run again.  After dwcp_source_cancel
 * returned, the answer is final.
 */
DWCP_API bool dwcp_source_gone(DwcpSource *source);

/*
 * dwcp_source_cancel: end the session now
 *
 * Does not wait.  Every call that waits returns -ECANCELED.  Idempotent.
 */
DWCP_API void dwcp_source_cancel(DwcpSource *source);

/*
 * dwcp_source_error: why the session is dead
 *
 * Returns: 0 it is not; else err->code.
 */
DWCP_API int dwcp_source_error(DwcpSource *source, DwcpError *err);

DWCP_API void dwcp_source_stats(DwcpSource *source, DwcpStats *stats);

/*
 * dwcp_source_free: cancel, join all threads, release everything
 *
 * Afterwards nothing reads guest RAM.  NULL is allowed.
 */
DWCP_API void dwcp_source_free(DwcpSource *source);

/* ------------------------------------------------------------ target -- */

typedef struct DwcpTarget DwcpTarget;

/*
 * DwcpTargetOptions: what a target needs to know; zero means the default
 *
 * @security: has no default
 * @keys: for it
 * @resume_ms_max: as for the source
 * @page_size: as for the source; both must agree
 * @silence_ms_max: as for the source; the session fails after it, and when
 *                  dwcp_target_ready was called and GO does not come in twice
 *                  that time
 * @rdma: default off
 */
typedef struct DwcpTargetOptions {
    DwcpSecurity security;
    DwcpKeys keys;
    uint32_t resume_ms_max;
    uint32_t page_size;
    uint32_t silence_ms_max;
    DwcpRdma rdma;
    DwcpEvents events;
} DwcpTargetOptions;

/* dwcp_target_new: make a target; Returns: as dwcp_source_new */
DWCP_API int dwcp_target_new(const DwcpTargetOptions *options,
                             DwcpTarget **out, DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_target_listen: accept the session's streams from a listening socket
 *
 * A connection that does not speak the protocol, or not for this session, is
 * refused with a reason and closed; the listener goes on.
 *
 * @listen_fd: a listening TCP socket; the library owns it on success
 *
 * Returns: 0; -EINVAL not a listening socket, -EBUSY called twice, -EAGAIN
 * when a thread could not be started.
 */
DWCP_API int dwcp_target_listen(DwcpTarget *target, int listen_fd,
                                DwcpError *err) DWCP_CHECKED;

/* dwcp_target_take_channel: as dwcp_source_take_channel */
DWCP_API int dwcp_target_take_channel(DwcpTarget *target, unsigned channel,
                                      DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_target_add_block: name a range of guest RAM that frames may write
 *
 * To be called in the source's order, before dwcp_target_begin.
 *
 * @host: must stay mapped and writable until go() was 1 or _free returned
 *
 * Returns: the index; -EINVAL (also after begin), -ENOBUFS more than 65536
 * blocks, -ENOMEM.
 */
DWCP_API int dwcp_target_add_block(DwcpTarget *target, void *host,
                                   uint64_t length,
                                   DwcpError *err) DWCP_CHECKED;

/* dwcp_target_begin: all blocks are known; frames may be applied */
DWCP_API int dwcp_target_begin(DwcpTarget *target) DWCP_CHECKED;

/*
 * dwcp_target_memory_complete: has all that the source handed over arrived?
 *
 * Returns: 1 yes, 0 not yet (a `changed` event follows), or the session's
 * error.
 */
DWCP_API int dwcp_target_memory_complete(DwcpTarget *target) DWCP_CHECKED;

/*
 * dwcp_target_ready: tell the source that memory and devices are loaded
 *
 * Never waits.  Returns: 0; -EINVAL memory is not complete; or the error.
 */
DWCP_API int dwcp_target_ready(DwcpTarget *target) DWCP_CHECKED;

/*
 * dwcp_target_go: may the guest run here?
 *
 * Once 1, no library thread touches guest RAM again, and later trouble on the
 * connection changes nothing about the answer.
 *
 * Returns: 1 yes, 0 not yet (a `changed` event follows), or the error: the
 * guest must not run here.
 */
DWCP_API int dwcp_target_go(DwcpTarget *target) DWCP_CHECKED;

/* the same as their namesakes of the source */
DWCP_API void dwcp_target_cancel(DwcpTarget *target);
DWCP_API int dwcp_target_error(DwcpTarget *target, DwcpError *err);
DWCP_API void dwcp_target_stats(DwcpTarget *target, DwcpStats *stats);
DWCP_API void dwcp_target_free(DwcpTarget *target);

#ifdef __cplusplus
}
#endif

#endif /* DWCP_DWCP_H */
