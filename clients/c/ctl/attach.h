/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a stream that an earlier run left behind. Every run of ssmctl is another writer, so the daemon asks for
 * take-over even when nobody is connected any more. Then it is given; when somebody is, only if the user says so.
 */
#ifndef SSMD_CLIENTS_C_CTL_ATTACH_H
#define SSMD_CLIENTS_C_CTL_ATTACH_H

#include "clients/c/ctl/ctl.h"

/* ssmc_open, and again with take-over where that is harmless; a status of libssmclient. */
int attach_open(struct ctl *ctl, struct ssmc_stream **out, struct ssmc_open_options *options);

/* Connects and resumes options->id, of whatever model it is: 0, or an exit code after saying why not. */
int attach_named(struct ctl *ctl, struct ssmc_stream **out, struct ssmc_open_options *options);

#endif
