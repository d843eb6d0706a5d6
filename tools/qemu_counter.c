/* SPDX-License-Identifier: Apache-2.0
   A plugin of QEMU that counts instructions by the address of the translated block they ran in, and writes
   "address instructions" lines to the file named by out=... when QEMU ends.

   Debian brings no header of the plugin interface (version 1): what is used of it is declared here. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef void (*on_translation)(plugin_id, struct qemu_plugin_tb *);
typedef void (*on_execution)(unsigned int processor, void *user);
typedef void (*on_end)(plugin_id, void *user);

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translation);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution, int flags, void *user);
extern void qemu_plugin_register_atexit_cb(plugin_id, on_end, void *user);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments);

typedef struct block {
  struct block *next;
  uint64_t address, instructions, runs;
} block;

static block *blocks;
static const char *path;

static void executed(unsigned int processor, void *user)
{
  (void)processor;
  ((block *)user)->runs++;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
  block *b = calloc(1, sizeof *b);
  (void)id;
  b->next = blocks;
  b->address = qemu_plugin_tb_vaddr(tb);
  b->instructions = qemu_plugin_tb_n_insns(tb);
  blocks = b;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);
}

static void ended(plugin_id id, void *user)
{
  FILE *file = fopen(path, "w");
  (void)id, (void)user;
  if (!file) return;
  for (const block *b = blocks; b; b = b->next)
    fprintf(file, "%llu %llu\n", (unsigned long long)b->address, (unsigned long long)(b->instructions * b->runs));
  fclose(file);
}

int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments)
{
  (void)info;
  for (int i = 0; i < count; i++)
    if (!strncmp(arguments[i], "out=", 4)) path = strdup(arguments[i] + 4);
  if (!path) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
