/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "rdmakit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/rdma.h"

#undef ibv_reg_mr

#define ADDRESS "10.9.0.1" /* of the machine that tests/rdma makes */
#define PIECE_LEAST (1u << 20) /* what is smaller are slots for messages */

/* ------------------------------------------------------------- verbs -- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static RdmaFaults now;
static unsigned pieces, regions;
static struct ibv_qp *standing[RDMA_SIDES][4];

int __real_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
                          struct ibv_qp_init_attr *attr);
int __wrap_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
                          struct ibv_qp_init_attr *attr);
void __real_rdma_destroy_qp(struct rdma_cm_id *id);
void __wrap_rdma_destroy_qp(struct rdma_cm_id *id);
int __real_rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param);
int __wrap_rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param);
struct ibv_mr *__real_ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
                                 int access);
struct ibv_mr *__wrap_ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
                                 int access);
struct ibv_mr *__real_ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr,
                                       size_t length, uint64_t iova,
                                       unsigned access);
struct ibv_mr *__wrap_ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr,
                                       size_t length, uint64_t iova,
                                       unsigned access);
int __real_ibv_dereg_mr(struct ibv_mr *mr);
int __wrap_ibv_dereg_mr(struct ibv_mr *mr);

int __real_rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from,
                             struct sockaddr *to, int ms);
int __wrap_rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from,
                             struct sockaddr *to, int ms);

static struct rdma_cm_id *source_id; /* the one that resolves is the source's */

void rdma_faults(const RdmaFaults *faults)
{
    pthread_mutex_lock(&lock);
    now = faults ? *faults : (RdmaFaults){ 0 };
    pieces = 0;
    pthread_mutex_unlock(&lock);
}

int __wrap_rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from,
                             struct sockaddr *to, int ms)
{
    pthread_mutex_lock(&lock);
    source_id = id;
    pthread_mutex_unlock(&lock);
    return __real_rdma_resolve_addr(id, from, to, ms);
}

int __wrap_rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
                          struct ibv_qp_init_attr *attr)
{
    RdmaSide side;
    unsigned i;
    int rc;

    pthread_mutex_lock(&lock);
    side = id == source_id ? RDMA_SOURCE : RDMA_TARGET;
    if (now.no_qp[side]) {
        pthread_mutex_unlock(&lock);
        errno = ENODEV;
        return -1;
    }
    rc = __real_rdma_create_qp(id, pd, attr);
    for (i = 0; rc == 0 && i < 4; i++) {
        if (!standing[side][i]) {
            standing[side][i] = id->qp;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

void __wrap_rdma_destroy_qp(struct rdma_cm_id *id)
{
    unsigned i, side;

    pthread_mutex_lock(&lock);
    for (i = 0; i < 4; i++) {
        for (side = 0; side < RDMA_SIDES; side++) {
            if (standing[side][i] == id->qp) {
                standing[side][i] = NULL;
            }
        }
    }
    __real_rdma_destroy_qp(id);
    pthread_mutex_unlock(&lock);
}

int __wrap_rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
    uint8_t data[56];
    struct rdma_conn_param mine = *param;
    bool wrong;

    pthread_mutex_lock(&lock);
    wrong = now.wrong_token;
    pthread_mutex_unlock(&lock);
    if (wrong) {
        g_assert_cmpuint(param->private_data_len, <=, sizeof(data));
        memcpy(data, param->private_data, param->private_data_len);
        data[param->private_data_len - 1] ^= 1;
        mine.private_data = data;
    }
    return __real_rdma_connect(id, &mine);
}

/* Returns: whether this one may be. */
static bool count_region(size_t length)
{
    bool may;

    pthread_mutex_lock(&lock);
    pieces += length >= PIECE_LEAST && now.pieces_max;
    may = !now.pieces_max || pieces <= now.pieces_max;
    regions += may;
    pthread_mutex_unlock(&lock);
    errno = ENOMEM;
    return may;
}

struct ibv_mr *__wrap_ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length,
                                 int access)
{
    return count_region(length) ? __real_ibv_reg_mr(pd, addr, length, access)
                                : NULL;
}

struct ibv_mr *__wrap_ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr,
                                       size_t length, uint64_t iova,
                                       unsigned access)
{
    return count_region(length)
               ? __real_ibv_reg_mr_iova2(pd, addr, length, iova, access)
               : NULL;
}

int __wrap_ibv_dereg_mr(struct ibv_mr *mr)
{
    pthread_mutex_lock(&lock);
    regions--;
    pthread_mutex_unlock(&lock);
    return __real_ibv_dereg_mr(mr);
}

bool rdma_break(RdmaSide side)
{
    struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
    bool broken = false;
    unsigned i;

    pthread_mutex_lock(&lock);
    for (i = 0; i < 4; i++) {
        if (standing[side][i]) {
            broken |= ibv_modify_qp(standing[side][i], &attr,
                                    IBV_QP_STATE) == 0;
        }
    }
    pthread_mutex_unlock(&lock);
    return broken;
}

unsigned rdma_standing(RdmaSide side)
{
    unsigned i, count = 0;

    pthread_mutex_lock(&lock);
    for (i = 0; i < 4; i++) {
        count += standing[side][i] != NULL;
    }
    pthread_mutex_unlock(&lock);
    return count;
}

unsigned rdma_registered(void)
{
    unsigned count;

    pthread_mutex_lock(&lock);
    count = regions;
    pthread_mutex_unlock(&lock);
    return count;
}

/* -------------------------------------------------------------- ends -- */

const char *rdma_address(const char **why)
{
    static DwcpError err;
    const char *address = g_getenv("DWCP_RDMA_ADDRESS");

    *why = err.text;
    if (dwcp_rdma_check(&err) < 0) {
        return NULL;
    }
    return address ? address : ADDRESS;
}

DwcpSourceOptions rdma_source_options(void)
{
    const char *why;
    DwcpSourceOptions options = end_source_options(NULL);

    options.host = rdma_address(&why);
    options.rdma = DWCP_RDMA_ON;
    options.resume_ms_max = 0;
    return options;
}

DwcpTargetOptions rdma_target_options(void)
{
    DwcpTargetOptions options = end_target_options();

    options.rdma = DWCP_RDMA_AUTO;
    options.resume_ms_max = 0;
    return options;
}

static int listen_at(const char *address, char *port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };
    socklen_t length = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(inet_pton(AF_INET, address, &addr.sin_addr), ==, 1);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, length), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&addr, &length), ==, 0);
    g_snprintf(port, 8, "%u", ntohs(addr.sin_port));
    return fd;
}

/* What is used now, without a thread that was joined and still shows. */
static void usage_settled(Usage *usage)
{
    unsigned i;

    *usage = usage_now();
    for (i = 0; i < 20; i++) {
        (void)poll(NULL, 0, 1);
        usage->threads = MIN(usage->threads, usage_now().threads);
    }
}

void rdma_pair(RdmaPair *pair, const DwcpSourceOptions *source_options,
               const DwcpTargetOptions *target_options, uint64_t pages)
{
    DwcpSourceOptions options = *source_options;
    DwcpError err;
    int fd;

    memset(pair, 0, sizeof(*pair));
    fd = listen_at(options.host, pair->port);
    /* rdma_cm keeps the devices that it has found open for ever. */
    g_assert_cmpint(dwcp_rdma_address_check(fd, &err), ==, 0);
    usage_settled(&pair->before);
    pair->before.fds--; /* the listener goes with the target */
    g_assert_cmpint(end_try_target(&pair->target, target_options, fd, &err), ==,
                    0);
    options.port = pair->port;
    end_source(&pair->source, &options);
    ends_up(&pair->source, &pair->target, pages);
    g_assert_cmpint(dwcp_target_begin(pair->target.target), ==, 0);
}

void rdma_pair_free(RdmaPair *pair)
{
    end_free(&pair->source);
    end_free(&pair->target);
    g_assert_cmpuint(rdma_standing(RDMA_SOURCE), ==, 0);
    g_assert_cmpuint(rdma_standing(RDMA_TARGET), ==, 0);
    g_assert_cmpuint(rdma_registered(), ==, 0);
    usage_same(pair->before);
}

DwcpStats rdma_target_stats(RdmaPair *pair)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_target_stats(pair->target.target, &stats);
    return stats;
}

void rdma_wait_state(RdmaPair *pair, DwcpRdmaState state)
{
    DwcpStats stats = end_stats(&pair->source);

    while (stats.rdma < state) {
        if (stats.rdma == DWCP_RDMA_UNUSED) {
            g_error("no RDMA: %s", stats.rdma_why);
        }
        (void)poll(NULL, 0, 1);
        stats = end_stats(&pair->source);
    }
}
