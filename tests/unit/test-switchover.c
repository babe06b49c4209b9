/*
 * Promise number one: never do both ends run
 *
 * A relay sits on the connections and, at each record of the switchover, and
 * before, in the middle of and after it, cuts them, freezes them, or has one
 * of the users cancel in one of the ways there are.  Proves that afterwards
 * the ends agree (move_end()), and that the outcome is the one that the wire
 * format promises for that moment: a source that has not sent GO is free, a
 * target that has got it runs.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "move.h"
#include "relay.h"

typedef enum Action {
    ACTION_CLOSE,
    ACTION_RESET,
    ACTION_FREEZE,
    ACTION_CANCEL_SOURCE,
    ACTION_CANCEL_TARGET,
    ACTION_SHUT_SOURCE, /* shut down channel 0 */
    ACTION_SHUT_TARGET,
    ACTIONS,
} Action;

static const char *const action_names[ACTIONS] = {
    "close",         "reset",       "freeze",      "cancel-source",
    "cancel-target", "shut-source", "shut-target",
};

static const struct {
    DwcpRecordType type;
    const char *name;
} types[] = {
    { DWCP_RECORD_BEGIN, "begin" }, { DWCP_RECORD_PAGES, "pages" },
    { DWCP_RECORD_ACK, "ack" },     { DWCP_RECORD_END, "end" },
    { DWCP_RECORD_READY, "ready" }, { DWCP_RECORD_GO, "go" },
    { DWCP_RECORD_SEALED, "sealed" },
};

static const char *const when_names[] = { "before", "middle", "after" };

typedef struct Case {
    unsigned type; /* index */
    RelayWhen when;
    Action action;
    bool gone, go, sure; /* what must come out, if it is sure */
} Case;

static void call_action(Move *move, Action action)
{
    End *end = action == ACTION_CANCEL_SOURCE || action == ACTION_SHUT_SOURCE
                   ? &move->source
                   : &move->target;

    if (action == ACTION_CANCEL_SOURCE) {
        dwcp_source_cancel(end->source);
    } else if (action == ACTION_CANCEL_TARGET) {
        dwcp_target_cancel(end->target);
    } else {
        pthread_mutex_lock(&end->lock);
        if (end->channel >= 0) {
            (void)shutdown(end->channel, SHUT_RDWR);
        }
        pthread_mutex_unlock(&end->lock);
    }
}

typedef struct Call {
    Move *move;
    Action action;
} Call;

static void call_run(void *opaque)
{
    Call *call = opaque;

    call_action(call->move, call->action);
}

static RelayAct relay_act(Action action)
{
    return action == ACTION_CLOSE    ? RELAY_CLOSE
           : action == ACTION_RESET  ? RELAY_RESET
           : action == ACTION_FREEZE ? RELAY_FREEZE
                                     : RELAY_CALL;
}

static void run_case(const Case *c)
{
    DwcpTargetOptions target_options = end_target_options();
    DwcpSourceOptions source_options = end_source_options(NULL);
    MoveOutcome out;
    Relay *relay;
    RelayPlan plan;
    char port[8];
    Move move;
    Call call = { &move, c->action };
    bool fired;

    if (c->action == ACTION_FREEZE) {
        target_options.silence_ms_max = 6000;
        source_options.silence_ms_max = 6000;
        source_options.switchover_ms_max = 4000;
    }
    move_new(&move, &target_options);
    plan = (RelayPlan){ types[c->type].type, c->when, relay_act(c->action),
                        call_run, &call };
    relay = relay_new(&plan, move.port, port);
    move_start(&move, &source_options, port);
    out = move_end(&move);
    fired = relay_free(relay);
    move_free(&move);
    if (!fired && c->sure) {
        g_error("no %s passed", types[c->type].name);
    }
    if (fired && c->sure) {
        g_assert_cmpint(out.gone, ==, c->gone);
        g_assert_cmpint(out.go, ==, c->go);
    }
}

/* What the wire format promises; actions of a user race with the records that
 * are on their way, so little is sure of them but what move_end() checks. */
static Case case_of(unsigned type, RelayWhen when, Action action)
{
    DwcpRecordType t = types[type].type;
    Case c = { type, when, action, false, false, true };

    if (t == DWCP_RECORD_GO) {
        c.gone = true;
        c.go = when == RELAY_AFTER;
        /* A reset may take what was sent right before it along. */
        c.sure = action == ACTION_CLOSE || action == ACTION_FREEZE ||
                 (action == ACTION_RESET && when != RELAY_AFTER);
        if (action == ACTION_CANCEL_SOURCE || action == ACTION_SHUT_SOURCE) {
            c.sure = true; /* too late: it is on its way */
            c.go = true;
        }
        if (action == ACTION_CANCEL_TARGET && when != RELAY_AFTER) {
            c.sure = true;
        }
    } else if (t == DWCP_RECORD_SEALED) {
        c.gone = c.go = true;
    } else if (t == DWCP_RECORD_ACK || action == ACTION_SHUT_SOURCE ||
               action == ACTION_SHUT_TARGET) {
        /* The last ACKs are overtaken by READY.  That a channel was shut down
         * is noticed a moment later, or it has not been taken yet. */
        c.sure = false;
    } else if (t == DWCP_RECORD_READY) {
        /* Once it has passed, or passes behind the target's back, GO may be on
         * its way before the rest is known. */
        c.sure = when != RELAY_AFTER && action != ACTION_CANCEL_TARGET;
    } else if (t == DWCP_RECORD_END) {
        c.sure = when != RELAY_AFTER || action != ACTION_CANCEL_TARGET;
    }
    return c;
}

static void test_case(gconstpointer opaque)
{
    const Case *c = opaque;
    unsigned i;

    for (i = 0; i < kit_soak(1, 200); i++) {
        run_case(c);
    }
}

static gpointer freeze_run(gpointer opaque)
{
    run_case(opaque);
    return NULL;
}

/* The freezes wait for their timeouts, all at once. */
static void test_freezes(void)
{
    GThread *threads[G_N_ELEMENTS(types) * 3];
    Case cases[G_N_ELEMENTS(types) * 3];
    unsigned type, when, n = 0, i;

    for (type = 0; type < G_N_ELEMENTS(types); type++) {
        for (when = RELAY_BEFORE; when <= RELAY_AFTER; when++) {
            cases[n] = case_of(type, (RelayWhen)when, ACTION_FREEZE);
            threads[n] = g_thread_new("freeze", freeze_run, &cases[n]);
            n++;
        }
    }
    for (i = 0; i < n; i++) {
        g_thread_join(threads[i]);
    }
}

/* Nothing is done to it: through the relay, too, a move succeeds. */
static void test_through(void)
{
    RelayPlan plan = { DWCP_RECORD_ABORT, RELAY_BEFORE, RELAY_CLOSE, NULL,
                       NULL };
    DwcpTargetOptions target_options = end_target_options();
    DwcpSourceOptions source_options = end_source_options(NULL);
    Usage before = usage_now();
    MoveOutcome out;
    Relay *relay;
    char port[8];
    Move move;

    move_new(&move, &target_options);
    relay = relay_new(&plan, move.port, port);
    move_start(&move, &source_options, port);
    out = move_end(&move);
    g_assert_true(out.gone);
    g_assert_true(out.go);
    g_assert_cmpint(move.finish_rc, ==, 0);
    g_assert_false(relay_free(relay));
    move_free(&move);
    usage_same(before);
}

int main(int argc, char **argv)
{
    static Case cases[G_N_ELEMENTS(types) * 3 * ACTIONS];
    unsigned type, when, action, n = 0;
    char name[64];

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/switchover/through", test_through);
    for (type = 0; type < G_N_ELEMENTS(types); type++) {
        for (when = RELAY_BEFORE; when <= RELAY_AFTER; when++) {
            for (action = 0; action < ACTIONS; action++) {
                if (action == ACTION_FREEZE) {
                    continue;
                }
                cases[n] = case_of(type, (RelayWhen)when, (Action)action);
                g_snprintf(name, sizeof(name), "/switchover/%s/%s/%s",
                           types[type].name, when_names[when],
                           action_names[action]);
                g_test_add_data_func(name, &cases[n++], test_case);
            }
        }
    }
    g_test_add_func("/switchover/freezes", test_freezes);
    return g_test_run();
}
