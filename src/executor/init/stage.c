#include "stage.h"

#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *stage;

void stage_open(const char *directory) {
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) die("mount namespace");
  if (mount("stage", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k,nr_inodes=64")) die(directory);
  stage = directory;
}

void stage_bind(char *text) {
  char *equals = strchr(text, '='), path[4096];
  struct stat source;
  errno = EINVAL;
  if (stage == NULL || equals == NULL) die(text);
  *equals = 0;
  if (snprintf(path, sizeof path, "%s/%s", stage, text) >= (int)sizeof path || stat(equals + 1, &source)) die(equals + 1);
  if (S_ISDIR(source.st_mode)) {
    if (mkdir(path, 0755)) die(path);
  } else {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) die(path);
    close(fd);
  }
  if (mount(equals + 1, path, NULL, MS_BIND, NULL)) die(equals + 1);
}
