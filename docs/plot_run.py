#!/usr/bin/env python3
"""Draws the curves of a run: plot_run.py RUN/metrics.jsonl OUT.png [TITLE]   (needs matplotlib)"""
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

lines = [json.loads(line) for line in open(sys.argv[1])]
steps = [l for l in lines if "grad_norm" in l]
evals = [dict(l["evaluation"], step=l["step"]) for l in lines if "evaluation" in l]
fig, ax = plt.subplots(figsize=(7.5, 3.6), dpi=130)
ax.plot([l["step"] for l in steps], [l["loss"] for l in steps], lw=0.8, color="#9db4c8", label="training loss, a step")
if evals:
    ax.plot([l["step"] for l in evals], [l["loss"] for l in evals], "o-", color="#c2452d", label="held-out loss")
    if "accuracy" in evals[-1]:
        last = evals[-1]
        ax.annotate(f"{100 * last['accuracy']:.1f} % of held-out answers right", (last["step"], last["loss"]),
                    xytext=(-8, 28), textcoords="offset points", ha="right", arrowprops=dict(arrowstyle="-", lw=0.6))
ax.set(xlabel="optimizer step", ylabel="loss (nats a token)", yscale="log", title=sys.argv[3] if len(sys.argv) > 3 else "")
ax.legend(frameon=False)
ax.grid(alpha=0.25)
fig.tight_layout()
fig.savefig(sys.argv[2])
