/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that work on any file descriptor, on a VFIO device, before and after it is bound. */
#include "files/file_calls.h"
#include "vfio/vfio_client.h"

int main(void)
{
    /* The transcript is that of the root user, the nodes' owner. */
    unsetenv("AS_NOBODY");
    begin("a device that is not bound");
    device_fd = must_open_vfio_device(0);
    print_file_calls(device_fd, false);
    close(device_fd);
    begin_bound("a device that is bound");
    print_file_calls(device_fd, true);
    return 0;
}
