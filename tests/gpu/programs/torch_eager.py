"""PyTorch eager inference fed by a pinned DataLoader with two forked workers.

Run with expandable segments on and off: PYTORCH_CUDA_ALLOC_CONF (PYTORCH_ALLOC_CONF from torch 2.9 on). With them the
caching allocator reserves addresses and maps memory by driver calls that it finds with cudaGetDriverEntryPoint.
"""

import workload

torch = workload.torch_with_gpus()


def main():
    torch.manual_seed(1)
    layer = torch.nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval().cuda()
    data = torch.utils.data.TensorDataset(torch.randn(1024, 32, 256))
    loader = torch.utils.data.DataLoader(data, batch_size=64, num_workers=2, pin_memory=True)
    results = []
    with workload.timed(synchronize=torch.cuda.synchronize), torch.inference_mode():
        for step, (batch,) in enumerate(loader):
            on_device = batch.to("cuda", non_blocking=True)
            # Another size each time, so that the allocator has to grow and cannot only hand out what it has.
            scratch = torch.empty((step + 1) << 20, device="cuda").fill_(step)
            results.append((model(on_device).mean(dim=1) + scratch[0]).to("cpu"))
    expandable = any(segment.get("is_expandable") for segment in torch.cuda.memory_snapshot())
    print(f"expandable segments: {'yes' if expandable else 'no'}")
    workload.show("output", torch.cat(results).contiguous().numpy())


if __name__ == "__main__":
    main()
