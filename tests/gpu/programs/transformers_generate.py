"""transformers: greedy generation with the KV cache offloaded to the host, layer by layer, on a stream of its own."""

import workload
import tiny_llama

torch = workload.torch_with_gpus()
transformers = workload.require("transformers")

NEW_TOKENS = 48


def main():
    model = tiny_llama.make(torch, transformers).cuda()
    tokens = tiny_llama.prompt(torch, "cuda")
    with workload.timed(synchronize=torch.cuda.synchronize):
        output = model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False,
                                max_new_tokens=NEW_TOKENS, cache_implementation="offloaded",
                                return_dict_in_generate=True)
    cache = output.past_key_values
    print(f"cache: {type(cache).__name__}, offloading {getattr(cache, 'offloading', 'no such attribute')}")
    print(f"tokens: {tuple(output.sequences.shape)}")
    workload.show("tokens", output.sequences.cpu().contiguous().numpy())


if __name__ == "__main__":
    main()
