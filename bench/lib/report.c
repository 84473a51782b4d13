/* SPDX-License-Identifier: Apache-2.0
 * Lines of results; see report.h. */
#include "bench/lib/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void machine_name(char *name, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];

    snprintf(name, size, "unknown");
    while (f && fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');

        if (!colon || strncmp(line, "model name", 10) != 0)
            continue;
        colon[strcspn(colon, "\n\"\\")] = '\0';
        snprintf(name, size, "%s", colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

static const char *report_device;

void bench_report_device(const char *device)
{
    report_device = device;
}

void bench_report(const char *name, const char *figures, ...)
{
    const char *commit = getenv("COMMIT"), *device = report_device ? report_device : getenv("DEVICE");
    char machine[128];
    va_list args;

    machine_name(machine, sizeof(machine));
    printf("{\"bench\": \"%s\", ", name);
    va_start(args, figures);
    vprintf(figures, args);
    va_end(args);
    if (device)
        printf(", \"device\": \"%s\"", device);
    printf(", \"machine\": \"%s\", \"cpus\": %ld, \"commit\": \"%s\"}\n", machine, sysconf(_SC_NPROCESSORS_ONLN),
           commit ? commit : "unknown");
    fflush(stdout);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_quantile(double *v, size_t n, double q)
{
    if (n == 0)
        return 0;
    qsort(v, n, sizeof(*v), ascending);
    return v[(size_t)(q * (double)(n - 1) + 0.5)];
}
