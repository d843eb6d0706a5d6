/* SPDX-License-Identifier: Apache-2.0
   What the simulator calls while code runs: counts blocks, and follows the caches in front of the STM32L4's flash.
   Runs on this machine, not on the target. Python allots all memory, in the layout of simulate.py. */
#include <stdint.h>

#define SETS 32 /* the larger cache's lines */
#define IT_BITS 0x0600FC00u /* of the status register: which of the next instructions are conditional */

/* A fully associative cache, the line used last first. Lines are filled part by part. */
typedef struct {
  uint32_t lines, used, line_bytes, part_bytes;
  uint32_t tags[SETS], parts[SETS];
} cache;

/* A block of instructions, run on behalf of a layer (0: of none). */
typedef struct {
  uint32_t address, bytes, layer, padding;
  uint64_t runs, jumps, stalls; /* jumps: runs that did not come from the block right before */
} block;

typedef struct {
  block *blocks; /* a hash table */
  const uint16_t *layer_at; /* by halfword of the code: the layer whose own code it is, or 0 */
  uint32_t mask, used, full, code_begin, code_end, layer, last, last_end;
  uint32_t wait_states, fetched; /* 0 wait states: no flash to follow. fetched: the part of it read last */
  cache instructions, data;
  int (*read_register)(void *engine, int number, void *value); /* uc_reg_read and uc_reg_write of unicorn */
  int (*write_register)(void *engine, int number, const void *value);
  int status; /* the number of the program status register */
} tally;

static int hit(cache *c, uint32_t address)
{
  const uint32_t tag = address / c->line_bytes;
  const uint32_t part = 1u << (address % c->line_bytes / c->part_bytes);
  uint32_t place = 0, found = 0;
  while (place < c->used && c->tags[place] != tag) place++;
  if (place < c->used) found = c->parts[place];
  else if (c->used < c->lines) c->used++;
  else place = c->lines - 1;
  const int there = (found & part) != 0;
  for (; place > 0; place--) {
    c->tags[place] = c->tags[place - 1];
    c->parts[place] = c->parts[place - 1];
  }
  c->tags[0] = tag;
  c->parts[0] = found | part;
  return there;
}

static block *find(tally *t, uint32_t address, uint32_t bytes)
{
  uint32_t slot = ((address >> 1) * 2654435761u ^ t->layer * 40503u ^ bytes * 97u) & t->mask;
  for (;; slot = (slot + 1) & t->mask) {
    block *b = &t->blocks[slot];
    if (b->runs && (b->address != address || b->bytes != bytes || b->layer != t->layer)) continue;
    if (!b->runs) {
      if (t->used >= t->mask / 4 * 3) {
        t->full = 1;
        return 0;
      }
      t->used++;
      b->address = address;
      b->bytes = bytes;
      b->layer = t->layer;
    }
    t->last = slot;
    return b;
  }
}

void edgeq_on_block(void *engine, uint64_t at, uint32_t bytes, void *user)
{
  tally *t = user;
  const uint32_t address = (uint32_t)at;
  (void)engine;
  if (address < t->code_begin || address >= t->code_end) return;
  const uint16_t own = t->layer_at[(address - t->code_begin) >> 1];
  if (own) t->layer = own - 1u;
  block *b = find(t, address, bytes);
  if (!b) return;
  b->runs++;
  b->jumps += address != t->last_end;
  t->last_end = address + bytes;
  if (!t->wait_states) return;
  const uint32_t step = t->instructions.part_bytes;
  for (uint32_t part = address / step * step; part < address + bytes; part += step) {
    if (part == t->fetched) continue;
    t->fetched = part;
    if (!hit(&t->instructions, part)) b->stalls += t->wait_states;
  }
}

/* Reads of flash. Before it calls, unicorn 2.1.4 brings the processor's state up to date, the IT bits as well, which the
   translated code that goes on has as zero until its block ends: after a load in an IT block, the next block's first
   instructions would be taken for conditional ones. So they are set back. */
void edgeq_on_read(void *engine, int type, uint64_t at, int bytes, int64_t value, void *user)
{
  uint32_t status = 0;
  tally *t = user;
  const uint32_t step = t->data.part_bytes, end = (uint32_t)at + (uint32_t)bytes;
  (void)type, (void)value;
  for (uint32_t part = (uint32_t)at / step * step; part < end; part += step)
    if (!hit(&t->data, part)) t->blocks[t->last].stalls += t->wait_states;
  t->read_register(engine, t->status, &status);
  if (status & IT_BITS) {
    status &= ~IT_BITS;
    t->write_register(engine, t->status, &status);
  }
}
