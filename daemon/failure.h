/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that fails. libssm says so with SSM_DEVICE, in a batch, a checkpoint or an image, and from then on for all of
 * that device. Whatever was on it is lost, also what the failing call had computed before: nothing of it leaves.
 *
 * Its streams stop at the frames that were acknowledged as applied: their input is dropped without an acknowledgement,
 * and what was asked of them (a close, a snapshot) is not answered as if it were done. The daemon drains as after
 * SIGTERM, so that streams of other engines are complete, are kept in state_dir and go on in the next daemon, and exits
 * with UNITS_EXIT. Clients of lost streams find a new incarnation there, and send again what no daemon has.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_FAILURE_H
#define DAEMON_FAILURE_H

#include "daemon/loop.h"

/* The unit's device has failed; saying so again does nothing. */
void failure_device(struct loop *loop, struct unit *unit);
/* Its batch has come back: its rows never were. */
void failure_batch(struct loop *loop, struct batch *batch);

#endif
