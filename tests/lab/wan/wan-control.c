/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-control.h"
#include "wan-config.h"
#include "wan-kill.h"
#include "wan-report.h"

#include <stdio.h>
#include <string.h>

/* A command's words and what it is about; borrowed for the call. */
typedef struct Command {
    Wan *wan;
    bool about[WAN_DIRECTIONS];
    char **words; /* after the name and the direction; ends with NULL */
    char *answer;
} Command;

#define WORDS_MAX 24

static void answer_error(const Command *command, const char *text)
{
    (void)snprintf(command->answer, WAN_ANSWER_BYTES, "error: %s", text);
}

static void answer_ok(const Command *command)
{
    (void)snprintf(command->answer, WAN_ANSWER_BYTES, "ok");
}

static void run_set(const Command *command)
{
    WanLinkConfig configs[WAN_DIRECTIONS];
    const char *error = NULL;
    int d;

    if (command->words[0] == NULL) {
        answer_error(command, "set: NAME VALUE expected");
        return;
    }
    for (d = 0; d < WAN_DIRECTIONS; d++) {
        char **word;

        /* Only this thread changes the configuration. */
        configs[d] = command->wan->pumps[d].link.config;
        for (word = command->words; command->about[d] && *word; word += 2) {
            if (word[1] == NULL) {
                answer_error(command, "set: a name without a value");
                return;
            }
            if (wan_config_set(&configs[d], word[0], word[1], &error) < 0) {
                answer_error(command, error);
                return;
            }
        }
    }
    for (d = 0; d < WAN_DIRECTIONS; d++) {
        WanPump *pump = &command->wan->pumps[d];

        if (command->about[d]) {
            wan_pump_lock(pump);
            wan_link_configure(&pump->link, &configs[d], wan_now_ns());
            wan_pump_unlock(pump);
        }
    }
    answer_ok(command);
}

static void set_cut(const Command *command, bool cut)
{
    int d;

    if (command->words[0] != NULL) {
        answer_error(command, "cut and mend take ab, ba or nothing");
        return;
    }
    for (d = 0; d < WAN_DIRECTIONS; d++) {
        WanPump *pump = &command->wan->pumps[d];

        if (command->about[d]) {
            wan_pump_lock(pump);
            wan_link_set_cut(&pump->link, cut, wan_now_ns());
            wan_pump_unlock(pump);
        }
    }
    answer_ok(command);
}

static void run_cut(const Command *command)
{
    set_cut(command, true);
}

static void run_mend(const Command *command)
{
    set_cut(command, false);
}

static void run_stats(const Command *command)
{
    wan_report(command->wan, command->answer, WAN_ANSWER_BYTES);
}

static void run_reset(const Command *command)
{
    int d;

    for (d = 0; d < WAN_DIRECTIONS; d++) {
        WanPump *pump = &command->wan->pumps[d];

        wan_pump_lock(pump);
        wan_link_reset_counters(&pump->link, wan_now_ns());
        pump->write_errors = 0;
        wan_pump_unlock(pump);
    }
    answer_ok(command);
}

static void run_series(const Command *command)
{
    const char *path = command->words[0];

    if (path == NULL || command->words[1] != NULL) {
        answer_error(command, "series: a path without spaces, or off");
        return;
    }
    if (strcmp(path, "off") == 0) {
        wan_series_stop(&command->wan->series);
    } else if (wan_series_start(&command->wan->series, path) < 0) {
        answer_error(command, "series: cannot write this file");
        return;
    }
    answer_ok(command);
}

/* Reads the last word, if there is one, as a port; 0 is any. */
static int take_port(const Command *command, char *const *word, uint16_t *port)
{
    uint64_t value = 0;

    if (*word && (word[1] || wan_parse_u64(*word, UINT16_MAX, &value) < 0)) {
        answer_error(command, "a port and nothing behind it expected");
        return -1;
    }
    *port = (uint16_t)value;
    return 0;
}

static void run_flows(const Command *command)
{
    uint16_t port;

    if (take_port(command, command->words, &port) == 0) {
        wan_report_flows(command->wan, port, command->answer, WAN_ANSWER_BYTES);
    }
}

static void run_kill(const Command *command)
{
    char **words = command->words;
    WanKill kill = {.fate = WAN_FATE_RESET};
    uint64_t number = 0;

    if (words[0] && strcmp(words[0], "drop") == 0) {
        kill.fate = WAN_FATE_DROP;
    } else if (!words[0] || strcmp(words[0], "reset") != 0) {
        answer_error(command, "kill: reset or drop expected");
        return;
    }
    if (words[1] && strcmp(words[1], "all") == 0) {
        kill.all = true;
    } else if (words[1] && strcmp(words[1], "random") == 0) {
        kill.random = true;
    } else if (!words[1] || wan_parse_u64(words[1], UINT32_MAX, &number) < 0 ||
               number == 0) {
        answer_error(command, "kill: all, random or a number expected");
        return;
    }
    kill.number = (uint32_t)number;
    if (take_port(command, words + 2, &kill.port) == 0) {
        wan_kill(command->wan, &kill, command->answer, WAN_ANSWER_BYTES);
    }
}

static const struct {
    const char *name;
    void (*run)(const Command *command);
} commands[] = {
    {"set", run_set},     {"cut", run_cut},     {"mend", run_mend},
    {"stats", run_stats}, {"reset", run_reset}, {"series", run_series},
    {"flows", run_flows}, {"kill", run_kill},
};

static int split(char *line, char **words)
{
    char *state = NULL;
    char *word;
    int n = 0;

    for (word = strtok_r(line, " \t\r", &state); word && n < WORDS_MAX;
         word = strtok_r(NULL, " \t\r", &state)) {
        words[n++] = word;
    }
    words[n] = NULL;
    return word ? -1 : n;
}

void wan_control_run(Wan *wan, char *line, char *answer)
{
    char *words[WORDS_MAX + 1];
    Command command = {wan, {true, true}, words + 1, answer};
    int n = split(line, words);
    size_t i;

    if (n <= 0) {
        answer_error(&command, n < 0 ? "too many words" : "empty command");
        return;
    }
    if (n > 1 && (strcmp(words[1], "ab") == 0 || strcmp(words[1], "ba") == 0)) {
        command.about[WAN_AB] = words[1][0] == 'a';
        command.about[WAN_BA] = words[1][0] == 'b';
        command.words++;
    }
    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(words[0], commands[i].name) == 0) {
            commands[i].run(&command);
            return;
        }
    }
    answer_error(&command, "unknown command; there are set, cut, mend, "
                           "stats, flows, kill, reset and series");
}
