/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls on a descriptor number while other threads close it and put other files of the server
 * there. A call gets the answer of a file that was there, or EBADF, and never that of a stand-in
 * file.
 */
#include "launcher_front.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { CALLERS = 2, DEVICE = 200, QUEUE = 1010, MILLISECONDS = 700 };

static bool ended;
static int devices[2], queues[2];
/** The numbers of answers: from a file, EBADF, and those that no file of the server gives. */
static long answered, closed, wrong;

static bool has_ended(void) { return __atomic_load_n(&ended, __ATOMIC_RELAXED); }

static void count(long *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }

/** Counts an answer that is right when `isRight`. */
static void count_answer(const char *call, bool is_right, long result)
{
    int number = errno;

    if (is_right) {
        count(&answered);
    } else if (result < 0 && number == EBADF) {
        count(&closed);
    } else {
        if (__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED) < 5)
            printf("  %s: result %ld, errno %d\n", call, result, number);
    }
}

/** Closes the two numbers, and puts one of the two files there. */
static void *exchange_files(void *unused)
{
    for (unsigned i = 0; !has_ended(); i++) {
        close(DEVICE);
        close(QUEUE);
        dup2(devices[i & 1], DEVICE);
        dup2(queues[i & 1], QUEUE);
        if (i % 4 == 0) {
            dup2(devices[~i & 1], DEVICE);
            dup2(queues[~i & 1], QUEUE);
        }
    }
    return unused;
}

/** Puts new files at the numbers, whose only descriptors these are. */
static void *open_files(void *unused)
{
    while (!has_ended()) {
        int device = open(IOMMU, O_RDWR | O_CLOEXEC), queue = make_queue(devices[0], false, NULL);

        dup2(device, DEVICE);
        dup2(queue, QUEUE);
        close(device);
        close(queue);
        close(DEVICE);
        close(QUEUE);
    }
    return unused;
}

/** Replaces the files by new ones, so that the old ones are released and the numbers stay open. */
static void *replace_files(void *unused)
{
    while (!has_ended()) {
        int device = open(IOMMU, O_RDWR | O_CLOEXEC), queue = make_queue(device, false, NULL);

        dup2(device, DEVICE);
        dup2(queue, QUEUE);
        close(device);
        close(queue);
    }
    return unused;
}

static void *call_files(void *unused)
{
    struct test_record record;
    char byte;

    while (!has_ended()) {
        long result = open_id(DEVICE);

        count_answer("ioctl", result > 0, result);
        result = ioctl(DEVICE, FIONREAD, &byte);
        count_answer("FIONREAD", result < 0 && errno == ENOTTY, result);
        result = lseek(DEVICE, 5, SEEK_SET);
        count_answer("lseek", result == 5 || (result < 0 && errno == ESPIPE), result);
        result = fsync(DEVICE);
        count_answer("fsync", result < 0 && errno == EINVAL, result);
        struct stat status;
        result = fstat(DEVICE, &status);
        count_answer("fstat", result == 0 && S_ISCHR(status.st_mode), result);
        result = fstat(QUEUE, &status);
        count_answer("fstat of a queue", result == 0 && (status.st_mode & S_IFMT) == 0, result);
        result = read(QUEUE, &record, sizeof(record));
        count_answer("read", result == 0, result);
        result = write(QUEUE, &record, sizeof(record));
        count_answer("write", result < 0 && errno == EINVAL, result);
        result = ioctl(QUEUE, TEST_ECHO, &byte);
        count_answer("ioctl of a queue", result < 0 && errno == ENOTTY, result);
        result = lseek(QUEUE, 0, SEEK_SET);
        count_answer("lseek of a queue", result < 0 && errno == ESPIPE, result);
        void *memory = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, QUEUE, 0);
        count_answer("mmap of a queue", memory == MAP_FAILED && errno == ENODEV,
                     memory == MAP_FAILED ? -1 : 0);
        if (memory != MAP_FAILED)
            munmap(memory, 4096);
    }
    return unused;
}

static void race(const char *what, void *(*change)(void *))
{
    pthread_t changer, callers[CALLERS];

    ended = false;
    answered = closed = wrong = 0;
    pthread_create(&changer, NULL, change, NULL);
    for (int i = 0; i != CALLERS; i++)
        pthread_create(&callers[i], NULL, call_files, NULL);
    usleep(MILLISECONDS * 1000);
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
    pthread_join(changer, NULL);
    for (int i = 0; i != CALLERS; i++)
        pthread_join(callers[i], NULL);
    printf("  %s: %ld answers of files, %ld of no file, %ld wrong\n", what, answered, closed,
           wrong);
    CHECK(answered > 0);
    CHECK(wrong == 0);
    close(DEVICE);
    close(QUEUE);
}

void test_races(void)
{
    for (int i = 0; i != 2; i++) {
        devices[i] = open_node();
        queues[i] = make_queue(devices[i], false, NULL);
    }
    race("files that stay open", exchange_files);
    race("files that are closed", open_files);
    race("files that are replaced", replace_files);
    for (int i = 0; i != 2; i++) {
        close(devices[i]);
        close(queues[i]);
    }
}
