/* The application of the host's tests: takes payments, lists them, checks its config, dies when told to. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *BOOK = "/var/lib/shop/book";

static void finish(int signal) {
    (void)signal;
    _exit(0);
}

static int check_config(void) {
    char text[4096] = {0};
    int file = open("/etc/shop/app.conf", O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) < 0) {
        fprintf(stderr, "no app.conf\n");
        return 3;
    }
    if (strstr(text, "wrong")) {
        fprintf(stderr, "app.conf: `wrong` is not a setting\n");
        return 3;
    }
    return 0;
}

static void answer(int client, const char *body) {
    char text[16384];
    int length = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                          strlen(body), body);
    if (write(client, text, length) < 0) {
        return;
    }
}

static void serve(int client) {
    char request[4096] = {0}, book[8192] = {0};
    if (read(client, request, sizeof request - 1) <= 0) {
        return;
    }
    if (!strncmp(request, "POST /pay/", 10)) {
        char *end = strchr(request + 10, ' ');
        int file = open(BOOK, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file < 0 || !end) {
            return;
        }
        *end = '\n';
        if (write(file, request + 10, end - request - 9) < 0 || fsync(file) < 0) {
            return;
        }
        close(file);
        answer(client, "paid");
    } else if (!strncmp(request, "GET /book", 9)) {
        int file = open(BOOK, O_RDONLY);
        if (file >= 0 && read(file, book, sizeof book - 1) < 0) {
            return;
        }
        close(file);
        answer(client, book);
    } else if (!strncmp(request, "GET /crash", 10)) {
        *(volatile int *)0 = 1;
    } else {
        answer(client, getenv("VERSION"));
    }
}

int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "--check-config")) {
        return check_config();
    }
    signal(SIGTERM, finish);
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(getenv("VERSION"), "0.0.0-dies")) {
        return 9;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        return 4;
    }
    printf("shop %s listens\n", getenv("VERSION"));
    fflush(stdout);
    for (;;) {
        int client = accept(listener, 0, 0);
        serve(client);
        close(client);
    }
}
