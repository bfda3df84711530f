"""`make gpu`: what a machine with an NVIDIA GPU has to show, in minutes, with nothing lost that was found.

    python -m bench.gpu                    everything that fits in eight minutes, into bench/results/<gpu>/
    python -m bench.gpu --minutes 4        what fits in four: the most valuable first
    python -m bench.gpu --plan             only the plan, with the seconds predicted for each job
    python -m bench.gpu --only ladder      one stage; may be repeated (`steady`, `compiled`, `kernels` run only so)
    python -m bench.gpu --report DIR       makes gpu.json, gpu.md and the pictures again from DIR/rows.jsonl
    python -m bench.gpu --rehearse         the same code on a CPU with tiny shapes; measures nothing

Needs torch, triton and this checkout; pytest, cupy, simplejpeg and matplotlib add what
needs them, and what is left out for want of one is named. Exit status 1 if a check failed or a job died, 2 without
a GPU.

A copy without its git history takes its commit from V2F_COMMIT; `--out DIR` puts the results (at most eight small
files) elsewhere.

Every job is a process of its own, so a poisoned CUDA context, a crash or a hang costs that job alone; every result
is in `rows.jsonl`, flushed to the disk, before the next one begins. `stages.py` has the jobs and what each stage
answers, `planning.py` what fits, `launch.py` runs processes, `store.py` keeps results, `report.py` shows them.
"""
