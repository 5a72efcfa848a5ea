/* SPDX-License-Identifier: Apache-2.0 */
#include "random.h"

#include <stdlib.h>

static uint64_t state = 1;

void random_seed(uint64_t seed)
{
    state = seed;
}

uint64_t random_next(void)
{
    uint64_t value = (state += 0x9e3779b97f4a7c15);

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

uint64_t below(uint64_t bound)
{
    return random_next() % bound;
}

bool chance(unsigned percent)
{
    return below(100) < percent;
}

void read_seed_and_count(int argc, char **argv, unsigned *count)
{
    if (argc > 1)
        random_seed(strtoull(argv[1], NULL, 0));
    if (argc > 2)
        *count = (unsigned)strtoul(argv[2], NULL, 0);
}
