/* A mail server that costs next to nothing: it takes everything, keeps nothing, and announces PIPELINING.
 * Usage: sink PORT. One thread, epoll, Linux. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROOM (1 << 18)

struct client {
    int fd, in_text;
    size_t held;
    char buffer[ROOM];
};

static void say(struct client *client, char *replies, size_t *length, const char *reply)
{
    size_t size = strlen(reply);
    if (*length + size > 4096) {
        if (write(client->fd, replies, *length) < 0)
            return;
        *length = 0;
    }
    memcpy(replies + *length, reply, size);
    *length += size;
}

/* Take complete lines, and texts up to their dot; answer all of them in one write. */
static void serve(struct client *client)
{
    char replies[4096], *at = client->buffer, *end = client->buffer + client->held;
    size_t length = 0;
    while (at < end) {
        if (client->in_text) {
            char *dot = end - at >= 3 && !memcmp(at, ".\r\n", 3) ? at - 2 : memmem(at, end - at, "\r\n.\r\n", 5);
            if (!dot) {
                /* The end may be split between two reads: keep what may begin it. */
                size_t keep = end - at < 4 ? (size_t)(end - at) : 4;
                at = end - keep;
                break;
            }
            at = dot + 5;
            client->in_text = 0;
            say(client, replies, &length, "250 2.0.0 Ok\r\n");
            continue;
        }
        char *line = memchr(at, '\n', end - at);
        if (!line)
            break;
        if (!strncasecmp(at, "EHLO", 4))
            say(client, replies, &length, "250-sink.test\r\n250 PIPELINING\r\n");
        else if (!strncasecmp(at, "DATA", 4)) {
            say(client, replies, &length, "354 Go on\r\n");
            client->in_text = 1;
        } else
            say(client, replies, &length, "250 2.0.0 Ok\r\n");
        at = line + 1;
    }
    client->held = end - at;
    memmove(client->buffer, at, client->held);
    if (length && write(client->fd, replies, length) < 0)
        client->held = 0;
}

int main(int count, char **arguments)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN}, events[64];
    if (count < 2)
        return 2;
    address.sin_port = htons(atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 256))
        return 1;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 64, -1);
        for (int number = 0; number < ready; number++) {
            struct client *client = events[number].data.ptr;
            if (!client) {
                client = calloc(1, sizeof *client);
                client->fd = accept(listener, NULL, NULL);
                setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                if (write(client->fd, "220 sink.test ESMTP\r\n", 21) < 0)
                    return 1;
                event.data.ptr = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client->fd, &event);
                continue;
            }
            ssize_t got = read(client->fd, client->buffer + client->held, ROOM - client->held);
            if (got <= 0) {
                close(client->fd);
                free(client);
                continue;
            }
            client->held += got;
            serve(client);
        }
    }
}
