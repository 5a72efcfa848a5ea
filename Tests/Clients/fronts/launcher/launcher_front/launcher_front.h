/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of launcher_front share. */
#ifndef LAUNCHER_FRONT_H
#define LAUNCHER_FRONT_H

#include "../../lib/front_client.h"

#define IOMMU "/dev/iommu"
#define VFIO "/dev/vfio/devices/vfio0"

/** Returns whether the open succeeds and opens a node of the server. Closes the file. */
bool is_node_at(const char *path, int flags);

void test_paths(void);
void test_status(void);
void test_stand_ins(void);
void test_mappings(void);
void test_kvm(void);
void test_queue_numbers(void);
void test_races(void);
void test_signals(void);

#endif /* LAUNCHER_FRONT_H */
