/*
 * A stand-in for libnvidia-ml.so.1, loaded by the real pynvml, and (with -DALLOC) the program by which a job of a test
 * takes card memory. All that it tells lies in the directory that the environment variable WQ_NVML_DIR names, and is
 * read afresh at every call, so that a test changes the world by writing files:
 *
 *   cards    a line for each card: uuid|name|total_mib|base_used_mib|util|reserved_mib
 *            (the base may have a fraction; util "-": not supported)
 *   alloc/X  "PID CARD MIB LINGER_MS START_TICKS": memory that counts while the process lives, and LINGER_MS more.
 *            CARD is an index or a uuid. LINGER_MS and START_TICKS may be absent; with START_TICKS, another process
 *            under the same pid does not count. Since many processes load this library, the time of death lies in the
 *            file system: whoever first sees the process dead makes alloc/X.dead.
 *   ecc      a line for each card that has some: CARD COUNT of volatile uncorrected errors
 *   fail     lines "CODE [FUNCTION [CARD]]": calls of the functions whose name begins so return CODE; "-": any function
 *   mig      a line "CARD LINE" for each slice (MIG) of a card: LINE (from 0) of `cards`, where slices stand after all
 *            whole cards, with uuids that begin with MIG-; LINE -1: the card is divided and has no slice
 *   hang     milliseconds that a memory query, once made, takes to return; taking the file away ends it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_CARDS 64
#define MIB (1024ULL * 1024ULL)

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    MISMATCH = 25
};

typedef struct {
    char uuid[96], name[96];
    unsigned long long total, reserved;
    double base;
    int util;
} Card;

static const char *in_world(const char *format, ...) {
    static _Thread_local char path[4096];
    const char *world = getenv("WQ_NVML_DIR");
    int length = snprintf(path, sizeof path, "%s/", world ? world : "/nonexistent");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static int read_cards(Card *cards) {
    FILE *file = fopen(in_world("cards"), "re");
    char line[512], util[16];
    int count = 0;
    if (!file)
        return 0;
    while (count < MAX_CARDS && fgets(line, sizeof line, file)) {
        Card *card = &cards[count];
        memset(card, 0, sizeof *card);
        if (sscanf(line, "%95[^|]|%95[^|]|%llu|%lf|%15[^|\n]|%llu", card->uuid, card->name, &card->total, &card->base,
                   util, &card->reserved) >= 5) {
            card->util = strcmp(util, "-") == 0 ? -1 : atoi(util);
            count++;
        }
    }
    fclose(file);
    return count;
}

/* Read a process's state and when it began, in ticks; 0 if it is not there. */
static int read_stat(long pid, char *state, unsigned long long *began) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    char *after = strrchr(text, ')');
    return after && sscanf(after + 1,
                           " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", state,
                           began) == 2;
}

/* Whether a process is there, is no zombie, and began at `start` (0: whenever). */
static int lives(long pid, unsigned long long start) {
    char state;
    unsigned long long began;
    return read_stat(pid, &state, &began) && state != 'Z' && state != 'X' && (start == 0 || start == began);
}

/* Whether the memory of a dead process is still held: for `linger` ms after somebody first saw it dead. */
static int lingers(const char *name, long linger) {
    struct stat status;
    struct timespec now;
    if (linger <= 0)
        return 0;
    int fd = open(in_world("alloc/%s.dead", name), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0)
        return 0;
    int known = fstat(fd, &status) == 0;
    close(fd);
    clock_gettime(CLOCK_REALTIME, &now);
    long waited = (now.tv_sec - status.st_mtim.tv_sec) * 1000 + (now.tv_nsec - status.st_mtim.tv_nsec) / 1000000;
    return known && waited < linger;
}

/* MiB that processes hold on a card. */
static unsigned long long allocated(const Card *card, int index) {
    unsigned long long sum = 0;
    char number[16];
    snprintf(number, sizeof number, "%d", index);
    DIR *directory = opendir(in_world("alloc"));
    if (!directory)
        return 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        const char *suffix = strrchr(entry->d_name, '.');
        if (entry->d_name[0] == '.' || (suffix && strcmp(suffix, ".dead") == 0))
            continue;
        FILE *file = fopen(in_world("alloc/%s", entry->d_name), "re");
        long pid, linger = 0;
        unsigned long long mib, start = 0;
        char where[96];
        if (!file)
            continue;
        int fields = fscanf(file, "%ld %95s %llu %ld %llu", &pid, where, &mib, &linger, &start);
        fclose(file);
        if (fields < 3 || (strcmp(where, number) != 0 && strcmp(where, card->uuid) != 0))
            continue;
        if (lives(pid, start) || lingers(entry->d_name, linger))
            sum += mib;
    }
    closedir(directory);
    return sum;
}

#ifdef ALLOC

static int find(const Card *cards, int count, const char *entry) {
    for (int index = 0; index < count; index++) {
        char number[16];
        snprintf(number, sizeof number, "%d", index);
        if (strcmp(entry, number) == 0 || strcmp(entry, cards[index].uuid) == 0)
            return index;
    }
    return -1;
}

/* alloc MIB [LINGER_MS]: its parent holds MIB on each card of CUDA_VISIBLE_DEVICES while it lives; 1: no room. */
int main(int argc, char **argv) {
    Card cards[MAX_CARDS];
    int count = read_cards(cards), wanted[MAX_CARDS], wants = 0;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    long pid = getppid(), linger = argc > 2 ? atol(argv[2]) : 0;
    unsigned long long mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    char list[4096];
    snprintf(list, sizeof list, "%s", visible ? visible : "");
    for (char *rest = list, *entry; wants < MAX_CARDS && (entry = strsep(&rest, ","));) {
        int index = find(cards, count, entry);
        if (index < 0)
            break;
        wanted[wants++] = index;
    }
    if (wants == 0) {
        fprintf(stderr, "RuntimeError: No CUDA GPUs are available (visible: %s)\n", visible ? visible : "-");
        return 1;
    }
    char state;
    unsigned long long start;
    if (!read_stat(pid, &state, &start)) {
        fprintf(stderr, "alloc: the process that called has gone\n");
        return 2;
    }
    int lock = open(in_world("lock"), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        perror("alloc: lock");
        return 2;
    }
    for (int i = 0; i < wants; i++) {
        const Card *card = &cards[wanted[i]];
        unsigned long long usable = card->total - card->reserved;
        unsigned long long used = (unsigned long long)(card->base + 0.999) + allocated(card, wanted[i]);
        unsigned long long left = used < usable ? usable - used : 0;
        if (mib > left) {
            fprintf(stderr,
                    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate %llu.00 MiB. GPU %d has a "
                    "total capacity of %llu.00 MiB of which %llu.00 MiB is free.\n",
                    mib, i, card->total, left);
            return 1;
        }
    }
    for (int i = 0; i < wants; i++) {
        char hidden[4096];
        snprintf(hidden, sizeof hidden, "%s", in_world("alloc/.%ld.%d.%d", pid, getpid(), wanted[i]));
        FILE *file = fopen(hidden, "we");
        if (!file || fprintf(file, "%ld %d %llu %ld %llu\n", pid, wanted[i], mib, linger, start) < 0 ||
            fclose(file) != 0 || rename(hidden, in_world("alloc/%ld.%d.%d", pid, getpid(), wanted[i])) != 0) {
            perror("alloc");
            return 2;
        }
    }
    return 0;
}

#else

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct {
    char legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} Pci;

static atomic_int inits;

/* What the world says a call is to return before it does anything: SUCCESS, or an error. `card` < 0: of no card. */
static int fault(const char *function, int card) {
    char line[256];
    int result = SUCCESS;
    FILE *file = fopen(in_world("fail"), "re");
    while (file && result == SUCCESS && fgets(line, sizeof line, file)) {
        char name[96] = "-";
        int code, only = -1, fields = sscanf(line, "%d %95s %d", &code, name, &only);
        if (fields >= 1 && (strcmp(name, "-") == 0 || strncmp(function, name, strlen(name)) == 0) &&
            (fields < 3 || only == card))
            result = code;
    }
    if (file)
        fclose(file);
    return result;
}

static int begin(const char *function, int card) {
    int code = fault(function, card);
    return code != SUCCESS ? code : atomic_load(&inits) > 0 ? SUCCESS : UNINITIALIZED;
}

/* How many of the cards are whole; slices come after them. */
static int count_whole(const Card *cards, int count) {
    int whole = 0;
    while (whole < count && strncmp(cards[whole].uuid, "MIG-", 4) != 0)
        whole++;
    return whole;
}

/* The line of `cards` for the `wanted`-th slice of a card; -1: there is none. `divided`: whether it has MIG on. */
static int slice_of(int card, int wanted, int *divided) {
    int parent, line, found = -1;
    FILE *file = fopen(in_world("mig"), "re");
    *divided = 0;
    while (file && fscanf(file, "%d %d", &parent, &line) == 2)
        if (parent == card) {
            *divided = 1;
            if (line >= 0 && wanted-- == 0)
                found = line;
        }
    if (file)
        fclose(file);
    return found;
}

/* A device handle is the card's index plus one. */
static int index_of(const void *handle) { return (int)(intptr_t)handle - 1; }

static int begin_card(const char *function, const void *handle, Card *card) {
    Card cards[MAX_CARDS];
    int index = index_of(handle), code = begin(function, index);
    if (code != SUCCESS)
        return code;
    if (index < 0 || index >= read_cards(cards))
        return INVALID_ARGUMENT;
    *card = cards[index];
    return SUCCESS;
}

static int give_text(const char *text, char *buffer, unsigned int size) {
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

static void hang(void) {
    struct timespec step = {0, 5 * 1000 * 1000};
    for (long waited = 0;; waited += 5) {
        long wanted = 0;
        FILE *file = fopen(in_world("hang"), "re");
        if (file) {
            if (fscanf(file, "%ld", &wanted) != 1)
                wanted = 0;
            fclose(file);
        }
        if (waited >= wanted)
            return;
        nanosleep(&step, NULL);
    }
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    int code = fault("nvmlInitWithFlags", -1);
    if (code == SUCCESS)
        atomic_fetch_add(&inits, 1);
    return code;
}

int nvmlInit_v2(void) {
    int code = fault("nvmlInit_v2", -1);
    return code != SUCCESS ? code : nvmlInitWithFlags(0);
}

int nvmlShutdown(void) {
    int code = begin("nvmlShutdown", -1);
    if (code == SUCCESS)
        atomic_fetch_sub(&inits, 1);
    return code;
}

const char *nvmlErrorString(int code) {
    static _Thread_local char text[64];
    snprintf(text, sizeof text, "Error %d of the stand-in", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *buffer, unsigned int size) {
    int code = begin("nvmlSystemGetDriverVersion", -1);
    return code != SUCCESS ? code : give_text("999.99", buffer, size);
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    Card cards[MAX_CARDS];
    int code = begin("nvmlDeviceGetCount_v2", -1);
    if (code == SUCCESS)
        *count = (unsigned int)count_whole(cards, read_cards(cards));
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    Card card;
    int code = begin_card("nvmlDeviceGetHandleByIndex_v2", (void *)(intptr_t)(index + 1), &card);
    if (code == SUCCESS)
        *handle = (void *)(intptr_t)(index + 1);
    return code;
}

int nvmlDeviceGetMigMode(const void *handle, unsigned int *current, unsigned int *pending) {
    Card card;
    int divided, code = begin_card("nvmlDeviceGetMigMode", handle, &card);
    if (code == SUCCESS) {
        slice_of(index_of(handle), 0, &divided);
        *current = *pending = (unsigned int)divided;
    }
    return code;
}

int nvmlDeviceGetMaxMigDeviceCount(const void *handle, unsigned int *count) {
    Card card;
    int code = begin_card("nvmlDeviceGetMaxMigDeviceCount", handle, &card);
    if (code == SUCCESS)
        *count = 7;
    return code;
}

int nvmlDeviceGetMigDeviceHandleByIndex(const void *handle, unsigned int index, void **slice) {
    Card card;
    int divided, code = begin_card("nvmlDeviceGetMigDeviceHandleByIndex", handle, &card);
    if (code != SUCCESS)
        return code;
    int line = slice_of(index_of(handle), (int)index, &divided);
    if (line < 0)
        return NOT_FOUND;
    *slice = (void *)(intptr_t)(line + 1);
    return SUCCESS;
}

int nvmlDeviceGetUUID(const void *handle, char *buffer, unsigned int size) {
    Card card;
    int code = begin_card("nvmlDeviceGetUUID", handle, &card);
    return code != SUCCESS ? code : give_text(card.uuid, buffer, size);
}

int nvmlDeviceGetName(const void *handle, char *buffer, unsigned int size) {
    Card card;
    int code = begin_card("nvmlDeviceGetName", handle, &card);
    return code != SUCCESS ? code : give_text(card.name, buffer, size);
}

int nvmlDeviceGetPciInfo_v3(const void *handle, Pci *pci) {
    Card card;
    int code = begin_card("nvmlDeviceGetPciInfo_v3", handle, &card);
    if (code == SUCCESS) {
        memset(pci, 0, sizeof *pci);
        pci->bus = (unsigned int)index_of(handle) + 1;
        snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus);
        snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    }
    return code;
}

/* In bytes: what a card's processes and its base hold, at most all that the driver does not keep for itself. */
static unsigned long long used_on(const Card *card, int index) {
    unsigned long long usable = (card->total - card->reserved) * MIB;
    unsigned long long used = (unsigned long long)(card->base * (double)MIB) + allocated(card, index) * MIB;
    return used < usable ? used : usable;
}

/* As drivers since 510 do it, the old call counts what the driver reserves as used, and the new one tells it apart. */
int nvmlDeviceGetMemoryInfo(const void *handle, Memory *memory) {
    Card card;
    int code = begin_card("nvmlDeviceGetMemoryInfo", handle, &card);
    if (code == SUCCESS) {
        memory->total = card.total * MIB;
        memory->used = used_on(&card, index_of(handle)) + card.reserved * MIB;
        memory->free = memory->total - memory->used;
    }
    hang();
    return code;
}

int nvmlDeviceGetMemoryInfo_v2(const void *handle, Memory2 *memory) {
    Card card;
    int code = begin_card("nvmlDeviceGetMemoryInfo_v2", handle, &card);
    if (code == SUCCESS && memory->version != (sizeof *memory | 2U << 24))
        code = MISMATCH;
    if (code == SUCCESS) {
        memory->total = card.total * MIB;
        memory->reserved = card.reserved * MIB;
        memory->used = used_on(&card, index_of(handle));
        memory->free = memory->total - memory->reserved - memory->used;
    }
    hang();
    return code;
}

int nvmlDeviceGetUtilizationRates(const void *handle, Utilization *utilization) {
    Card card;
    int code = begin_card("nvmlDeviceGetUtilizationRates", handle, &card);
    if (code == SUCCESS && card.util < 0)
        code = NOT_SUPPORTED;
    if (code == SUCCESS)
        utilization->gpu = utilization->memory = (unsigned int)card.util;
    return code;
}

int nvmlDeviceGetTotalEccErrors(const void *handle, int type, int counter, unsigned long long *count) {
    const int uncorrected = 1, volatile_counter = 0;
    Card card;
    int code = begin_card("nvmlDeviceGetTotalEccErrors", handle, &card);
    if (code != SUCCESS)
        return code;
    *count = 0;
    FILE *file = fopen(in_world("ecc"), "re");
    int index;
    unsigned long long errors;
    while (file && type == uncorrected && counter == volatile_counter && fscanf(file, "%d %llu", &index, &errors) == 2)
        if (index == index_of(handle))
            *count = errors;
    if (file)
        fclose(file);
    return SUCCESS;
}

#endif
