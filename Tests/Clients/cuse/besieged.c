/* Kills the server at random moments, most of them under load, and wants that it ends, that every
 * client gets a clean errno and goes on as before, and that the next server works:
 *
 *   besieged ROUNDS SEED PIDFILE SERVER ARGUMENT...
 *
 * Each server writes PIDFILE when it is ready. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "client.h"

enum { CLIENTS = 4, PATIENCE_MS = 20000 };

static int device;
static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
	(void)number;
	alarms++;
}

/* What a call on a dead server may say. The open of a queue that the server has its client make may
 * also find no node any more. */
static int is_clean(int number)
{
	return number == ECONNABORTED || number == ENOTCONN || number == ENOENT ||
	       number == ENXIO || number == ENODEV;
}

/* One call; 0 when the server is gone. */
static int call(unsigned long command, __u32 value, __u32 *answer)
{
	struct cuse_test argument = {.size = sizeof(argument), .value = value};
	int result = ioctl(device, command, &argument);

	if (result < 0) {
		check(is_clean(errno), "command %lx: errno %d (%s)", command, errno, strerror(errno));
		return 0;
	}
	check(result == 0, "command %lx returned %d", command, result);
	*answer = argument.value;
	return 1;
}

static int queue_and_close(void)
{
	__u32 queue = 0;
	unsigned long long record[2];

	if (!call(CUSE_TEST_QUEUE, 0, &queue))
		return 0;
	check(queue > 2 && fcntl(queue, F_GETFD) == FD_CLOEXEC, "queue %u", queue);
	ssize_t count = read(queue, record, 16);
	check(count == 0 || is_clean(errno), "read: %zd, errno %d", count, errno);
	close(queue);
	return 1;
}

static int identify_and_keep(void)
{
	__u32 answer;
	int other = open(node(), O_RDWR | O_CLOEXEC);

	if (other < 0) {
		check(is_clean(errno), "open: errno %d", errno);
		return 0;
	}
	int goes_on = call(CUSE_TEST_IDENTIFY, other, &answer) && call(CUSE_TEST_KEEP, other, &answer);
	close(other);
	return goes_on;
}

static void *mixed(void *argument)
{
	unsigned seed = (unsigned)(long)argument;
	__u32 answer;
	int goes_on = 1;

	while (goes_on)
		switch (rand_r(&seed) % 4) {
		case 0:
			goes_on = identify_and_keep();
			break;
		case 1:
			goes_on = call(CUSE_TEST_ECHO, 5, &answer);
			break;
		default:
			goes_on = queue_and_close();
		}
	return NULL;
}

static void clean_signals(const char *when)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int number = 1; number < 32; number++)
		check(!sigismember(&mask, number), "%s: signal %d is blocked", when, number);
}

/* One client, until the server is gone. */
static int client(int kind, long seed)
{
	struct itimerval every = {{0, 1000}, {0, 1000}};
	pthread_t thread;
	__u32 answer;

	checks = failures = 0;
	if (kind == 1) { /* its queues come over a socket */
		if (chroot("/proc/self/fdinfo"))
			return 3;
		while (queue_and_close())
			;
	} else if (kind == 2) { /* signals all the time */
		signal(SIGALRM, count_alarm);
		setitimer(ITIMER_REAL, &every, NULL);
		while (queue_and_close())
			;
		int before = alarms;
		for (int i = 0; i < 1000 && alarms == before; i++)
			usleep(1000);
		check(alarms > before, "no signal arrives any more");
		setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	} else {
		pthread_create(&thread, NULL, mixed, (void *)seed);
		mixed((void *)(seed + 1));
		pthread_join(thread, NULL);
	}
	clean_signals("after the server's end");
	check(!call(CUSE_TEST_ECHO, 0, &answer), "a call on a dead server");
	fflush(stdout);
	return failures ? 1 : 0;
}

static int reaped(pid_t child, int *status)
{
	for (int waited = 0; waited < PATIENCE_MS; waited += 5) {
		if (waitpid(child, status, WNOHANG) == child)
			return 1;
		usleep(5000);
	}
	return 0;
}

static int appears(const char *path)
{
	struct stat status;

	for (int waited = 0; waited < PATIENCE_MS; waited += 5) {
		if (stat(path, &status) == 0 && status.st_size > 0)
			return 1;
		usleep(5000);
	}
	return 0;
}

static pid_t serve(char **command, const char *pid_file)
{
	unlink(pid_file);
	pid_t server = fork();
	if (server == 0) {
		execv(command[0], command);
		_exit(127);
	}
	return server;
}

/* One server's life; 0 when something cannot be ended. */
static int siege(int round, unsigned *seed, char **command, const char *pid_file)
{
	pid_t clients[CLIENTS];
	int started = 0, status, goes_on;
	pid_t server = serve(command, pid_file);

	if (round % 5 == 4) { /* while it starts */
		usleep(rand_r(seed) % 400000);
	} else {
		check(appears(pid_file), "round %d: the server is not ready", round);
		device = open_node();
		for (; started < CLIENTS; started++) {
			long start = rand_r(seed);
			clients[started] = fork();
			if (clients[started] == 0)
				_exit(client(started, start));
		}
		usleep(rand_r(seed) % 150000);
	}
	kill(server, SIGKILL);
	goes_on = reaped(server, &status);
	check(goes_on, "round %d: the server %d cannot be reaped", round, server);
	for (int i = 0; i < started; i++) {
		int ended = reaped(clients[i], &status);
		check(ended && status == 0, "round %d: client %d: %s %x", round, i,
		      ended ? "status" : "cannot be reaped", status);
		goes_on &= ended;
	}
	if (started)
		close(device);
	for (int i = 0; i < 2000 && access(node(), F_OK) == 0; i++)
		usleep(5000);
	check(access(node(), F_OK) == -1, "round %d: the node is left", round);
	return goes_on;
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 64;
	unsigned seed = atoi(argv[2]);
	for (int round = 0; round < atoi(argv[1]); round++)
		if (!siege(round, &seed, argv + 4, argv[3]))
			break;
	return finish("besieged");
}
