/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon as main sees it.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "daemon/conf.h"

/* Bind, serve until SIGTERM or SIGINT, drain, and return an exit code of sysexits.h. Logs its own errors. The calling
 * thread becomes the loop; signals are blocked in it from then on. config_path (may be NULL) is read again on
 * SIGHUP. */
int daemon_run(const struct conf *conf, const char *config_path);

#endif
