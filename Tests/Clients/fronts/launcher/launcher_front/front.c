/* SPDX-License-Identifier: Apache-2.0 */
#include "front.h"

const char *self;
bool failed;
const char *skipped;

int open_iommu(void)
{
    return open(IOMMU, O_RDWR | O_CLOEXEC);
}

int identify(int fd)
{
    return ioctl(fd, TEST_IDENTIFY);
}

int count_live_files(int fd)
{
    return ioctl(fd, TEST_LIVE);
}

bool is_node_at(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    bool is_node = fd >= 0 && identify(fd) > 0;
    close(fd);
    return is_node;
}

int push(int fd, struct test_queue *queue, uint32_t value)
{
    struct test_push request = {queue->id, value};
    return ioctl(fd, TEST_PUSH, &request);
}

bool in_child(bool (*body)(int), int argument)
{
    pid_t child = fork();
    if (child == 0)
        _exit(body(argument) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void in_threads(int count, void *(*body)(void *), void *argument)
{
    pthread_t threads[count];
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, body, argument) == 0);
    for (int i = 0; i < count; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
}
