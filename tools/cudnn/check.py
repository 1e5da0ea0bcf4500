"""Reads what cuDNN planned for a card, and fails where it does not have what FLUX.1 needs there."""

import json
import sys
from collections import defaultdict
from pathlib import Path

MOST_WORKSPACE_BYTES = 1 << 30


def main(card, path):
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    refused = [line for line in lines if line["kind"] == "part"]
    graphs = defaultdict(list)
    for line in lines:
        if line["kind"] == "plan":
            graphs[line["of"]].append(line)
    problems = [f"{line['of']}: refused: {line['reason']}" for line in refused]
    problems += [problem for graph, plans in graphs.items() for problem in problems_of(graph, plans)]
    for kind in ("attention", "convolution"):
        if not any(graph.startswith(kind) for graph in graphs):
            problems.append(f"no {kind} was planned at all")
    for problem in problems:
        print(f"{card}: {problem}", file=sys.stderr)
    names = sorted({kernel for graph, plans in graphs.items() if graph.startswith("attention")
                    for plan in plans[:1] for kernel in plan["kernels"]})
    print(f"{card}: cuDNN plans {len(graphs)} graphs; attention by {', '.join(names)}")
    return 1 if problems else 0


def problems_of(graph, plans):
    made = [plan for plan in plans if plan["status"] == 0 and plan["workspace_bytes"] <= MOST_WORKSPACE_BYTES]
    if not made:
        yield f"{graph}: no plan: {plans[-1]['reason']}"
    elif graph.startswith("attention") and not any("sm90" in kernel for kernel in made[0]["kernels"]):
        yield f"{graph}: not a kernel for Hopper: {made[0]['kernels']}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
