/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the notifications of a systemd service.
 *
 *   notified COMMAND…   runs COMMAND with NOTIFY_SOCKET, waits for READY=1, sends SIGTERM, and
 *                       checks for STOPPING=1 and exit status 0; once with a socket path, once
 *                       with an abstract name
 */
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../lib/front_client.h"

static void run(const char *name, char **command)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(name);
    struct timeval limit = {30, 0};
    char message[256] = "";
    int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status;

    strcpy(address.sun_path, name);
    if (name[0] == '@')
        address.sun_path[0] = 0;
    CHECK(bind(socket_fd, (void *)&address, length) == 0);
    setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    pid_t child = fork();
    if (child == 0) {
        setenv("NOTIFY_SOCKET", name, 1);
        execvp(command[0], command);
        _exit(127);
    }
    CHECK(recv(socket_fd, message, sizeof(message) - 1, 0) > 0);
    check(!strncmp(message, "READY=1\n", 8), "first message: %s", message);
    CHECK(access(node_path(), F_OK) == 0);
    kill(child, SIGTERM);
    memset(message, 0, sizeof(message));
    CHECK(recv(socket_fd, message, sizeof(message) - 1, 0) > 0);
    check(!strcmp(message, "STOPPING=1"), "second message: %s", message);
    waitpid(child, &status, 0);
    check(status == 0, "status %x", status);
    CHECK(access(node_path(), F_OK) != 0);
    close(socket_fd);
}

int main(int argc, char **argv)
{
    char path[64];

    if (argc < 2)
        return 64;
    snprintf(path, sizeof(path), "/run/notified.%d", getpid());
    run(path, argv + 1);
    unlink(path);
    run("@cuse-test-notified", argv + 1);
    return print_totals("notified");
}
