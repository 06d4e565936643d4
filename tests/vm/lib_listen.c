/* The first listen() fails, as when another emulator took the port at the same moment: then the file is gone. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int listen(int fd, int backlog)
{
    int (*next)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "listen");
    const char *once = getenv("LISTEN_FAILS");

    if (!once || unlink(once))
        return next(fd, backlog);
    errno = EADDRINUSE;
    return -1;
}
