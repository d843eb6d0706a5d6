"""What runs in a process of its own, here or on another machine: `python -m edgeq.bench.worker`.

One JSON job comes on stdin; JSON lines go to stdout and nothing else does: {"progress": [done, total]} from time to
time, and last {"result": {...}}, or {"error": "one line"} where the job cannot be done.

A job:
    models    1 or 2 of {"path": bundle folder or file, "stage", "runtime", "inputs"}; two take turns, A B B A. path: to
              files of the machine that the worker runs on. stage, runtime: null is what `runtime.choose_stage` takes.
              inputs: a .npy file, float32 (n, components, mels, frames); null: seeded synthetic sounds
    threads   of the runtime
    batch     windows a call
    seconds   how long calls are timed, all models together
    runs      exactly so many timed calls a model instead, or null
    affinity  processors that it may run on, [0, 1], or null
    seed      of the order of turns and of noise
    energy    a meter's name, "auto" for the best that the machine has, or null

A result:
    models      for each {"runtime", "stage", "version", "input_shape", "classes", "int8", "load_ms",
                "memory_bytes" or null, "nanoseconds": [one a timed call, in order], "per_turn": calls of a turn,
                "warm_up": calls before, "frontend_nanoseconds": [one a window] or null,
                "energy": {"joules", "seconds", "source", "measured"} of one window, or null}
    machine     what `machine.describe` says
    conditions  {"before", "after"}: what `machine.conditions` says
    turns       order in which models took turns, as in [0, 1, 1, 0, ...]
"""
