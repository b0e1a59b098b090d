/* Models and sessions in a process that may have little more memory: every call says so.
   oom MODEL MIB load|session */
#define _GNU_SOURCE
#include "skimjit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Bytes of addresses in use. */
static size_t used(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    if (file == NULL)
        return 0;
    if (fscanf(file, "%ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return (size_t)pages * 4096;
}

static void leave(size_t bytes)
{
    struct rlimit limit;
    limit.rlim_cur = limit.rlim_max = used() + bytes;
    setrlimit(RLIMIT_AS, &limit);
}

int main(int count, char **arguments)
{
    skimjit_options options;
    skimjit_model *model = NULL;
    skimjit_session *session = NULL;
    size_t bytes;
    int status;
    if (count != 4)
        return 99;
    bytes = (size_t)atol(arguments[2]) << 20;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.threads = 1;
    options.batch = 64;
    if (strcmp(arguments[3], "load") == 0)
        leave(bytes);
    status = skimjit_model_load_file(arguments[1], &options, &model);
    printf("load %d %s\n", status, status ? skimjit_error_message() : "");
    if (status != 0)
        return 0;
    if (strcmp(arguments[3], "session") == 0)
        leave(bytes);
    status = skimjit_session_create(model, NULL, &session);
    printf("session %d %s\n", status, status ? skimjit_error_message() : "");
    skimjit_session_free(session);
    skimjit_model_free(model);
    return 0;
}
