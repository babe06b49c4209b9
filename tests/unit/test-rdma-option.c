/*
 * The option rdma, where no device is needed
 *
 * Proves that what cannot be is refused when it was demanded, with the cause,
 * and is in the statistics when it was only allowed; and that a session that
 * may use RDMA and cannot moves its pages as if nothing had been said.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "kit.h"

static const uint8_t secret[DWCP_PSK_BYTES_MIN] = { 1, 2, 3 };

/* Returns: what both kinds of end say to these, which is the same. */
static int try(DwcpRdma rdma, DwcpSecurity security, DwcpError *err,
               DwcpStats *stats)
{
    DwcpSourceOptions source_options = end_source_options("1");
    DwcpTargetOptions target_options = end_target_options();
    DwcpStats target_stats = { .size = sizeof(target_stats) };
    DwcpSource *source = NULL;
    DwcpTarget *target = NULL;
    DwcpError again = { 0 };
    int rc;

    source_options.rdma = target_options.rdma = rdma;
    source_options.security = target_options.security = security;
    if (security == DWCP_SECURITY_PSK) {
        source_options.keys.psk = target_options.keys.psk = secret;
        source_options.keys.psk_bytes = target_options.keys.psk_bytes =
            sizeof(secret);
    }
    *err = (DwcpError){ 0 };
    *stats = (DwcpStats){ .size = sizeof(*stats) };
    rc = dwcp_source_new(&source_options, &source, err);
    g_assert_cmpint(dwcp_target_new(&target_options, &target, &again), ==, rc);
    g_assert_cmpstr(again.text, ==, err->text);
    if (rc == 0) {
        dwcp_source_stats(source, stats);
        dwcp_target_stats(target, &target_stats);
        g_assert_cmpuint(target_stats.rdma, ==, stats->rdma);
        g_assert_cmpstr(target_stats.rdma_why, ==, stats->rdma_why);
    }
    dwcp_source_free(source);
    dwcp_target_free(target);
    return rc;
}

static void test_values(void)
{
    DwcpStats stats;
    DwcpError err;

    g_assert_cmpint(try(DWCP_RDMA_OFF, DWCP_SECURITY_NONE, &err, &stats), ==,
                    0);
    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_cmpstr(stats.rdma_why, ==, "");
    g_assert_cmpint(try((DwcpRdma)3, DWCP_SECURITY_NONE, &err, &stats), ==,
                    -EINVAL);
    g_assert_nonnull(strstr(err.text, "rdma 3"));
}

/* An encrypted session and RDMA exclude each other, device or not. */
static void test_keyed(void)
{
    DwcpStats stats;
    DwcpError err;

    g_assert_cmpint(try(DWCP_RDMA_ON, DWCP_SECURITY_PSK, &err, &stats), ==,
                    -ENOTSUP);
    g_assert_nonnull(strstr(err.text, "rdma=off"));
    g_assert_nonnull(strstr(err.text, "security=none"));
    g_assert_cmpint(try(DWCP_RDMA_AUTO, DWCP_SECURITY_PSK, &err, &stats), ==,
                    0);
    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_nonnull(strstr(stats.rdma_why, "plain text"));
    g_assert_cmpint(try(DWCP_RDMA_OFF, DWCP_SECURITY_PSK, &err, &stats), ==,
                    0);
    g_assert_cmpstr(stats.rdma_why, ==, "");
}

static void test_device(void)
{
    DwcpError why = { 0 }, err;
    DwcpStats stats;
    int rc = dwcp_rdma_check(&why);

    g_assert_true(rc == 0 || rc == -ENODEV || rc == -ENOTSUP);
    g_assert_cmpint(why.code, ==, rc);
    g_assert_cmpint(try(DWCP_RDMA_ON, DWCP_SECURITY_NONE, &err, &stats), ==,
                    rc);
    g_assert_cmpstr(err.text, ==, why.text);
    g_assert_cmpint(try(DWCP_RDMA_AUTO, DWCP_SECURITY_NONE, &err, &stats), ==,
                    0);
    g_assert_cmpuint(stats.rdma, ==,
                     rc ? DWCP_RDMA_UNUSED : DWCP_RDMA_WAITING);
    g_assert_cmpint(strncmp(stats.rdma_why, why.text,
                            sizeof(stats.rdma_why) - 1),
                    ==, 0);
}

/* 127.0.0.1 is no device's: the pages take TCP, whatever this host has. */
static void test_stays_on_tcp(void)
{
    DwcpSourceOptions source_options;
    DwcpTargetOptions target_options = end_target_options();
    DwcpStats stats = { .size = sizeof(stats) };
    End source, target;
    char port[8];

    target_options.rdma = DWCP_RDMA_AUTO;
    end_target(&target, &target_options, port);
    source_options = end_source_options(port);
    source_options.rdma = DWCP_RDMA_AUTO;
    source_options.mode = DWCP_MODE_DATACENTER;
    end_source(&source, &source_options);
    end_ram(&source, 300);
    end_ram(&target, 300);
    memset(source.ram, 0x5a, 200 * PAGE);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    g_assert_cmpint(dwcp_target_begin(target.target), ==, 0);
    g_assert_cmpint(dwcp_source_put(source.source, 0, 0, 300), ==, 0);
    ends_finish(&source, &target);
    dwcp_source_stats(source.source, &stats);
    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_cmpstr(stats.rdma_why, !=, "");
    g_assert_cmpuint(stats.rdma_bytes, ==, 0);
    g_assert_cmpuint(stats.rdma_registered_bytes, ==, 0);
    end_free(&source);
    end_free(&target);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rdma-option/values", test_values);
    g_test_add_func("/rdma-option/keyed", test_keyed);
    g_test_add_func("/rdma-option/device", test_device);
    g_test_add_func("/rdma-option/stays-on-tcp", test_stays_on_tcp);
    return g_test_run();
}
