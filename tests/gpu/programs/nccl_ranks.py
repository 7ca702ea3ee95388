"""Two ranks with a GPU each, spawned by torch.multiprocessing, that add up a tensor by NCCL."""

import os
import tempfile

# Multicast over NVLink can hang a machine whose fabric is shared: never from a test.
os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")

import workload  # noqa: E402  (after the variables)

torch = workload.require("torch")

RANKS = 2
ROUNDS = 20


def rank_main(rank, meeting_point, results):
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    os.environ["WORLD_SIZE"] = str(RANKS)
    if rank != 0:
        os.environ.pop("MATRIX_TIME", None)  # one file, one writer
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", init_method=f"file://{meeting_point}", rank=rank, world_size=RANKS,
                                         device_id=torch.device("cuda", rank))
    values = torch.full((4 << 20,), float(rank + 1), device="cuda")
    torch.distributed.all_reduce(values)  # connects the two
    with workload.timed(synchronize=torch.cuda.synchronize):
        for _ in range(ROUNDS):
            torch.distributed.all_reduce(values)
            values.remainder_(1021)
    torch.distributed.destroy_process_group()
    # Two processes must not print in turns that change: the parent prints for both.
    torch.save(values.cpu(), f"{results}.{rank}")


def main():
    workload.torch_with_gpus(RANKS)
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "result")
        torch.multiprocessing.spawn(rank_main, args=(os.path.join(folder, "meet"), results), nprocs=RANKS)
        for rank in range(RANKS):
            workload.show(f"rank {rank}", torch.load(f"{results}.{rank}").numpy())


if __name__ == "__main__":
    main()
