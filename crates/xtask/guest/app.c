/*
 * The demo guest's application: a ledger that can prove what it lost.
 *
 * It appends one record every `tick` milliseconds to /data/ledger and calls fsync after each, so a record that HTTP has
 * reported was on disk before it was reported. Records have 64 bytes, are numbered from 1 without gaps, and end in a
 * checksum: any hole, tear or reordering that a copy of the disk could suffer shows up in /verify.
 *
 *   GET /            {"vm","boots","found","seq","bad","uptime_s","wall_ms"}   state; `found` is what this boot found on
 *                                                                       its disk, `bad` is from the last check
 *   GET /append?n=N  {"ok","seq"}                                       N more records, now
 *   GET /metrics     the number of records, as Prometheus reads it
 *   GET /verify      {"records","bad"}                                  reads the whole ledger back from the disk; status
 *                                                                       500 if anything is bad, so it can be a check
 *   GET /times?from=N  {"from","wall_ms":[…]}                           when records were written, by the guest's clock;
 *                                                                       up to 500 of them, beginning with number N
 *   GET /write?file=F&mb=M&seed=S   {"wrote_mb"}                        M MiB of reproducible noise: bulk for replication
 *
 * Usage: app TICK_MS VM_NAME. One thread, one poll loop; it must stay small enough to boot in a second under emulation.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <linux/input.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    RECORD_BYTES = 64,
    /* "%012u %013u %-20.20s " : number, wall clock in ms, machine, each followed by a blank */
    CHECKED_BYTES = 12 + 1 + 13 + 1 + 20 + 1,
    HTTP_PORT = 8080,
    MIB = 1 << 20,
    TIMES_AT_ONCE = 500,
    /* holds the longest answer: 500 clocks of 13 digits with their commas */
    BODY_BYTES = 8192,
};

struct ledger {
    int fd;
    uint64_t last;  /* number of the newest record, 0 when empty */
    uint64_t bad;   /* by the latest check */
    uint64_t found; /* records at the start of this boot */
};

static const char *vm_name = "vm";

static double seconds_since_boot(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long long wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* FNV-1a: enough to see torn and misplaced records; nobody attacks this ledger. */
static uint32_t checksum(const char *bytes, int length) {
    uint32_t hash = 2166136261u;
    for (int i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 16777619u;
    return hash;
}

static void format_record(char out[RECORD_BYTES], uint64_t number) {
    char text[RECORD_BYTES + 1];
    int length = snprintf(text, sizeof text, "%012" PRIu64 " %013lld %-20.20s ", number, wall_ms(), vm_name);
    length += snprintf(text + length, sizeof text - (size_t)length, "%08x", checksum(text, length));
    memset(out, ' ', RECORD_BYTES);
    memcpy(out, text, (size_t)length);
    out[RECORD_BYTES - 1] = '\n';
}

static int record_is_good(const char record[RECORD_BYTES], uint64_t number) {
    unsigned stored;
    return sscanf(record + CHECKED_BYTES, "%8x", &stored) == 1 && stored == checksum(record, CHECKED_BYTES) &&
           strtoull(record, NULL, 10) == number;
}

/* Acknowledges only what fsync has confirmed. A half-written tail is cut off again by the next check. */
static int append_record(struct ledger *ledger) {
    char record[RECORD_BYTES];
    format_record(record, ledger->last + 1);
    if (pwrite(ledger->fd, record, RECORD_BYTES, (off_t)(ledger->last * RECORD_BYTES)) != RECORD_BYTES) return -1;
    if (fsync(ledger->fd) != 0) return -1;
    ledger->last++;
    return 0;
}

/* Reads every record back, past the page cache as far as the kernel allows, and cuts a torn tail. */
static void check_ledger(struct ledger *ledger) {
    char record[RECORD_BYTES];
    uint64_t number = 0;
    ledger->bad = 0;
    posix_fadvise(ledger->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (;;) {
        ssize_t got = pread(ledger->fd, record, RECORD_BYTES, (off_t)(number * RECORD_BYTES));
        if (got == 0) break;
        if (got != RECORD_BYTES) { /* never acknowledged, hence not bad */
            if (ftruncate(ledger->fd, (off_t)(number * RECORD_BYTES)) != 0) ledger->bad++;
            break;
        }
        number++;
        if (!record_is_good(record, number)) ledger->bad++;
    }
    ledger->last = number;
}

/* Counts the boots of this disk, so that a look at the status tells a fresh start from a survivor. */
static unsigned long count_boot(void) {
    unsigned long boots = 0;
    FILE *file = fopen("/data/boots", "r");
    if (file) {
        if (fscanf(file, "%lu", &boots) != 1) boots = 0;
        fclose(file);
    }
    boots++;
    file = fopen("/data/boots", "w");
    if (file) {
        fprintf(file, "%lu\n", boots);
        fflush(file);
        fsync(fileno(file));
        fclose(file);
    }
    return boots;
}

/* The power button is one of several input devices, in no fixed place: look it up by name. -1 when there is none. */
static int open_power_button(void) {
    for (int i = 0; i < 8; i++) {
        char path[64], name[64] = "";
        snprintf(path, sizeof path, "/sys/class/input/event%d/device/name", i);
        FILE *file = fopen(path, "r");
        if (!file) continue;
        int named = fgets(name, sizeof name, file) != NULL;
        fclose(file);
        if (!named || strncmp(name, "Power Button", 12) != 0) continue;
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        return open(path, O_RDONLY | O_NONBLOCK);
    }
    return -1;
}

static int power_button_pressed(int fd) {
    struct input_event event;
    int pressed = 0;
    while (read(fd, &event, sizeof event) == sizeof event)
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) pressed = 1;
    return pressed;
}

/* xorshift64: the same seed gives the same bytes, so a copy can be compared without keeping the original. */
static unsigned write_noise(const char *name, unsigned mib, unsigned seed) {
    static uint64_t block[MIB / sizeof(uint64_t)];
    char path[64];
    uint64_t x = seed * 0x9E3779B97F4A7C15ull + 1;
    unsigned written = 0;
    snprintf(path, sizeof path, "/data/%s", name);
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0) return 0;
    for (; written < mib; written++) {
        for (size_t i = 0; i < MIB / sizeof(uint64_t); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            block[i] = x;
        }
        if (write(fd, block, MIB) != MIB) break;
    }
    if (fsync(fd) != 0) written = 0;
    close(fd);
    return written;
}

/* The clocks of records from `first` on, as JSON. */
static void list_times(const struct ledger *ledger, uint64_t first, char *out, size_t room) {
    char record[RECORD_BYTES + 1] = "";
    size_t used = (size_t)snprintf(out, room, "{\"from\":%" PRIu64 ",\"wall_ms\":[", first);
    uint64_t end = first + TIMES_AT_ONCE;
    for (uint64_t number = first; number != 0 && number <= ledger->last && number < end; number++) {
        long long at = 0;
        if (pread(ledger->fd, record, RECORD_BYTES, (off_t)((number - 1) * RECORD_BYTES)) != RECORD_BYTES) break;
        if (sscanf(record, "%*u %lld", &at) != 1) break;
        used += (size_t)snprintf(out + used, room - used, "%s%lld", number == first ? "" : ",", at);
    }
    snprintf(out + used, room - used, "]}\n");
}

/* Answers one request; the body goes to `out`. Returns the status line's code and reason. */
static const char *answer(const char *request, struct ledger *ledger, unsigned long boots, char *out, size_t room) {
    unsigned count = 1, seed = 0;
    unsigned long long number;
    char file[32];
    if (strncmp(request, "GET /append", 11) == 0) {
        sscanf(request, "GET /append?n=%u", &count);
        int ok = 1;
        for (unsigned i = 0; i < count && ok; i++) ok = append_record(ledger) == 0;
        snprintf(out, room, "{\"ok\":%s,\"seq\":%" PRIu64 "}\n", ok ? "true" : "false", ledger->last);
        return ok ? "200 OK" : "500 Write failed";
    }
    if (sscanf(request, "GET /write?file=%31[a-z0-9]&mb=%u&seed=%u", file, &count, &seed) == 3) {
        unsigned written = write_noise(file, count, seed);
        snprintf(out, room, "{\"wrote_mb\":%u}\n", written);
        return written == count ? "200 OK" : "500 Write failed";
    }
    if (sscanf(request, "GET /times?from=%llu", &number) == 1) {
        list_times(ledger, number, out, room);
        return "200 OK";
    }
    if (strncmp(request, "GET /verify", 11) == 0) {
        check_ledger(ledger);
        snprintf(out, room, "{\"records\":%" PRIu64 ",\"bad\":%" PRIu64 "}\n", ledger->last, ledger->bad);
        return ledger->bad == 0 ? "200 OK" : "500 Bad records";
    }
    if (strncmp(request, "GET /metrics", 12) == 0) {
        snprintf(out, room, "# TYPE ledger_records counter\nledger_records %" PRIu64 "\n", ledger->last);
        return "200 OK";
    }
    if (strncmp(request, "GET / ", 6) == 0 || strncmp(request, "GET /status", 11) == 0) {
        snprintf(out, room,
                 "{\"vm\":\"%s\",\"boots\":%lu,\"found\":%" PRIu64 ",\"seq\":%" PRIu64 ",\"bad\":%" PRIu64
                 ",\"uptime_s\":%.3f,\"wall_ms\":%lld}\n",
                 vm_name, boots, ledger->found, ledger->last, ledger->bad, seconds_since_boot(), wall_ms());
        return "200 OK";
    }
    snprintf(out, room, "{\"error\":\"unknown request\"}\n");
    return "404 Not Found";
}

/* Reads up to the blank line that ends a request; it may come in pieces. Whether it came. */
static int read_request(int client, char *request, size_t room) {
    size_t used = 0;
    while (used + 1 < room) {
        ssize_t got = read(client, request + used, room - 1 - used);
        if (got <= 0) return 0;
        used += (size_t)got;
        request[used] = 0;
        if (strstr(request, "\r\n\r\n")) return 1;
    }
    return 0;
}

static void serve_one(int listener, struct ledger *ledger, unsigned long boots) {
    char request[1024] = {0}, body[BODY_BYTES] = "", head[160];
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) return;
    /* A client that connects and says nothing must not stop the ledger. */
    struct timeval patience = {.tv_sec = 1};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (read_request(client, request, sizeof request)) {
        const char *status = answer(request, ledger, boots, body, sizeof body);
        int length = snprintf(head, sizeof head,
                              "HTTP/1.0 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status,
                              strlen(body));
        if (write(client, head, (size_t)length) < 0 || write(client, body, strlen(body)) < 0)
            fprintf(stderr, "app: client left\n");
    }
    close(client);
}

static int listen_http(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(HTTP_PORT)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 16) != 0) return -1;
    return fd;
}

int main(int argc, char **argv) {
    int tick_ms = argc > 1 ? atoi(argv[1]) : 1000;
    if (argc > 2) vm_name = argv[2];
    struct ledger ledger = {.fd = open("/data/ledger", O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
    if (ledger.fd < 0) {
        perror("app: /data/ledger");
        return 1;
    }
    check_ledger(&ledger);
    ledger.found = ledger.last;
    unsigned long boots = count_boot();
    int listener = listen_http();
    if (listener < 0) {
        perror("app: port 8080");
        return 1;
    }
    int button = open_power_button();
    FILE *console = fopen("/dev/console", "w");
    if (console) {
        fprintf(console, "APP-READY vm=%s uptime=%.2f boots=%lu records=%" PRIu64 " bad=%" PRIu64 "\n", vm_name,
                seconds_since_boot(), boots, ledger.last, ledger.bad);
        fflush(console);
    }
    double next = seconds_since_boot();
    for (;;) {
        struct pollfd waits[2] = {{listener, POLLIN, 0}, {button, POLLIN, 0}};
        int patience = -1;
        if (tick_ms > 0) {
            patience = (int)((next - seconds_since_boot()) * 1000);
            if (patience < 0) patience = 0;
        }
        poll(waits, button >= 0 ? 2 : 1, patience);
        if (tick_ms > 0 && seconds_since_boot() >= next) {
            append_record(&ledger);
            next = seconds_since_boot() + tick_ms / 1000.0;
        }
        if (button >= 0 && (waits[1].revents & POLLIN) && power_button_pressed(button))
            if (system("/sbin/shutdown") != 0) fprintf(stderr, "app: shutdown failed\n");
        if (waits[0].revents & POLLIN) serve_one(listener, &ledger, boots);
    }
}
