/*
 * dwcp-wan: a wide area link between two network namespaces.
 *
 * It makes a TUN device in each and carries packets between them: a thread
 * per direction (wan-pump.h) moves frames through a model of the path
 * (wan-link.h); the main thread serves the control socket (wan-control.h).
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-config.h"
#include "wan-control.h"
#include "wan-server.h"
#include "wan-tun.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define MIB ((size_t)1024 * 1024)

typedef struct Options {
    const char *netns[WAN_DIRECTIONS];
    const char *device[WAN_DIRECTIONS];
    const char *control;
    uint64_t mtu;
    uint64_t seed;
    uint64_t buffer_mib;
    WanLinkConfig link;
} Options;

static const char usage[] =
    "usage: dwcp-wan --a-netns NS --b-netns NS [OPTION...]\n"
    "\n"
    "Joins two network namespaces by a TUN device in each and an emulated\n"
    "link between them. Give the devices addresses and routes with ip(8) when\n"
    "the program has printed \"ready\". It runs until SIGTERM or SIGINT, or\n"
    "until one of the namespaces goes.\n"
    "\n"
    "  --a-netns NS, --b-netns NS    a process id, or a namespace file\n"
    "  --a-device NAME, --b-device NAME   the devices (wan0)\n"
    "  --mtu BYTES                   of both devices (1500)\n"
    "  --control PATH                control socket\n"
    "  --seed N                      of loss and jitter (1)\n"
    "  --buffer MIB                  memory for packets, a direction (64)\n"
    "\n"
    "The link, the same in both directions:\n"
    "  --rate MBIT                   per second; 0 is unlimited (1000)\n"
    "  --rtt MS                      round trip (0); --delay MS one way\n"
    "  --jitter MS                   delay varies by this, up and down (0)\n"
    "  --loss PERCENT                random, each packet by itself (0)\n"
    "  --burst PERCENT,PACKETS[,DENSITY]   loss in bursts: mean loss, mean\n"
    "                                length, percent lost in a burst (100)\n"
    "  --reorder PERCENT             frames that overtake one (0)\n"
    "  --queue SIZE                  50ms, 256kB, 1500B; 0 is unlimited\n"
    "                                (100ms)\n"
    "\n"
    "Commands on the control socket, a line each:\n"
    "  set [ab|ba] NAME VALUE...     the link's options without dashes\n"
    "  cut [ab|ba], mend [ab|ba]     outage\n"
    "  stats                         counters as JSON\n"
    "  flows [PORT]                  TCP connections, of a port, as JSON\n"
    "  kill reset|drop all|random|NUMBER [PORT]   end connections by resets,\n"
    "                                or drop their packets from now on\n"
    "  reset                         counters to 0\n"
    "  series PATH, series off       bytes per 100 ms to a file\n";

static void __attribute__((format(printf, 1, 2), noreturn))
die(const char *format, ...)
{
    va_list arguments;

    (void)fputs("dwcp-wan: ", stderr);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputs("\n", stderr);
    exit(1);
}

enum {
    OPT_HELP = 1,
    OPT_A_NETNS,
    OPT_B_NETNS,
    OPT_A_DEVICE,
    OPT_B_DEVICE,
    OPT_MTU,
    OPT_CONTROL,
    OPT_SEED,
    OPT_BUFFER,
    OPT_LINK,
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, OPT_HELP},
    {"a-netns", required_argument, NULL, OPT_A_NETNS},
    {"b-netns", required_argument, NULL, OPT_B_NETNS},
    {"a-device", required_argument, NULL, OPT_A_DEVICE},
    {"b-device", required_argument, NULL, OPT_B_DEVICE},
    {"mtu", required_argument, NULL, OPT_MTU},
    {"control", required_argument, NULL, OPT_CONTROL},
    {"seed", required_argument, NULL, OPT_SEED},
    {"buffer", required_argument, NULL, OPT_BUFFER},
    {"rate", required_argument, NULL, OPT_LINK},
    {"rtt", required_argument, NULL, OPT_LINK},
    {"delay", required_argument, NULL, OPT_LINK},
    {"jitter", required_argument, NULL, OPT_LINK},
    {"loss", required_argument, NULL, OPT_LINK},
    {"burst", required_argument, NULL, OPT_LINK},
    {"reorder", required_argument, NULL, OPT_LINK},
    {"queue", required_argument, NULL, OPT_LINK},
    {NULL, 0, NULL, 0},
};

static uint64_t number_option(const char *name, uint64_t min, uint64_t max)
{
    uint64_t value;

    if (wan_parse_u64(optarg, max, &value) < 0 || value < min) {
        die("--%s: a number from %llu to %llu expected, not '%s'", name,
            (unsigned long long)min, (unsigned long long)max, optarg);
    }
    return value;
}

static void take_option(Options *options, int option, const char *name)
{
    const char *error;

    switch (option) {
    case OPT_HELP:
        (void)fputs(usage, stdout);
        exit(0);
    case OPT_A_NETNS:
    case OPT_B_NETNS:
        options->netns[option - OPT_A_NETNS] = optarg;
        break;
    case OPT_A_DEVICE:
    case OPT_B_DEVICE:
        options->device[option - OPT_A_DEVICE] = optarg;
        break;
    case OPT_MTU:
        options->mtu = number_option(name, 576, 9000);
        break;
    case OPT_CONTROL:
        options->control = optarg;
        break;
    case OPT_SEED:
        options->seed = number_option(name, 0, UINT64_MAX);
        break;
    case OPT_BUFFER:
        options->buffer_mib = number_option(name, 1, 2048);
        break;
    case OPT_LINK:
        if (wan_config_set(&options->link, name, optarg, &error) < 0) {
            die("--%s, not '%s'", error, optarg);
        }
        break;
    default:
        die("%s %s; see dwcp-wan --help", name,
            option == ':' ? "needs a value" : "is not an option");
    }
}

static void parse_options(Options *options, int argc, char **argv)
{
    int option;

    *options = (Options){
        .device = {"wan0", "wan0"}, .mtu = 1500, .seed = 1, .buffer_mib = 64};
    wan_config_init(&options->link);
    opterr = 0;
    for (;;) {
        int index = -1;

        option = getopt_long(argc, argv, ":", long_options, &index);
        if (option < 0) {
            break;
        }
        take_option(options, option,
                    index >= 0 ? long_options[index].name : argv[optind - 1]);
    }
    if (optind < argc) {
        die("'%s' is not an option; see dwcp-wan --help", argv[optind]);
    }
    if (!options->netns[0] || !options->netns[1]) {
        die("--a-netns and --b-netns are needed; see dwcp-wan --help");
    }
}

/* SIGTERM and SIGINT become readable; the pumps' threads inherit the mask. */
static int open_signals(void)
{
    sigset_t signals;
    int fd;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (fd < 0) {
        die("cannot open a signal descriptor: %s", strerror(errno));
    }
    return fd;
}

static void start(Wan *wan, const Options *options, int gone_fd)
{
    int fds[WAN_DIRECTIONS], d, result;
    char error[256];

    for (d = 0; d < WAN_DIRECTIONS; d++) {
        fds[d] = wan_tun_open(options->netns[d], options->device[d],
                              (int)options->mtu, error, sizeof(error));
        if (fds[d] < 0) {
            die("%s", error);
        }
    }
    for (d = 0; d < WAN_DIRECTIONS; d++) {
        WanLink *link = &wan->pumps[d].link;

        /* Different numbers in each direction, from the one seed. */
        if (wan_link_init(link, options->buffer_mib * MIB,
                          options->seed * WAN_DIRECTIONS + (uint64_t)d) < 0) {
            die("no memory for %llu MiB of packets",
                (unsigned long long)options->buffer_mib);
        }
        wan_link_configure(link, &options->link, wan_now_ns());
        result = wan_pump_start(&wan->pumps[d], fds[d],
                                fds[WAN_DIRECTIONS - 1 - d], gone_fd);
        if (result < 0) {
            die("cannot start a thread: %s", strerror(-result));
        }
    }
}

static void sample(Wan *wan)
{
    uint64_t bytes[WAN_DIRECTIONS];
    int d;

    for (d = 0; d < WAN_DIRECTIONS; d++) {
        wan_pump_lock(&wan->pumps[d]);
        bytes[d] = wan->pumps[d].link.counters.sent.bytes;
        wan_pump_unlock(&wan->pumps[d]);
    }
    wan_series_sample(&wan->series, bytes, wan_now_ns());
}

static void serve(Wan *wan, WanServer *server, int signal_fd, int gone_fd)
{
    struct pollfd polls[WAN_CLIENTS_MAX + 3];
    struct pollfd *signals = &polls[WAN_CLIENTS_MAX + 1];
    struct pollfd *gone = &polls[WAN_CLIENTS_MAX + 2];

    for (;;) {
        uint64_t deadline_ns = wan_series_deadline_ns(&wan->series);
        uint64_t now_ns = wan_now_ns();
        int wait_ms = -1;

        if (deadline_ns != UINT64_MAX) {
            wait_ms = deadline_ns > now_ns
                          ? (int)((deadline_ns - now_ns) / 1000000 + 1)
                          : 0;
        }
        wan_server_prepare(server, polls);
        *signals = (struct pollfd){.fd = signal_fd, .events = POLLIN};
        *gone = (struct pollfd){.fd = gone_fd, .events = POLLIN};
        if (poll(polls, sizeof(polls) / sizeof(polls[0]), wait_ms) < 0) {
            continue;
        }
        if (signals->revents || gone->revents) {
            return;
        }
        wan_server_run(server, polls, wan);
        if (wan->series.file) {
            sample(wan);
        }
    }
}

int main(int argc, char **argv)
{
    static Wan wan;
    static WanServer server = {.fd = -1};
    Options options;
    int signal_fd, gone_fd, result, d;

    parse_options(&options, argc, argv);
    for (d = 0; d < (int)WAN_CLIENTS_MAX; d++) {
        server.clients[d].fd = -1;
    }
    signal_fd = open_signals();
    gone_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (gone_fd < 0) {
        die("cannot open an event descriptor: %s", strerror(errno));
    }
    wan_loss_init(&wan.dice, options.seed);
    start(&wan, &options, gone_fd);
    if (options.control) {
        result = wan_server_init(&server, options.control);
        if (result < 0) {
            die("cannot listen at %s: %s", options.control, strerror(-result));
        }
    }
    (void)puts("ready");
    (void)fflush(stdout);
    serve(&wan, &server, signal_fd, gone_fd);

    for (d = 0; d < WAN_DIRECTIONS; d++) {
        wan_pump_stop(&wan.pumps[d]);
    }
    for (d = 0; d < WAN_DIRECTIONS; d++) {
        close(wan.pumps[d].from_fd);
        wan_link_clear(&wan.pumps[d].link);
    }
    wan_series_stop(&wan.series);
    if (options.control) {
        wan_server_clear(&server);
    }
    return 0;
}
