"""One stage, or a plan, on the GPUs of a Ray cluster, as examples/cluster/train.slurm on SLURM's.

    python examples/cluster/train_ray.py --processes 64 recipes/paper/decoder-video.yaml --resume

On a machine of a cluster that `ray start` has made. Ray's core does it: a process is an actor with a GPU, which is told
its number and where the first one is, and trains as `python -m makeavideo.training` does with the same arguments. Every
machine has makeavideo and Ray, and this folder and the recipe's at the same paths (`shared_disk: false` where the run's
own is not shared). When a process fails or a machine is lost all end, and the same line with --resume goes on.
"""

import argparse
import os
import socket
import sys
from collections import defaultdict

import ray
from ray.exceptions import RayError
from ray.util import get_node_ip_address
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


@ray.remote(max_restarts=0)
class Process:
    """One of the training's processes."""

    def place(self) -> tuple[str, list[int], int]:
        """(address of its machine, the GPUs that Ray gave it, a port that is free there)."""
        with socket.socket() as free:
            free.bind(("", 0))
            return get_node_ip_address(), [int(gpu) for gpu in ray.get_gpu_ids()], free.getsockname()[1]

    def train(self, folder: str, environment: dict[str, str], arguments: list[str]) -> int:
        """Its exit code. folder: what the paths are relative to."""
        os.chdir(folder)
        os.environ.update(environment)  # before torch is imported
        from makeavideo.training.__main__ import main

        try:
            main(arguments)
        except SystemExit as end:
            return int(end.code or 0)
        return 0


def environments(places: list[tuple[str, list[int], int]]) -> list[dict[str, str]]:
    """What torch's rendezvous asks of each process: its number among all and on its machine.

    Processes of one machine see each other's GPUs, so that the number on the machine is that of the GPU.
    """
    on: dict[str, list[int]] = defaultdict(list)
    for rank, (address, _, _) in enumerate(places):
        on[address].append(rank)
    told = []
    for rank, (address, gpus, _) in enumerate(places):
        neighbours = on[address]
        one = {
            "RANK": rank,
            "WORLD_SIZE": len(places),
            "LOCAL_RANK": neighbours.index(rank),
            "LOCAL_WORLD_SIZE": len(neighbours),
            "GROUP_RANK": list(on).index(address),
            "MASTER_ADDR": places[0][0],
            "MASTER_PORT": places[0][2],
        }
        if gpus:
            one["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for other in neighbours for gpu in places[other][1])
        else:
            one["ACCELERATE_USE_CPU"] = "true"
        told.append({name: str(value) for name, value in one.items()})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, required=True, help="of all machines together, a GPU each")
    parser.add_argument("--address", default="auto", help="of the cluster; local: start one on this machine")
    parser.add_argument("--cpu", action="store_true", help="a core each in place of a GPU")
    own, arguments = parser.parse_known_args()
    try:
        ray.init(address=own.address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = f"There is no Ray cluster at {own.address} ({type(error).__name__})"
        sys.exit(f"{told}: start one by `ray start --head`, or give --address local.")
    kind = "CPU" if own.cpu else "GPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if not 1 <= own.processes <= there:
        sys.exit(f"The cluster has {there} {kind}s: --processes must be 1 to as many, not {own.processes}.")
    group = placement_group([{kind: 1}] * own.processes, strategy="PACK")  # few machines, and all or none
    ray.get(group.ready())
    processes = [
        Process.options(  # type: ignore[attr-defined]
            num_cpus=int(own.cpu),
            num_gpus=int(not own.cpu),
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        ).remote()
        for rank in range(own.processes)
    ]
    places = ray.get([process.place.remote() for process in processes])
    running = [
        process.train.remote(os.getcwd(), environment, arguments)
        for process, environment in zip(processes, environments(places), strict=True)
    ]
    while running:
        done, running = ray.wait(running)
        try:
            code = ray.get(done[0])
        except RayError as error:
            sys.exit(f"A process was lost ({type(error).__name__}): the same line with --resume goes on.")
        if code:
            sys.exit(code)  # the others would wait for it: they end with this program


if __name__ == "__main__":
    main()
