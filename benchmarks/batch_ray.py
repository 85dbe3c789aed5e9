"""How many videos do two workers make in the time of one? `make-a-video batch --ray`, on this machine.

    python benchmarks/batch_ray.py [--videos 8] [--workers 2] [--rounds 2] [--json FILE]

Workers of one thread each. Counted is what they make once each has made its first video: loading the model happens once
however many videos there are. One worker and several take turns, so that what else the machine does falls on both.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from makeavideo.batch.cluster import Cluster, Crew, connected
from makeavideo.batch.jobs import Plan
from makeavideo.batch.rows import read_list
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.orders import Abilities, Machine


def videos_a_second(plan: Plan, model: Path, workers: int, takes: dict[str, float]) -> float:
    """Of so many workers, from when each of them has made one."""
    crew = Crew(workers, takes, model.resolve(), plan.weights, Machine(device="cpu"), 1, plan.additions)
    times = []
    for made in crew.run(list(plan.jobs.values())):
        assert made.error is None, made.error
        times.append(time.monotonic())
    return (len(times) - workers) / (times[-1] - times[workers - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--videos", type=int, default=8, help="for each worker, beside its first one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, help="pixels a side; default: the model's smallest")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    abilities, weights = Abilities.of(arguments.model), weights_hash(arguments.model)
    options = {"num_frames": arguments.num_frames, "steps": arguments.steps}
    options["size"] = arguments.size or abilities.shapes.sizes[0]
    rates: dict[int, list[float]] = {1: [], arguments.workers: []}
    with tempfile.TemporaryDirectory() as folder, connected(Cluster("local", arguments.workers)) as (_, takes):
        for _ in range(arguments.rounds):
            for workers in rates:
                prompts = Path(folder) / "prompts.txt"
                prompts.write_text("a rocket\n" * (workers * (arguments.videos + 1)))
                plan = Plan(arguments.model, abilities, weights, Path(folder), ".mp4", 0)
                for line in read_list(prompts, options):
                    plan.add(line)
                rates[workers].append(videos_a_second(plan, arguments.model, workers, takes))
                print(f"{workers} worker(s): {rates[workers][-1]:.3f} videos a second", flush=True)
    means = {str(workers): float(np.mean(found)) for workers, found in rates.items()}
    ratio = means[str(arguments.workers)] / means["1"]
    print(f"{arguments.workers} workers make {ratio:.2f} times the videos of one")
    if arguments.json:
        figures = {
            "videos a second": means,
            "rounds": {str(key): found for key, found in rates.items()},
            "ratio": ratio,
        }
        save_benchmark(arguments.json, "batch_ray", arguments, figures, weights)


if __name__ == "__main__":
    one_sentence(main)
