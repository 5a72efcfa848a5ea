/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite of the front ends. It runs on the test device of Tests/FrontTestServer,
 * whose answers show what the front end has delivered, under the launcher and over CUSE.
 *
 *   conformance [TEST...]    runs these tests, or all; environment: see lib/front_client.h
 *
 * A line "A front end differs:" begins each comment about a result that one of the front ends
 * cannot deliver. It names the reason.
 */
#include "conformance.h"

static const struct test tests[] = {
    {"identity", test_identity},
    {"release", test_release},
    {"numbers", test_numbers},
    {"descriptors", test_descriptors},
    {"chain", test_chain},
    {"arguments", test_arguments},
    {"pointers", test_pointers},
    {"offsets", test_offsets},
    {"split", test_split},
    {"queue", test_queue},
    {"epoll", test_epoll},
    {"long_queue", test_long_queue},
    {"refused_queue", test_refused_queue},
    {"queue_callers", test_queue_callers},
    {"threads", test_threads},
    {"compat", test_compat},
};

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "check-id") == 0) /* executed by test_identity() */
        return open_id(atoi(argv[2])) != atol(argv[3]);
    return run_tests(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}
