/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules of the configuration: how they are taken apart, and those for classes and single models.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "daemon/conf_rule.h"
#include "daemon/lane.h"
#include "daemon/policy.h"

static struct conf conf;
static char why[512];

static void rules_set(struct conf_rules *rules, const char *a, const char *b)
{
    memset(rules, 0, sizeof(*rules));
    snprintf(rules->item[rules->n++], CONF_TEXT_SIZE, "%s", a);
    if (b)
        snprintf(rules->item[rules->n++], CONF_TEXT_SIZE, "%s", b);
}

static int conf_begin(void **state)
{
    (void)state;
    conf_init(&conf);
    return 0;
}

static void assert_why(int status, const char *words)
{
    assert_int_equal(status, -1);
    if (!strstr(why, words))
        fail_msg("\"%s\" should say \"%s\"", why, words);
}

static void rule__words__are_told_apart(void **state)
{
    struct conf_rule rule;

    (void)state;
    assert_int_equal(conf_rule_split(&rule, "sensors/ \t model=forecast:order=32,rate=8  gap=", why, sizeof(why)), 0);
    assert_string_equal(rule.subject, "sensors/");
    assert_int_equal(rule.n, 2);
    assert_string_equal(conf_rule_find(&rule, "model"), "forecast:order=32,rate=8");
    assert_string_equal(conf_rule_find(&rule, "gap"), "");
    assert_null(conf_rule_find(&rule, "mod"));
    assert_null(conf_rule_unknown(&rule, "gap|model|rate"));
    assert_string_equal(conf_rule_unknown(&rule, "gap|models"), "model");
}

static void rule__that_is_none__says_which_word(void **state)
{
    struct conf_rule rule;
    char text[CONF_TEXT_SIZE] = "a";

    (void)state;
    assert_why(conf_rule_split(&rule, "", why, sizeof(why)), "empty");
    assert_why(conf_rule_split(&rule, "a b", why, sizeof(why)), "b: must be of the form key=value");
    assert_why(conf_rule_split(&rule, "a =b", why, sizeof(why)), "=b: must be");
    assert_why(conf_rule_split(&rule, "a x=1 y=2 x=3", why, sizeof(why)), "x is given twice");
    for (int i = 0; i <= CONF_RULE_WORDS; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " k%d=1", i);
    assert_why(conf_rule_split(&rule, text, why, sizeof(why)), "too many words");
}

static void values__of_rules__are_strict(void **state)
{
    uint64_t n;
    double x;

    (void)state;
    assert_int_equal(conf_count_read("17", 1, 17, &n), 0);
    assert_int_equal(n, 17);
    assert_int_equal(conf_count_read("18", 1, 17, &n), -1);
    assert_int_equal(conf_count_read("1x", 1, 17, &n), -1);
    assert_int_equal(conf_bytes_read("3M", 0, UINT64_MAX, &n), 0);
    assert_int_equal(n, 3 << 20);
    assert_int_equal(conf_bytes_read("", 0, UINT64_MAX, &n), -1);
    assert_int_equal(conf_real_read("0.5", &x), 0);
    assert_true(x == 0.5);
    for (const char *const *bad = (const char *const[]){"", "0", "-1", "inf", "nan", "1 ", NULL}; *bad; bad++)
        assert_int_equal(conf_real_read(*bad, &x), -1);
}

static void policy__right_rules__are_found_by_name(void **state)
{
    struct policy_classes classes;
    struct policy_serve serve;

    (void)state;
    rules_set(&conf.class, "alarms deadline=20", "slow deadline=3600000");
    rules_set(&conf.serve, "denoise priority=30 queue=64M class=alarms", "forecast class=slow");
    assert_int_equal(policy_check(&conf, why, sizeof(why)), 0);
    policy_classes_init(&classes, &conf);
    assert_int_equal(policy_class_find(&classes, "alarms")->deadline_ns, 20000000);
    assert_null(policy_class_find(&classes, "alarm"));
    policy_serve_get(&conf, "denoise", &serve);
    assert_int_equal(serve.priority, 30);
    assert_int_equal(serve.queue_bytes, 64 << 20);
    assert_string_equal(serve.class, "alarms");
    policy_serve_get(&conf, "forecast:rate=360,order=32", &serve);
    assert_string_equal(serve.class, "slow");
    assert_int_equal(serve.priority, LANE_PRIORITY);
    policy_serve_get(&conf, "denoise-2", &serve);
    assert_string_equal(serve.class, "");
    assert_true(serve.queue_bytes == UINT64_MAX);
}

static void policy__wrong_rules__are_named(void **state)
{
    static const struct {
        const char *class, *serve, *words;
    } wrong[] = {
        {"a", NULL, "class = a: deadline must be a number of milliseconds from 1 to 3600000"},
        {"a deadline=0", NULL, "deadline must be"},
        {"a deadline=3600001", NULL, "deadline must be"},
        {"a/b deadline=5", NULL, "a/b: the name of a class has"},
        {"a deadline=5 priority=3", NULL, "priority is not one of its words: deadline"},
        {"a deadline=5", "m priority=0", "serve = m priority=0: priority must be a number from 1 to 1000"},
        {"a deadline=5", "m priority=1001", "priority must be"},
        {"a deadline=5", "m:order=3 priority=2", "named without its parameters: m"},
        {"a deadline=5", "m", "nothing is said"},
        {"a deadline=5", "m queue=1K", "queue must be bytes"},
        {"a deadline=5", "m class=b", "there is no class of that name"},
        {"a deadline=5", "m classes=a", "classes is not one of its words"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        rules_set(&conf.class, wrong[i].class, NULL);
        conf.serve.n = 0;
        if (wrong[i].serve)
            rules_set(&conf.serve, wrong[i].serve, NULL);
        assert_why(policy_check(&conf, why, sizeof(why)), wrong[i].words);
    }
    rules_set(&conf.class, "a deadline=5", "a deadline=6");
    assert_why(policy_check(&conf, why, sizeof(why)), "class = a deadline=6: there is a class of that name already");
    conf.class.n = 1;
    rules_set(&conf.serve, "m class=a", "m priority=2");
    assert_why(policy_check(&conf, why, sizeof(why)), "there is a line for that model already");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rule__words__are_told_apart),
        cmocka_unit_test(rule__that_is_none__says_which_word),
        cmocka_unit_test(values__of_rules__are_strict),
        cmocka_unit_test_setup(policy__right_rules__are_found_by_name, conf_begin),
        cmocka_unit_test_setup(policy__wrong_rules__are_named, conf_begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
