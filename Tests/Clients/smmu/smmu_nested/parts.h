/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of smmu_nested share. */
#ifndef SMMU_NESTED_PARTS_H
#define SMMU_NESTED_PARTS_H

#include "smmu/smmu_driver.h"

/* ---- translations.c ------------------------------------------------------------------------ */

static const uint64_t HERE = 0x12345000;

/** The address spaces of PASIDs 1 and 2, and the two pages that they map at HERE. */
extern uint64_t spaces[2], pages[2];

void test_invalidation(void);
void test_refused_commands(void);

/* ---- faults.c ------------------------------------------------------------------------------ */

void test_faults(void);
void test_substreams(void);
void test_lost_events(void);

#endif /* SMMU_NESTED_PARTS_H */
