/* Places of the host that a jail is made of, put where every user can pass: for a data directory in a closed home. */
#pragma once

/* From now on this process has mounts of its own, and an empty file system at the directory. */
void stage_open(const char *directory);
/* "NAME=PATH": the file or directory PATH is seen as NAME at the stage. Changes the text. */
void stage_bind(char *text);
