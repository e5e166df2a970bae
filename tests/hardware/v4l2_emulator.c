/* A USB video camera for OpenCV without a camera: preloaded into a process, it answers the calls that a Video4Linux
 * device would answer for /dev/video42. Written from the kernel's documentation of the V4L2 API (userspace-api/media).
 *
 * The camera exposes all the time, 50 pictures per second. A finished picture goes into the oldest buffer that the
 * program has queued; where there is none it is lost, as with uvcvideo. So buffers left alone keep old pictures.
 * Every picture carries the time when its exposure began, in nanoseconds, in its first pixels (see `write_picture`).
 *
 * Faults are set from within the process: emulator_plug(0 or 1), emulator_stall(0 or 1), emulator_stamp(mode),
 * emulator_stubborn(control that keeps its value although setting it succeeds, or 0); emulator_power_up() switches all
 * automatics on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define DEVICE "/dev/video42"
#define WIDTH 64
#define HEIGHT 48
#define PERIOD_NS 20000000LL
#define BUFFERS 8
#define PAGE 65536

enum { STAMP_BEGIN, STAMP_END, STAMP_NONE };
enum { FREE, QUEUED, DONE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int device = -1, plugged = 1, stalled = 0, streaming = 0, stamps = STAMP_BEGIN, producer_runs = 0;
static uint32_t format = V4L2_PIX_FMT_YUYV;
static int exposure = 156, exposure_mode = 3, gain = 16, white_balance = 1, focus = 1;
static struct { void *memory; int state; uint64_t order; struct timeval stamp; } buffers[BUFFERS];
static unsigned buffer_count = 0;
static uint64_t turn = 0;
static uint32_t stubborn = 0;

void emulator_plug(int in) { plugged = in; if (!in && device >= 0) { uint64_t one = 1; (void)!write(device, &one, 8); } }
void emulator_stall(int on) { stalled = on; }
void emulator_stamp(int mode) { stamps = mode; }
void emulator_stubborn(uint32_t control) { stubborn = control; }
void emulator_power_up(void) { exposure_mode = 3, white_balance = focus = 1; }
int emulator_exposure(void) { return exposure; }
int emulator_exposure_mode(void) { return exposure_mode; }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static unsigned image_size(void) { return WIDTH * HEIGHT * 2; }

/* 16 pixels give the 64 bits of the time, 4 bits each as 16, 24 ... 136 in 8 bit, times 256 in 16 bit: values that
 * survive the change from YUV to grey. The rest is even and grows with the exposure. */
static void write_picture(uint8_t *memory, int64_t began_ns) {
    unsigned level = exposure > 2000 ? 200 : 20 + exposure / 12;
    for (unsigned pixel = 0; pixel < WIDTH * HEIGHT; pixel++) {
        unsigned value = pixel < 16 ? 16 + 8 * (unsigned)((began_ns >> (4 * pixel)) & 15) : level;
        if (format == V4L2_PIX_FMT_Y16) {
            memory[2 * pixel] = 0, memory[2 * pixel + 1] = (uint8_t)value;
        } else {
            memory[2 * pixel] = (uint8_t)value, memory[2 * pixel + 1] = 128;
        }
    }
}

static void *produce(void *unused) {
    (void)unused;
    int64_t tick_ns = now_ns();
    for (;;) {
        int64_t began_ns = tick_ns;
        tick_ns += PERIOD_NS;
        struct timespec until = {tick_ns / 1000000000LL, tick_ns % 1000000000LL};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        pthread_mutex_lock(&lock);
        int best = -1;
        for (unsigned i = 0; i < buffer_count; i++)
            if (buffers[i].state == QUEUED && (best < 0 || buffers[i].order < buffers[best].order)) best = (int)i;
        if (streaming && plugged && !stalled && best >= 0) {
            write_picture(buffers[best].memory, began_ns);
            int64_t stamp_ns = stamps == STAMP_END ? tick_ns : stamps == STAMP_BEGIN ? began_ns : 0;
            buffers[best].stamp = (struct timeval){stamp_ns / 1000000000LL, stamp_ns / 1000 % 1000000};
            buffers[best].state = DONE, buffers[best].order = ++turn;
            uint64_t one = 1;
            (void)!write(device, &one, 8);
        }
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static int opened(const char *path, int flags, int mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    if (strcmp(path, DEVICE) != 0) return real(path, flags, mode);
    if (!plugged) { errno = ENOENT; return -1; }
    if (device >= 0) { errno = EBUSY; return -1; }
    if (!producer_runs) {
        pthread_t thread;
        producer_runs = pthread_create(&thread, NULL, produce, NULL) == 0;
    }
    return device = eventfd(0, EFD_NONBLOCK | EFD_SEMAPHORE);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    return opened(path, flags, mode);
}

int close(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (file == device && file >= 0) {
        pthread_mutex_lock(&lock);
        streaming = 0, buffer_count = 0, device = -1;
        pthread_mutex_unlock(&lock);
    }
    return real(file);
}

static void *mapped(void *at, size_t length, int rights, int flags, int file, off_t offset, const char *name) {
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, name);
    if (file != device || file < 0) return real(at, length, rights, flags, file, offset);
    void *memory = real(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffers[offset / PAGE].memory = memory;
    return memory;
}

void *mmap(void *at, size_t length, int rights, int flags, int file, off_t offset) {
    return mapped(at, length, rights, flags, file, offset, "mmap");
}

void *mmap64(void *at, size_t length, int rights, int flags, int file, off_t offset) {
    return mapped(at, length, rights, flags, file, offset, "mmap64");
}

static struct { uint32_t id; int *value; int low, high; } controls[] = {
    {V4L2_CID_EXPOSURE_AUTO, &exposure_mode, 0, 3}, {V4L2_CID_EXPOSURE_ABSOLUTE, &exposure, 3, 2047},
    {V4L2_CID_GAIN, &gain, 0, 255}, {V4L2_CID_AUTO_WHITE_BALANCE, &white_balance, 0, 1},
    {V4L2_CID_FOCUS_AUTO, &focus, 0, 1},
};
#define CONTROLS (sizeof controls / sizeof *controls)

static int fill_format(struct v4l2_format *wanted) {
    struct v4l2_pix_format *pix = &wanted->fmt.pix;
    if (pix->pixelformat != V4L2_PIX_FMT_YUYV && pix->pixelformat != V4L2_PIX_FMT_Y16) pix->pixelformat = format;
    pix->width = WIDTH, pix->height = HEIGHT, pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = WIDTH * 2, pix->sizeimage = image_size(), pix->colorspace = V4L2_COLORSPACE_SRGB;
    return 0;
}

static int fill_buffer(struct v4l2_buffer *b) {
    b->length = image_size(), b->bytesused = image_size(), b->memory = V4L2_MEMORY_MMAP;
    b->m.offset = b->index * PAGE, b->timestamp = buffers[b->index].stamp, b->field = V4L2_FIELD_NONE;
    b->flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    return 0;
}

static int failed(int why) { errno = why; return -1; }

static int answer(unsigned long request, void *argument) {
    if (!plugged) return failed(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *c = argument;
        memset(c, 0, sizeof *c);
        strcpy((char *)c->driver, "uvcvideo"), strcpy((char *)c->card, "Emulated microscope camera");
        c->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS;
        c->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *f = argument;
        if (f->index > 1) return failed(EINVAL);
        f->pixelformat = f->index ? V4L2_PIX_FMT_Y16 : V4L2_PIX_FMT_YUYV;
        return 0;
    }
    case VIDIOC_G_FMT: ((struct v4l2_format *)argument)->fmt.pix.pixelformat = format; return fill_format(argument);
    case VIDIOC_TRY_FMT: return fill_format(argument);
    case VIDIOC_S_FMT:
        if (buffer_count) return failed(EBUSY);
        fill_format(argument);
        format = ((struct v4l2_format *)argument)->fmt.pix.pixelformat;
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *p = argument;
        p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        p->parm.capture.timeperframe = (struct v4l2_fract){1, 50};
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *r = argument;
        if (r->count > BUFFERS) r->count = BUFFERS;
        buffer_count = r->count;
        for (unsigned i = 0; i < BUFFERS; i++) buffers[i].state = FREE;
        return 0;
    }
    case VIDIOC_QUERYBUF: return fill_buffer(argument);
    case VIDIOC_QBUF: {
        struct v4l2_buffer *b = argument;
        buffers[b->index].state = QUEUED, buffers[b->index].order = ++turn;
        return 0;
    }
    case VIDIOC_DQBUF: {
        struct v4l2_buffer *b = argument;
        int best = -1;
        for (unsigned i = 0; i < buffer_count; i++)
            if (buffers[i].state == DONE && (best < 0 || buffers[i].order < buffers[best].order)) best = (int)i;
        if (best < 0) return failed(EAGAIN);
        uint64_t one;
        (void)!read(device, &one, 8);
        buffers[best].state = FREE, b->index = (unsigned)best;
        return fill_buffer(b);
    }
    case VIDIOC_STREAMON: streaming = 1; return 0;
    case VIDIOC_STREAMOFF: {
        uint64_t one;
        streaming = 0;
        while (read(device, &one, 8) == 8) continue;
        for (unsigned i = 0; i < BUFFERS; i++) buffers[i].state = FREE;
        return 0;
    }
    case VIDIOC_QUERYCTRL:
    case VIDIOC_G_CTRL:
    case VIDIOC_S_CTRL:
        for (unsigned i = 0; i < CONTROLS; i++) {
            if (controls[i].id != *(uint32_t *)argument) continue;
            if (request == VIDIOC_QUERYCTRL) {
                struct v4l2_queryctrl *q = argument;
                q->type = V4L2_CTRL_TYPE_INTEGER, q->flags = 0, q->step = 1;
                q->minimum = controls[i].low, q->maximum = controls[i].high, q->default_value = *controls[i].value;
                return 0;
            }
            struct v4l2_control *c = argument;
            if (request == VIDIOC_S_CTRL) {
                if (controls[i].id == V4L2_CID_EXPOSURE_ABSOLUTE && exposure_mode != V4L2_EXPOSURE_MANUAL)
                    return failed(EACCES);
                if (controls[i].id == stubborn) return 0;
                int value = c->value < controls[i].low ? controls[i].low : c->value;
                *controls[i].value = value > controls[i].high ? controls[i].high : value;
            }
            c->value = *controls[i].value;
            return 0;
        }
        return failed(EINVAL);
    default: return failed(ENOTTY);
    }
}

int ioctl(int file, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (file != device || file < 0) {
        int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
        return real(file, request, argument);
    }
    pthread_mutex_lock(&lock);
    int result = answer((uint32_t)request, argument);
    int why = errno;
    pthread_mutex_unlock(&lock);
    errno = why;
    return result;
}
