"""CUDA graphs in PyTorch: a small network is captured once and replayed 200 times."""

import workload

torch = workload.torch_with_gpus()

REPLAYS = 200


def main():
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256)).cuda().eval()
    static_input = torch.randn(64, 256, device="cuda")
    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # cuBLAS takes its workspace before the capture
            for _ in range(3):
                model(static_input)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            temporary = torch.empty_like(static_input).copy_(static_input)
            static_output = model(temporary)
        with workload.timed(synchronize=torch.cuda.synchronize):
            for _ in range(REPLAYS):
                graph.replay()
                static_input.copy_(static_output.tanh_())
    workload.show("output", static_output.cpu().numpy())


if __name__ == "__main__":
    main()
