/* sysdep.h - what differs between platforms: includes, feature tests and the names that a system
 * lacks.
 *
 * This is the only file with #if on a platform. The others test the IPV4B_HAVE_* values below,
 * which are always defined, to 0 or 1, so that the compiler sees both branches of a plain `if`.
 *
 * IPV4BATCH_NO_MMSG=1 at build time chooses, on Linux, what other systems get: a loop over recvmsg
 * and sendmsg, and a pipe in place of an eventfd.
 */
#ifndef IPV4B_SYSDEP_H
#define IPV4B_SYSDEP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* recvmmsg, sendmmsg, ppoll, struct in_pktinfo */
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <netinet/in.h>
#include <netinet/ip.h>

#include <arpa/inet.h>
#include <poll.h>

#if defined(IPV4BATCH_NO_MMSG) || !defined(__linux__)
#define IPV4B_HAVE_MMSG 0
#define IPV4B_HAVE_EVENTFD 0
#define IPV4B_HAVE_EPOLL 0
#define IPV4B_HAVE_CLOCK_NANOSLEEP 0 /* macOS has none */
#else
#define IPV4B_HAVE_MMSG 1
#define IPV4B_HAVE_EVENTFD 1
#define IPV4B_HAVE_EPOLL 1
#define IPV4B_HAVE_CLOCK_NANOSLEEP 1
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

/* One slot of a batch: a message header and the number of bytes that were moved. */
#if defined(__linux__)
typedef struct mmsghdr ipv4b_slot;
#else
typedef struct {
    struct msghdr msg_hdr;
    unsigned int msg_len;
} ipv4b_slot;
#endif

/* Shut down for reading: poll(2), Linux 2.6.17. */
#if defined(POLLRDHUP)
enum { IPV4B_POLLRDHUP = POLLRDHUP };
#else
enum { IPV4B_POLLRDHUP = 0 };
#endif

/* ICMP "source host isolated"; -1, which is no errno, on systems without it. */
#if defined(ENONET)
enum { IPV4B_ENONET = ENONET };
#else
enum { IPV4B_ENONET = -1 };
#endif

/* sendmmsg takes UIO_MAXIOV messages a call (net/socket.c); the same constant bounds the iovecs of
 * one. */
enum { IPV4B_SEND_MAX = 1024, IPV4B_IOV_MAX = 1024 };

/* An option number that the platform lacks is -1: asking for it gives -ENOPROTOOPT. */
#if defined(IP_RECVTTL)
#define IPV4B_IP_RECVTTL IP_RECVTTL
#else
#define IPV4B_IP_RECVTTL (-1)
#endif

#if defined(IP_PKTINFO) && defined(__linux__)
#define IPV4B_IP_PKTINFO IP_PKTINFO
typedef struct in_pktinfo ipv4b_pktinfo;
#else
#define IPV4B_IP_PKTINFO (-1)
typedef struct {
    int ipi_ifindex;
    struct in_addr ipi_spec_dst;
    struct in_addr ipi_addr;
} ipv4b_pktinfo;
#endif

#if defined(IP_RECVTOS)
#define IPV4B_IP_RECVTOS IP_RECVTOS
#else
#define IPV4B_IP_RECVTOS (-1)
#endif

/* The types of a received TTL and TOS: Linux names them IP_TTL and IP_TOS, the BSDs IP_RECVTTL and
 * IP_RECVTOS. */
#if defined(__linux__)
#define IPV4B_CMSG_TTL IP_TTL
#define IPV4B_CMSG_TOS IP_TOS
#else
#define IPV4B_CMSG_TTL IPV4B_IP_RECVTTL
#define IPV4B_CMSG_TOS IPV4B_IP_RECVTOS
#endif

/* Linux only (socket(7)). */
#if defined(__linux__)
#define IPV4B_SO_TIMESTAMPNS SO_TIMESTAMPNS
#define IPV4B_SCM_TIMESTAMPNS SCM_TIMESTAMPNS
#define IPV4B_SO_RXQ_OVFL SO_RXQ_OVFL
#else
#define IPV4B_SO_TIMESTAMPNS (-1)
#define IPV4B_SCM_TIMESTAMPNS (-1)
#define IPV4B_SO_RXQ_OVFL (-1)
#endif

/* Where a socket cannot be made close-on-exec, those of ours live for a moment. */
#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0
#endif

/* The times at which datagrams leave (linux/net_tstamp.h, linux/errqueue.h). IPV4B_TX_*
 * are of SOF_TIMESTAMPING_*: HARDWARE to ACK ask for stamps of what is sent, REPORT is what a socket needs
 * for them, and with RX_FILTER what it receives gets none of this kind (OPT_RX_FILTER, since Linux 6.12). */
#if defined(__linux__)
#define IPV4B_SO_TIMESTAMPING SO_TIMESTAMPING
enum {
    IPV4B_SO_TXTIME = 61,     /* asm-generic/socket.h; also the type of the control item */
    IPV4B_SCM_TS_OPT_ID = 81, /* asm-generic/socket.h */
    IPV4B_TX_HARDWARE = 1,
    IPV4B_TX_SOFTWARE = 2,
    IPV4B_TX_SCHED = 256,
    IPV4B_TX_ACK = 512,
    IPV4B_TX_RAW_HARDWARE = 64,
    IPV4B_TX_REPORT = 16 | IPV4B_TX_RAW_HARDWARE | 128 | 2048, /* SOFTWARE, OPT_ID, OPT_TSONLY */
    IPV4B_TX_RX_FILTER = 1 << 17,
    IPV4B_TSTAMP_SND = 0, /* SCM_TSTAMP_SND, SCM_TSTAMP_SCHED: linux/errqueue.h */
    IPV4B_TSTAMP_SCHED = 1,
    IPV4B_MSG_CONFIRM = MSG_CONFIRM,
    IPV4B_MSG_PROBE = 0x10, /* linux/socket.h */
};
#else
#define IPV4B_SO_TIMESTAMPING (-1)
enum {
    IPV4B_SO_TXTIME = -1,
    IPV4B_SCM_TS_OPT_ID = -1,
    IPV4B_TX_HARDWARE = 1,
    IPV4B_TX_SOFTWARE = 2,
    IPV4B_TX_SCHED = 256,
    IPV4B_TX_ACK = 512,
    IPV4B_TX_RAW_HARDWARE = 64,
    IPV4B_TX_REPORT = 0,
    IPV4B_TX_RX_FILTER = 0,
    IPV4B_TSTAMP_SND = 0,
    IPV4B_TSTAMP_SCHED = 1,
    IPV4B_MSG_CONFIRM = 0,
    IPV4B_MSG_PROBE = 0,
};
#endif

/* A UDP socket that sends no checksums (socket.c of the kernel; the C library names it, the man pages
 * do not). */
#if defined(SO_MAX_PACING_RATE)
enum { IPV4B_SO_MAX_PACING_RATE = SO_MAX_PACING_RATE };
#else
enum { IPV4B_SO_MAX_PACING_RATE = -1 };
#endif

#if defined(SO_NO_CHECK)
enum { IPV4B_SO_NO_CHECK = SO_NO_CHECK };
#else
enum { IPV4B_SO_NO_CHECK = -1 };
#endif

/* From linux/udp.h (UDP_SEGMENT since Linux 4.18, UDP_GRO since 5.0), which older C libraries do
 * not carry. */
#if defined(__linux__)
enum { IPV4B_UDP_SEGMENT = 103, IPV4B_UDP_GRO = 104, IPV4B_UDP_CORK = 1 };
#else
enum { IPV4B_UDP_SEGMENT = -1, IPV4B_UDP_GRO = -1, IPV4B_UDP_CORK = -1 };
#endif

/* Errors of the network on a queue of the socket, and what is known of the path (ip(7)). */
#if defined(__linux__)
#include <linux/errqueue.h>
enum {
    IPV4B_IP_RECVERR = IP_RECVERR,
    IPV4B_IP_MTU_DISCOVER = IP_MTU_DISCOVER,
    IPV4B_PMTUDISC_DONT = IP_PMTUDISC_DONT,
    IPV4B_PMTUDISC_WANT = IP_PMTUDISC_WANT,
    IPV4B_IP_MTU = IP_MTU,
    IPV4B_IP_MULTICAST_ALL = 49, /* linux/in.h; not every C library names it */
    IPV4B_MSG_ERRQUEUE = MSG_ERRQUEUE,
    IPV4B_ORIGIN_TIMESTAMPING = SO_EE_ORIGIN_TIMESTAMPING,
};
typedef struct sock_extended_err ipv4b_extended_error;
#else
enum {
    IPV4B_IP_RECVERR = -1,
    IPV4B_IP_MTU_DISCOVER = -1,
    IPV4B_PMTUDISC_DONT = 0,
    IPV4B_PMTUDISC_WANT = 1,
    IPV4B_IP_MTU = -1,
    IPV4B_IP_MULTICAST_ALL = -1,
    IPV4B_MSG_ERRQUEUE = 0,
    IPV4B_ORIGIN_TIMESTAMPING = -1,
};
typedef struct {
    uint32_t ee_errno;
    uint8_t ee_origin, ee_type, ee_code, ee_pad;
    uint32_t ee_info, ee_data;
} ipv4b_extended_error;
#endif

/* ICMP_FILTER of raw sockets (linux/icmp.h, raw(7)). */
#if defined(__linux__)
enum { IPV4B_SOL_RAW = 255, IPV4B_ICMP_FILTER = 1 };
#else
enum { IPV4B_SOL_RAW = 255, IPV4B_ICMP_FILTER = -1 };
#endif

/* Classic BPF on a socket (linux/filter.h). */
enum { IPV4B_BPF_MAX = 4096 };
#if defined(__linux__)
#include <linux/filter.h>
typedef struct sock_filter ipv4b_bpf_instruction;
typedef struct sock_fprog ipv4b_bpf_program;
enum { IPV4B_SO_ATTACH_FILTER = SO_ATTACH_FILTER, IPV4B_SO_DETACH_FILTER = SO_DETACH_FILTER };
#else
typedef struct {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
} ipv4b_bpf_instruction;
typedef struct {
    unsigned short len;
    ipv4b_bpf_instruction *filter;
} ipv4b_bpf_program;
enum { IPV4B_SO_ATTACH_FILTER = -1, IPV4B_SO_DETACH_FILTER = -1 };
#endif

/* Raw sockets of the BSDs carry total length and fragment offset in host order; darwin's received
 * total length leaves out the header (x/net/ipv4 header.go has the same table). */
#if defined(__APPLE__) || defined(__NetBSD__) || defined(__DragonFly__) ||                         \
    (defined(__FreeBSD__) && __FreeBSD__ < 11)
#define IPV4B_RAW_HOST_ORDER 1
#else
#define IPV4B_RAW_HOST_ORDER 0
#endif
#if defined(__APPLE__)
#define IPV4B_RAW_LEN_WITHOUT_HEADER 1
#else
#define IPV4B_RAW_LEN_WITHOUT_HEADER 0
#endif

/* Not in POSIX, but every system with control messages has it. */
#if !defined(CMSG_ALIGN)
#define CMSG_ALIGN(len) (CMSG_SPACE(len) - CMSG_SPACE(0))
#endif

/* Returns the socket's address family, or -errno. */
static inline int
ipv4b_socket_domain(int fd)
{
#if defined(SO_DOMAIN)
    int domain = 0;
    socklen_t len = sizeof domain;

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ? -errno : domain;
#else
    struct sockaddr_storage name;
    socklen_t len = sizeof name;

    return getsockname(fd, (struct sockaddr *)&name, &len) < 0 ? -errno : name.ss_family;
#endif
}

/* Returns the socket's protocol number, 0 where the system cannot tell, or -errno. */
static inline int
ipv4b_socket_protocol(int fd)
{
#if defined(SO_PROTOCOL)
    int protocol = 0;
    socklen_t len = sizeof protocol;

    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 ? -errno : protocol;
#else
    (void)fd;
    return 0;
#endif
}

#endif
