/* SPDX-License-Identifier: Apache-2.0
 * Rules are read where they are needed, at opens and loads: there are some tens at most. */
#include "daemon/policy.h"
#include "daemon/conf_rule.h"
#include "daemon/lane.h"

#include <ctype.h>
#include <string.h>

#define DEADLINE_MAX_MS 3600000
#define QUEUE_MIN       4096
#define QUEUE_MAX       (UINT64_C(256) << 30)

static int name_read(const char *word, char out[POLICY_NAME_MAX], char *why, size_t why_size)
{
    size_t size = strlen(word);

    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)word[i]) && word[i] != '-' && word[i] != '_' && word[i] != '.')
            size = 0;
    if (size == 0 || size >= POLICY_NAME_MAX) {
        snprintf(why, why_size, "%s: the name of a class has 1 to %d letters, digits, '-', '_' or '.'", word,
                 POLICY_NAME_MAX - 1);
        return -1;
    }
    memcpy(out, word, size + 1);
    return 0;
}

static int known_check(const struct conf_rule *rule, const char *known, char *why, size_t why_size)
{
    const char *unknown = conf_rule_unknown(rule, known);

    if (unknown)
        snprintf(why, why_size, "%s is not one of its words: %s", unknown, known);
    return unknown ? -1 : 0;
}

int policy_class_read(const char *text, struct policy_class *out, char *why, size_t why_size)
{
    struct conf_rule rule;
    const char *deadline;
    uint64_t ms;

    memset(out, 0, sizeof(*out));
    if (conf_rule_split(&rule, text, why, why_size) != 0 || known_check(&rule, "deadline", why, why_size) != 0 ||
        name_read(rule.subject, out->name, why, why_size) != 0)
        return -1;
    deadline = conf_rule_find(&rule, "deadline");
    if (!deadline || conf_count_read(deadline, 1, DEADLINE_MAX_MS, &ms) != 0) {
        snprintf(why, why_size, "deadline must be a number of milliseconds from 1 to %d", DEADLINE_MAX_MS);
        return -1;
    }
    out->deadline_ns = ms * 1000000;
    return 0;
}

int policy_serve_read(const char *text, struct policy_serve *out, char *why, size_t why_size)
{
    struct conf_rule rule;
    const char *word;
    uint64_t priority = LANE_PRIORITY;

    memset(out, 0, sizeof(*out));
    out->queue_bytes = UINT64_MAX;
    if (conf_rule_split(&rule, text, why, why_size) != 0 ||
        known_check(&rule, "priority|queue|class", why, why_size) != 0)
        return -1;
    if (strchr(rule.subject, ':')) {
        snprintf(why, why_size, "a template is named without its parameters: %.*s", (int)strcspn(rule.subject, ":"),
                 rule.subject);
        return -1;
    }
    if (rule.n == 0) {
        snprintf(why, why_size, "nothing is said of the model: priority, queue or class");
        return -1;
    }
    snprintf(out->model, sizeof(out->model), "%s", rule.subject);
    word = conf_rule_find(&rule, "priority");
    if (word && conf_count_read(word, 1, POLICY_PRIORITY_MAX, &priority) != 0) {
        snprintf(why, why_size, "priority must be a number from 1 to %d", POLICY_PRIORITY_MAX);
        return -1;
    }
    out->priority = (uint32_t)priority;
    word = conf_rule_find(&rule, "queue");
    if (word && conf_bytes_read(word, QUEUE_MIN, QUEUE_MAX, &out->queue_bytes) != 0) {
        snprintf(why, why_size, "queue must be bytes (with K, M or G) from 4K to 256G");
        return -1;
    }
    word = conf_rule_find(&rule, "class");
    return word ? name_read(word, out->class, why, why_size) : 0;
}

/* Those that can be read. */
void policy_classes_init(struct policy_classes *classes, const struct conf *conf)
{
    char why[160];

    classes->n = 0;
    for (uint32_t i = 0; i < conf->class.n; i++)
        if (policy_class_read(conf->class.item[i], &classes->class[classes->n], why, sizeof(why)) == 0)
            classes->n++;
}

const struct policy_class *policy_class_find(const struct policy_classes *classes, const char *name)
{
    for (uint32_t i = 0; i < classes->n; i++)
        if (strcmp(classes->class[i].name, name) == 0)
            return &classes->class[i];
    return NULL;
}

static int class_check(const struct conf *conf, const struct policy_classes *classes, uint32_t i, char *why,
                       size_t why_size)
{
    struct policy_class class;
    char what[160];

    if (policy_class_read(conf->class.item[i], &class, what, sizeof(what)) != 0) {
        snprintf(why, why_size, "class = %s: %s", conf->class.item[i], what);
        return -1;
    }
    if (policy_class_find(classes, class.name) == &classes->class[i])
        return 0;
    snprintf(why, why_size, "class = %s: there is a class of that name already", conf->class.item[i]);
    return -1;
}

static int serve_check(const struct conf *conf, const struct policy_classes *classes, uint32_t i, char *why,
                       size_t why_size)
{
    struct policy_serve serve, other;
    char what[160];

    if (policy_serve_read(conf->serve.item[i], &serve, what, sizeof(what)) != 0) {
        snprintf(why, why_size, "serve = %s: %s", conf->serve.item[i], what);
        return -1;
    }
    if (serve.class[0] && !policy_class_find(classes, serve.class)) {
        snprintf(why, why_size, "serve = %s: there is no class of that name", conf->serve.item[i]);
        return -1;
    }
    for (uint32_t k = 0; k < i; k++) {
        if (policy_serve_read(conf->serve.item[k], &other, what, sizeof(what)) != 0 ||
            strcmp(other.model, serve.model) != 0)
            continue;
        snprintf(why, why_size, "serve = %s: there is a line for that model already", conf->serve.item[i]);
        return -1;
    }
    return 0;
}

int policy_check(const struct conf *conf, char *why, size_t why_size)
{
    struct policy_classes classes;

    policy_classes_init(&classes, conf);
    for (uint32_t i = 0; i < conf->class.n; i++)
        if (class_check(conf, &classes, i, why, why_size) != 0)
            return -1;
    for (uint32_t i = 0; i < conf->serve.n; i++)
        if (serve_check(conf, &classes, i, why, why_size) != 0)
            return -1;
    return 0;
}

void policy_serve_get(const struct conf *conf, const char *model, struct policy_serve *out)
{
    size_t size = strcspn(model, ":");
    char why[160];

    for (uint32_t i = 0; i < conf->serve.n; i++)
        if (policy_serve_read(conf->serve.item[i], out, why, sizeof(why)) == 0 && strlen(out->model) == size &&
            memcmp(out->model, model, size) == 0)
            return;
    memset(out, 0, sizeof(*out));
    out->priority = LANE_PRIORITY;
    out->queue_bytes = UINT64_MAX;
}
