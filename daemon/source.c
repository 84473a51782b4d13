/* SPDX-License-Identifier: Apache-2.0
 * Runs, indices and gaps; see source.h. */
#include "daemon/source.h"

#include <string.h>

static const char *const policy_names[] = {"reset", "hold", "zero", "refuse"};

static bool is_of(const struct source *source, const uint8_t *run)
{
    return source->is_known && memcmp(source->run, run, PROTO_SOURCE_BYTES) == 0;
}

bool source_may_write(const struct source *source, const struct source_rule *rule, const uint8_t *run, uint64_t now_ns)
{
    return !source->is_known || is_of(source, run) || now_ns - source->heard_ns >= rule->live_ns;
}

bool source_begin(struct source *source, const uint8_t *run, uint64_t first)
{
    if (is_of(source, run))
        return false;
    source->is_known = true;
    memcpy(source->run, run, PROTO_SOURCE_BYTES);
    source->next = first;
    return true;
}

void source_judge(const struct source *source, const struct source_rule *rule, uint64_t room, const uint8_t *run,
                  uint64_t first, uint32_t frames, uint64_t now_ns, struct source_judgement *out)
{
    uint64_t gap;

    *out = (struct source_judgement){.verdict = SOURCE_ACCEPT};
    if (!source_may_write(source, rule, run, now_ns)) {
        out->verdict = SOURCE_SECOND;
        return;
    }
    if (!is_of(source, run))
        return;
    if (first + frames <= source->next) {
        out->verdict = SOURCE_DUPLICATE;
        return;
    }
    if (first <= source->next) {
        out->skip = (uint32_t)(source->next - first);
        return;
    }
    gap = first - source->next;
    if (rule->gap == GAP_REFUSE) {
        out->verdict = SOURCE_GAP;
    } else if (rule->gap == GAP_RESET || gap > rule->max_fill || gap > room || frames > room - gap) {
        out->verdict = SOURCE_RESET;
    } else {
        out->verdict = SOURCE_FILL;
        out->fill = gap;
    }
}

int source_policy_find(const char *name)
{
    for (int i = 0; i < (int)(sizeof(policy_names) / sizeof(policy_names[0])); i++)
        if (strcmp(policy_names[i], name) == 0)
            return i;
    return -1;
}

const char *source_policy_name(enum gap_policy policy)
{
    return policy_names[policy];
}
