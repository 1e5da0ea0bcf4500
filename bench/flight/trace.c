// Every kernel, copy and fill of a CUDA program, with its time: a library that the driver loads into it.
//
//     gcc -shared -fPIC -O2 trace.c -o trace.so -I…/include -L…/lib -l:libcupti.so.13 -lpthread
//     CUDA_INJECTION64_PATH=$PWD/trace.so TRACE_OUT=trace.tsv program
//
// A line for each: start and duration in ns, blocks, threads of a block, registers of a thread, bytes of
// dynamic shared memory, name. Where CUPTI refuses, TRACE_OUT says why, on a line that begins with #.
#define _GNU_SOURCE
#include <cupti.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *out;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void row(uint64_t start, uint64_t end, int64_t blocks, int threads, int registers, int shared,
                const char *name) {
    fprintf(out, "%" PRIu64 "\t%" PRIu64 "\t%" PRId64 "\t%d\t%d\t%d\t%.160s\n", start, end - start, blocks,
            threads, registers, shared, name);
}

static const char *copy(uint8_t kind) {
    switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD: return "memcpy HtoD";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH: return "memcpy DtoH";
    default: return "memcpy DtoD";
    }
}

static void take(const CUpti_Activity *record) {
    switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const CUpti_ActivityKernel10 *k = (const CUpti_ActivityKernel10 *)record;
        row(k->start, k->end, (int64_t)k->gridX * k->gridY * k->gridZ, k->blockX * k->blockY * k->blockZ,
            k->registersPerThread, k->dynamicSharedMemory, k->name);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const CUpti_ActivityMemcpy6 *m = (const CUpti_ActivityMemcpy6 *)record;
        row(m->start, m->end, 0, 0, 0, 0, copy(m->copyKind));
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const CUpti_ActivityMemset4 *m = (const CUpti_ActivityMemset4 *)record;
        row(m->start, m->end, 0, 0, 0, 0, "memset");
        break;
    }
    default: break;
    }
}

static void CUPTIAPI wanted(uint8_t **buffer, size_t *size, size_t *records) {
    *size = 8 << 20, *records = 0;
    if (posix_memalign((void **)buffer, 8, *size)) *buffer = NULL, *size = 0;
}

static void CUPTIAPI filled(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
    (void)context, (void)stream, (void)size;
    CUpti_Activity *record = NULL;
    pthread_mutex_lock(&lock);
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) take(record);
    fflush(out);
    pthread_mutex_unlock(&lock);
    free(buffer);
}

static void finish(void) { cuptiActivityFlushAll(1); }

static void need(CUptiResult result, const char *what) {
    const char *words = "unknown";
    if (result == CUPTI_SUCCESS) return;
    cuptiGetResultString(result, &words);
    fprintf(out, "# %s: %s\n", what, words);
}

int InitializeInjection(void) {
    const char *path = getenv("TRACE_OUT");
    out = path ? fopen(path, "w") : stderr;
    if (!out) return 0;
    need(cuptiActivityRegisterCallbacks(wanted, filled), "callbacks");
    // However the program ends, what it did until then is there.
    need(cuptiActivityFlushPeriod(100), "flushing");
    need(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), "kernels");
    need(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY), "copies");
    need(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET), "fills");
    atexit(finish);
    return 1;
}
