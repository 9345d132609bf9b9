/* A camera for machines that have none: answers for the device DEVICE as a V4L2 driver does, below FFmpeg and
 * everything above it. To be preloaded (LD_PRELOAD) into the program that opens the camera.
 *
 * Compiled with -DDEVICE="path" -DPICTURE="path" -DSTATE="path".
 * PICTURE: WIDTH x HEIGHT bytes of luma, shown at RATE_HZ as YUYV; its first row is overwritten with the frame number.
 * STATE: a file with one word. ok; gone: no such device, and reading from it fails; denied: opening it is refused;
 * busy: it opens, as V4L2 lets several programs do, and is streaming for another. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 640, HEIGHT = 480, RATE_HZ = 30, BUFFERS = 32, FRAME_BYTES = WIDTH * HEIGHT * 2 };

static int camera = -1, streaming, queue[BUFFERS], queued, sequence;
static unsigned char *memory, picture[WIDTH * HEIGHT];
static struct timespec due;

static int refuse(int number) { errno = number; return -1; }

static int is(const char *word) {
    char text[16] = "";
    FILE *file = fopen(STATE, "r");
    if (file == NULL) return 0;
    int read = fscanf(file, "%15s", text);
    fclose(file);
    return read == 1 && strcmp(text, word) == 0;
}

static int open_camera(void) {
    if (is("gone")) return refuse(ENOENT);
    if (is("denied")) return refuse(EACCES);
    FILE *file = fopen(PICTURE, "rb");
    if (file == NULL || fread(picture, 1, sizeof picture, file) != sizeof picture) return refuse(EIO);
    fclose(file);
    camera = memfd_create("camera", MFD_CLOEXEC);
    if (camera < 0 || ftruncate(camera, (off_t)BUFFERS * FRAME_BYTES) < 0) return -1;
    memory = mmap(NULL, (size_t)BUFFERS * FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, camera, 0);
    streaming = queued = sequence = 0;
    return camera;
}

static void show(int index) {
    unsigned char *frame = memory + (size_t)index * FRAME_BYTES;
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        frame[2 * i] = i < WIDTH ? (unsigned char)(16 + sequence % 200) : picture[i];
        frame[2 * i + 1] = 128;
    }
}

static int next_picture(struct v4l2_buffer *buffer) {
    if (is("gone")) return refuse(ENODEV);
    if (!streaming || queued == 0) return refuse(EINVAL);
    due.tv_nsec += 1000000000 / RATE_HZ;
    if (due.tv_nsec >= 1000000000) { due.tv_nsec -= 1000000000; due.tv_sec++; }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {}
    buffer->index = queue[0];
    memmove(queue, queue + 1, --queued * sizeof *queue);
    show(buffer->index);
    buffer->bytesused = buffer->length = FRAME_BYTES;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->sequence = sequence++;
    buffer->timestamp.tv_sec = due.tv_sec;
    buffer->timestamp.tv_usec = due.tv_nsec / 1000;
    return 0;
}

static int answer(unsigned long request, void *argument) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *caps = argument;
        memset(caps, 0, sizeof *caps);
        strcpy((char *)caps->driver, "software");
        strcpy((char *)caps->card, "Software camera");
        caps->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        caps->capabilities = caps->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *input = argument;
        if (input->index != 0) return refuse(EINVAL);
        memset(input, 0, sizeof *input);
        input->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_S_INPUT: return *(int *)argument == 0 ? 0 : refuse(EINVAL);
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *desc = argument;
        if (desc->index != 0) return refuse(EINVAL);
        desc->pixelformat = V4L2_PIX_FMT_YUYV;
        return 0;
    }
    case VIDIOC_S_FMT:
        if (is("busy")) return refuse(EBUSY);
        /* fall through */
    case VIDIOC_TRY_FMT:
    case VIDIOC_G_FMT: { /* A driver answers with what it can do, whatever was asked for. */
        struct v4l2_pix_format *pix = &((struct v4l2_format *)argument)->fmt.pix;
        memset(pix, 0, sizeof *pix);
        pix->width = WIDTH, pix->height = HEIGHT, pix->pixelformat = V4L2_PIX_FMT_YUYV;
        pix->field = V4L2_FIELD_NONE, pix->bytesperline = 2 * WIDTH, pix->sizeimage = FRAME_BYTES;
        return 0;
    }
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_captureparm *capture = &((struct v4l2_streamparm *)argument)->parm.capture;
        memset(capture, 0, sizeof *capture);
        capture->capability = V4L2_CAP_TIMEPERFRAME;
        capture->timeperframe.numerator = 1, capture->timeperframe.denominator = RATE_HZ;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (is("busy")) return refuse(EBUSY);
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->length = FRAME_BYTES;
        buffer->m.offset = buffer->index * FRAME_BYTES;
        return buffer->index < BUFFERS ? 0 : refuse(EINVAL);
    }
    case VIDIOC_QBUF:
        if (queued == BUFFERS) return refuse(EINVAL);
        queue[queued++] = (int)((struct v4l2_buffer *)argument)->index;
        return 0;
    case VIDIOC_DQBUF: return next_picture(argument);
    case VIDIOC_STREAMON: streaming = 1; return clock_gettime(CLOCK_MONOTONIC, &due);
    case VIDIOC_STREAMOFF: streaming = 0; return 0;
    default: return refuse(ENOTTY);
    }
}

typedef int (*open_t)(const char *, int, ...);
typedef int (*ioctl_t)(int, unsigned long, ...);
typedef int (*close_t)(int);

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    if (strcmp(path, DEVICE) == 0) return open_camera();
    return ((open_t)dlsym(RTLD_NEXT, name))(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_any("open64", path, flags, mode);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (fd >= 0 && fd == camera) return answer(request & 0xffffffffUL, argument);
    return ((ioctl_t)dlsym(RTLD_NEXT, "ioctl"))(fd, request, argument);
}

int close(int fd) {
    if (fd >= 0 && fd == camera) {
        munmap(memory, (size_t)BUFFERS * FRAME_BYTES);
        camera = -1;
    }
    return ((close_t)dlsym(RTLD_NEXT, "close"))(fd);
}
