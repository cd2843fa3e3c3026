/*
 * What programs may not ask the kernel for: what changes the machine or the sandbox's own walls, and what no program needs
 * but most breaks in the kernel's walls began with. All else is allowed: Python, Node and Bun run as they are.
 */
#include "init.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *const DENIED[] = {
    /* mounts */
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "listmount", "statmount",
    /* namespaces */
    "unshare", "setns",
    /* other processes */
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
    /* large and rarely needed parts of the kernel */
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key",
    "request_key", "fanotify_init", "fanotify_mark", "lookup_dcookie", "nfsservctl", "vm86", "vm86old", "modify_ldt",
    "uselib", "ustat", "sysfs", "_sysctl", "move_pages", "migrate_pages", "mbind",
    /* the machine */
    "init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load", "reboot", "swapon",
    "swapoff", "acct", "syslog", "quotactl", "quotactl_fd", "sethostname", "setdomainname", "vhangup", "iopl", "ioperm",
    "clock_settime", "clock_adjtime", "settimeofday", "stime", "adjtimex",
    /* files by number, past all paths */
    "open_by_handle_at", "name_to_handle_at",
};

static const int NAMESPACES[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS,
                                 CLONE_NEWCGROUP};
static const int FAMILIES[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
static const int RAW_TYPES[] = {SOCK_RAW, SOCK_PACKET};
static const unsigned TERMINAL_INPUT[] = {0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */};
static const int DEVICES[] = {S_IFCHR, S_IFBLK};

enum { SOCKET_TYPE_BITS = 0xf }; /* the rest are SOCK_CLOEXEC and SOCK_NONBLOCK */
/* The kernel looks at 32 bits of these arguments, a filter at 64: the upper ones are the caller's to choose. */
#define LOW_BITS(argument, mask, value) SCMP_CMP64(argument, SCMP_CMP_MASKED_EQ, (mask), (value))
#define ALL_32 0xffffffffu

#define COUNT(array) (sizeof(array) / sizeof *(array))

static scmp_filter_ctx filter;
static int failure;

#define DENY(error, call, count, ...) \
  do { \
    int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), (call), (count), ##__VA_ARGS__); \
    if (r != 0 && failure == 0) failure = r; \
  } while (0)

static void deny_by_name(void) {
  for (size_t i = 0; i < COUNT(DENIED); i++) {
    int call = seccomp_syscall_resolve_name(DENIED[i]);
    if (call >= 0) DENY(EPERM, call, 0); /* below: unknown to this machine or to this libseccomp */
  }
  /* Its flags lie in memory, where a filter can't look: libc goes on with clone. */
  DENY(ENOSYS, SCMP_SYS(clone3), 0);
}

static bool is_family_allowed(int family) {
  for (size_t i = 0; i < COUNT(FAMILIES); i++)
    if (FAMILIES[i] == family) return true;
  return false;
}

static void deny_sockets(void) {
  for (int family = 0; family < AF_NETLINK; family++)
    if (!is_family_allowed(family)) DENY(EAFNOSUPPORT, SCMP_SYS(socket), 1, LOW_BITS(0, ALL_32, family));
  DENY(EAFNOSUPPORT, SCMP_SYS(socket), 1, SCMP_CMP64(0, SCMP_CMP_GT, AF_NETLINK, 0));
  for (size_t i = 0; i < COUNT(FAMILIES); i++)
    for (size_t j = 0; j < COUNT(RAW_TYPES); j++)
      if (FAMILIES[i] != AF_NETLINK)
        DENY(EPERM, SCMP_SYS(socket), 2, LOW_BITS(0, ALL_32, FAMILIES[i]), LOW_BITS(1, SOCKET_TYPE_BITS, RAW_TYPES[j]));
}

static void deny_by_argument(void) {
  for (size_t i = 0; i < COUNT(NAMESPACES); i++)
    DENY(EPERM, SCMP_SYS(clone), 1, LOW_BITS(0, (unsigned)NAMESPACES[i], (unsigned)NAMESPACES[i]));
  for (size_t i = 0; i < COUNT(TERMINAL_INPUT); i++)
    DENY(EPERM, SCMP_SYS(ioctl), 1, LOW_BITS(1, ALL_32, TERMINAL_INPUT[i]));
  for (size_t i = 0; i < COUNT(DEVICES); i++) {
    DENY(EPERM, SCMP_SYS(mknod), 1, LOW_BITS(1, S_IFMT, (unsigned)DEVICES[i]));
    DENY(EPERM, SCMP_SYS(mknodat), 1, LOW_BITS(2, S_IFMT, (unsigned)DEVICES[i]));
  }
  /* Orphans of an execution must not get past its leader. */
  DENY(EPERM, SCMP_SYS(prctl), 2, LOW_BITS(0, ALL_32, PR_SET_CHILD_SUBREAPER), SCMP_CMP64(1, SCMP_CMP_EQ, 0, 0));
}

/* 0, or a negative errno: then nothing may be run. Calls by the 32-bit and x32 numbers end the process. */
int seccomp_apply(void) {
  filter = seccomp_init(SCMP_ACT_ALLOW);
  if (filter == NULL) return -ENOMEM;
  failure = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree instead of a list, where libseccomp can */
  deny_by_name();
  deny_by_argument();
  deny_sockets();
  if (failure == 0) failure = seccomp_load(filter);
  seccomp_release(filter);
  return failure;
}
