/* Delays every sync of a file or a directory below `BENCH_SLOW_DIRECTORY` by `BENCH_SLOW_SECONDS`. It is loaded
 * into the server before the C library, whose functions it replaces. */

#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int is_slow(int descriptor) {
    const char *directory = getenv("BENCH_SLOW_DIRECTORY");
    char link[64];
    char target[PATH_MAX + 1];
    if (directory == NULL) {
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, target, PATH_MAX);
    if (length < 0) {
        return 0;
    }
    target[length] = '\0';
    size_t prefix = strlen(directory);
    return strncmp(target, directory, prefix) == 0 && (target[prefix] == '/' || target[prefix] == '\0');
}

static void delay(int descriptor) {
    const char *seconds = getenv("BENCH_SLOW_SECONDS");
    if (seconds == NULL || !is_slow(descriptor)) {
        return;
    }
    struct timespec rest = {.tv_sec = atoi(seconds), .tv_nsec = 0};
    while (nanosleep(&rest, &rest) != 0) {
    }
}

int fsync(int descriptor) {
    delay(descriptor);
    return (int)syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor) {
    delay(descriptor);
    return (int)syscall(SYS_fdatasync, descriptor);
}
