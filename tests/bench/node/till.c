/* The application of the node's scales: takes payments, each durable before it is answered, and says its version.
   It listens on its standard input if that is a socket (held by somebody else), and on PORT otherwise. On SIGTERM it
   finishes the request that it has and ends; what waits in the queue it leaves there. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile sig_atomic_t ending = 0;

static void end(int signal) {
    (void)signal;
    ending = 1;
}

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

static void answer(int client, const char *body) {
    char text[512];
    int length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                          strlen(body), body);
    if (write(client, text, length) < 0) {
        return;
    }
}

static void serve(int client, int book) {
    char request[4096] = {0};
    if (read(client, request, sizeof request - 1) <= 0) {
        return;
    }
    if (!strncmp(request, "POST /pay/", 10)) {
        char *last = strchr(request + 10, ' ');
        if (!last) {
            return;
        }
        *last = '\n';
        if (write(book, request + 10, last - request - 9) < 0 || fdatasync(book) < 0) {
            return;
        }
        answer(client, "paid");
    } else {
        answer(client, setting("VERSION", "0"));
    }
}

static int listener(void) {
    struct stat in;
    if (!fstat(0, &in) && S_ISSOCK(in.st_mode)) {
        return 0;
    }
    int made = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(setting("PORT", "8080")))};
    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(made, (struct sockaddr *)&address, sizeof address) || listen(made, 4096)) {
        return -1;
    }
    return made;
}

int main(void) {
    struct sigaction action = {.sa_handler = end};
    sigset_t blocked, open_mask;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    sigdelset(&open_mask, SIGTERM);
    sigaction(SIGTERM, &action, 0);
    signal(SIGPIPE, SIG_IGN);
    int book = open(setting("BOOK", "/var/lib/till/book"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    int queue = listener();
    if (book < 0 || queue < 0) {
        perror("till");
        return 4;
    }
    fcntl(queue, F_SETFL, O_NONBLOCK);
    struct pollfd waiting = {.fd = queue, .events = POLLIN};
    while (!ending) {
        if (ppoll(&waiting, 1, 0, &open_mask) <= 0 || ending) {
            continue;
        }
        int client = accept(queue, 0, 0);
        if (client >= 0) {
            serve(client, book);
            close(client);
        }
    }
    return 0;
}
