/* SPDX-License-Identifier: Apache-2.0 */
#include "late/late.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/syscall.h>

static int faults;

void late_open(void)
{
    struct uffdio_api api = {.api = UFFD_API};

    faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api)) {
        perror("userfaultfd");
        exit(1);
    }
}

unsigned char *late_memory(const char *name, uintptr_t address, size_t pages)
{
    unsigned char *memory = map_region_at(name, address, pages * PAGE, PROT_READ | PROT_WRITE);
    struct uffdio_register range = {.range = {.start = address, .len = pages * PAGE},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};

    if (ioctl(faults, UFFDIO_REGISTER, &range)) {
        perror("UFFDIO_REGISTER");
        exit(1);
    }
    return memory;
}

void await_fault(void)
{
    struct pollfd wait = {.fd = faults, .events = POLLIN};
    struct uffd_msg message;

    if (poll(&wait, 1, 60000) != 1 ||
        read(faults, &message, sizeof(message)) != sizeof(message) ||
        message.event != UFFD_EVENT_PAGEFAULT) {
        printf("no fault\n");
        exit(1);
    }
}

/* Several calls may have waited for the same page. */
static void drop_faults(void)
{
    struct pollfd wait = {.fd = faults, .events = POLLIN};
    struct uffd_msg message;

    while (poll(&wait, 1, 0) == 1 && read(faults, &message, sizeof(message)) > 0)
        ;
}

void supply(unsigned char *memory, size_t pages)
{
    drop_faults();
    /* A page that another thread has supplied is skipped, and its waits end. */
    for (size_t i = 0; i != pages; i++) {
        struct uffdio_zeropage page = {.range = {.start = (uintptr_t)memory + i * PAGE,
                                                 .len = PAGE}};

        if (ioctl(faults, UFFDIO_ZEROPAGE, &page))
            ioctl(faults, UFFDIO_WAKE, &page.range);
    }
}

void forget(unsigned char *memory, size_t pages)
{
    struct uffdio_range range = {.start = (uintptr_t)memory, .len = pages * PAGE};

    drop_faults();
    munmap(memory, pages * PAGE);
    ioctl(faults, UFFDIO_WAKE, &range);
}

static void *issue(void *argument)
{
    struct background *call = argument;

    call->result = ioctl(iommufd, call->command->request, call->argument);
    call->error = errno;
    return NULL;
}

void begin_call(struct background *call, const struct command *command, const void *argument)
{
    call->command = command;
    memcpy(call->before, argument, command->size);
    memcpy(call->argument, argument, command->size);
    if (pthread_create(&call->thread, NULL, issue, call)) {
        perror("pthread_create");
        exit(1);
    }
}

long end_call(struct background *call)
{
    pthread_join(call->thread, NULL);
    errno = call->error;
    print_call(call->command, call->before, call->argument, call->result);
    return call->result;
}

void let_wait(void)
{
    usleep(100000);
}
