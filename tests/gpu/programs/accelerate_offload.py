"""accelerate.cpu_offload: the weights live on the host and come to the GPU layer by layer, by pageable copies."""

import workload
import tiny_llama

torch = workload.torch_with_gpus()
accelerate, transformers = workload.require("accelerate", "transformers")

STEPS = 10


def main():
    model = tiny_llama.make(torch, transformers)
    model = accelerate.cpu_offload(model, execution_device=torch.device("cuda:0"))
    tokens = tiny_llama.prompt(torch, "cuda")
    with workload.timed(synchronize=torch.cuda.synchronize), torch.inference_mode():
        for _ in range(STEPS):
            logits = model(input_ids=tokens, use_cache=False).logits
            tokens = torch.cat([tokens[:, 1:], logits[:, -1:].argmax(dim=-1)], dim=1)
    workload.show("tokens", tokens.cpu().contiguous().numpy())
    workload.show("logits", logits.float().cpu().contiguous().numpy())


if __name__ == "__main__":
    main()
