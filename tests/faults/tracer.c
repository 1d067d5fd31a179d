/* Runs a command, counts every call to the file system that any of its processes makes below some folders, and lets one
   of them go wrong. By ptrace, and so whatever the program is: a shell's built-in command, a static binary, stdio.

   tracer LOG FOLDER[:FOLDER...] NUMBER STICKY FAULT COMMAND...

   LOG gets a line for each call (number, operation, path, new path), and one when it returns (number, result). FAULT at call
   NUMBER (0: at none; -1: at none, and results are not logged, which is quicker):
     an error number   the call is not made and fails so; with STICKY=1, so do all later calls of that operation
     short             half of what was asked for is read or written
     half              half of it is written, and then all processes are killed
     kill, killall     this process, or all of them, are killed before the call
     term              the command itself gets SIGTERM before the call, as a container does
   Exit: the command's, 128 and the signal that ended it, 137 after half and killall. x86_64 only. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DESCRIPTOR = 1, BOTH, NAME, AT, TWO_NAMES, TWO_AT, ALL };
static const struct { long number; const char *operation; int kind; } CALLS[] = {
  {SYS_open, "open", NAME}, {SYS_openat, "open", AT}, {SYS_creat, "create", NAME},
  {SYS_read, "read", DESCRIPTOR}, {SYS_pread64, "read", DESCRIPTOR}, {SYS_readv, "read", DESCRIPTOR},
  {SYS_write, "write", DESCRIPTOR}, {SYS_pwrite64, "write", DESCRIPTOR}, {SYS_writev, "write", DESCRIPTOR},
  {SYS_copy_file_range, "write", BOTH}, {SYS_sendfile, "write", BOTH},
  {SYS_fsync, "fsync", DESCRIPTOR}, {SYS_fdatasync, "fsync", DESCRIPTOR}, {SYS_syncfs, "fsync", DESCRIPTOR},
  {SYS_sync, "sync", ALL}, {SYS_close, "close", DESCRIPTOR},
  {SYS_rename, "rename", TWO_NAMES}, {SYS_renameat, "rename", TWO_AT}, {SYS_renameat2, "rename", TWO_AT},
  {SYS_unlink, "unlink", NAME}, {SYS_unlinkat, "unlink", AT}, {SYS_rmdir, "unlink", NAME},
  {SYS_mkdir, "mkdir", NAME}, {SYS_mkdirat, "mkdir", AT}, {SYS_mknod, "mkdir", NAME}, {SYS_mknodat, "mkdir", AT},
  {SYS_stat, "stat", NAME}, {SYS_lstat, "stat", NAME}, {SYS_fstat, "stat", DESCRIPTOR}, {SYS_newfstatat, "stat", AT},
  {SYS_statx, "stat", AT}, {SYS_access, "stat", NAME}, {SYS_faccessat, "stat", AT}, {SYS_faccessat2, "stat", AT},
  {SYS_readlink, "stat", NAME}, {SYS_readlinkat, "stat", AT}, {SYS_statfs, "statvfs", NAME},
  {SYS_fstatfs, "statvfs", DESCRIPTOR}, {SYS_getdents64, "readdir", DESCRIPTOR}, {SYS_flock, "flock", DESCRIPTOR},
  {SYS_ftruncate, "ftruncate", DESCRIPTOR}, {SYS_truncate, "ftruncate", NAME},
};
#define COUNT (sizeof CALLS / sizeof *CALLS)
#define KILLED 137
#define MOST 4194304

/* The call that a process is in: its number here, and what it is to return instead of its own answer. */
static struct { char forced, half; long number, answer; } state[MOST];
static long counter;
static char struck[32];
static FILE *events;

static void text_of(pid_t pid, unsigned long address, char *out, size_t size) {
  size_t got = 0;
  while (got < size - 1) {
    /* No further than the page, behind which there may be nothing. */
    size_t step = 4096 - (address + got) % 4096;
    struct iovec here = {out + got, step < size - 1 - got ? step : size - 1 - got}, there = {(void *)(address + got), here.iov_len};
    ssize_t read = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (read <= 0) break;
    if (memchr(out + got, 0, read)) return;
    got += read;
  }
  out[got] = 0;
}

static void link_of(const char *link, char *out, size_t size) {
  ssize_t length = readlink(link, out, size - 1);
  out[length > 0 ? length : 0] = 0;
}

static void path_of(pid_t pid, int directory, unsigned long name, char *out, size_t size) {
  char own[4096] = "", link[64];
  if (name) text_of(pid, name, own, sizeof own);
  if (own[0] == '/') { snprintf(out, size, "%s", own); return; }
  if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", pid);
  else snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, directory);
  link_of(link, out, size);
  if (own[0]) { size_t length = strlen(out); snprintf(out + length, size - length, "/%s", own); }
}

static int below(const char *path, const char *folders) {
  for (const char *at = folders; at && *at; at = strchr(at, ':') ? strchr(at, ':') + 1 : 0) {
    size_t length = strcspn(at, ":");
    if (!strncmp(path, at, length) && (path[length] == '/' || !path[length])) return 1;
  }
  return 0;
}

/* Stop at the calls of the list only: all others go on at full speed. */
static void filter(void) {
  struct sock_filter code[2 * COUNT + 2];
  size_t at = 0;
  code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < COUNT; i++) {
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[i].number, 0, 1);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  }
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {at, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(126);
}

/* A call begins; returns whether its end is of interest. */
static int begins(pid_t pid, pid_t leader, char **argument) {
  struct user_regs_struct registers;
  if (ptrace(PTRACE_GETREGS, pid, 0, &registers)) return 0;
  long number = registers.orig_rax;
  size_t index = 0;
  while (index < COUNT && CALLS[index].number != number) index++;
  state[pid].number = 0;
  if (index == COUNT) return 0;
  const char *operation = CALLS[index].operation;
  char path[8192] = "", new[8192] = "";
  switch (CALLS[index].kind) {
    case DESCRIPTOR: path_of(pid, registers.rdi, 0, path, sizeof path); break;
    case BOTH: /* from one descriptor to another, either of which may be below the folders */
      path_of(pid, number == SYS_sendfile ? registers.rdi : registers.rdx, 0, path, sizeof path);
      if (below(path, argument[2])) break;
      operation = "read";
      path_of(pid, number == SYS_sendfile ? registers.rsi : registers.rdi, 0, path, sizeof path);
      break;
    case NAME: path_of(pid, AT_FDCWD, registers.rdi, path, sizeof path); break;
    case AT: path_of(pid, registers.rdi, registers.rsi, path, sizeof path); break;
    case TWO_NAMES:
      path_of(pid, AT_FDCWD, registers.rdi, path, sizeof path);
      path_of(pid, AT_FDCWD, registers.rsi, new, sizeof new);
      break;
    case TWO_AT:
      path_of(pid, registers.rdi, registers.rsi, path, sizeof path);
      path_of(pid, registers.rdx, registers.r10, new, sizeof new);
      break;
    case ALL: snprintf(path, sizeof path, "%.*s", (int)strcspn(argument[2], ":"), argument[2]); break;
  }
  if (!below(path, argument[2])) return 0;
  if ((number == SYS_open && registers.rsi & O_CREAT) || (number == SYS_openat && registers.rdx & O_CREAT)) operation = "create";
  state[pid].number = ++counter;
  fprintf(events, "%ld\t%s\t%s\t%s\n", counter, operation, path, new);
  int sticky = argument[4][0] == '1' && struck[0] && !strcmp(struck, operation);
  if (counter != atol(argument[3]) && !sticky) return argument[3][0] == '0';
  snprintf(struck, sizeof struck, "%s", operation);
  const char *fault = argument[5];
  int writes = !strcmp(operation, "write"), moves = writes || !strcmp(operation, "read");
  if (!strcmp(fault, "term")) kill(leader, SIGTERM);
  else if (!strcmp(fault, "kill")) kill(pid, SIGKILL);
  else if (!strcmp(fault, "killall") || (!strcmp(fault, "half") && !writes)) exit(KILLED);
  else if (!strcmp(fault, "short") || !strcmp(fault, "half")) {
    unsigned long long *size = number == SYS_copy_file_range ? &registers.r8 : number == SYS_sendfile ? &registers.r10 : &registers.rdx;
    if (moves && number != SYS_readv && number != SYS_writev && *size > 1) *size = *size > 4096 ? 64 : *size / 2;
    state[pid].half = fault[0] == 'h';
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
  } else {
    /* A descriptor is gone whatever close says about it. */
    state[pid].forced = 1;
    state[pid].answer = -atol(fault);
    if (number == SYS_close) return 1;
    registers.orig_rax = -1;
    registers.rax = -atol(fault);
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
  }
  return 1;
}

/* A call ends. */
static void ends(pid_t pid) {
  struct user_regs_struct registers;
  if (ptrace(PTRACE_GETREGS, pid, 0, &registers)) return;
  if (state[pid].half) exit(KILLED);
  if (state[pid].forced) {
    registers.rax = state[pid].answer;
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
    state[pid].forced = 0;
  }
  if (state[pid].number) fprintf(events, "%ld\t%lld\n", state[pid].number, (long long)registers.rax);
  state[pid].number = 0;
}

int main(int count, char **argument) {
  if (count < 7) return 2;
  events = fopen(argument[1], "w");
  if (!events) return 2;
  pid_t leader = fork();
  if (!leader) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    filter();
    execvp(argument[6], argument + 6);
    _exit(127);
  }
  int status, code = KILLED;
  waitpid(leader, &status, 0);
  ptrace(PTRACE_SETOPTIONS, leader, 0,
         PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
  ptrace(PTRACE_CONT, leader, 0, 0);
  for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      memset(&state[pid], 0, sizeof *state);
      if (pid == leader) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      /* With the command a container ends. What it leaves is killed with us: busybox's timeout sleeps for another second. */
      if (pid == leader && WIFEXITED(status)) exit(code);
      continue;
    }
    int got = WSTOPSIG(status), event = status >> 16, deliver = 0, until_its_end = 0;
    if (event == PTRACE_EVENT_SECCOMP) until_its_end = begins(pid, leader, argument);
    else if (got == (SIGTRAP | 0x80)) ends(pid);
    else if (!event && got != SIGSTOP) deliver = got; /* a new process begins by a stop */
    ptrace(until_its_end ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, deliver);
  }
  fclose(events);
  return code;
}
